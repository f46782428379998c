"""An ASGI scope of any client, through EdgeRequest, and what each protocol gives a guest of it."""

from __future__ import annotations

import json
from typing import Any

from starlette_wasm.messages import EdgeContext, EdgeRequest
from starlette_wasm.protocols import get_protocol

from .source import Source

TOKENS = (b"host", b"a.org:80", b"[::1]", b"cookie", b"proxy", b"x_a", b"%2F", b"%", b"/a/b", b"?", b"#", b"q=1&q=2")
_ROUTES = ("/", "/a", "/a/", "/{x}", "/a/{x:path}", "/{x:path}", "/a/{x}/{y:path}", "")


def check(data: bytes) -> None:
    source = Source(data)
    path = "/" + source.text() if source.flag() else source.text()
    scope: dict[str, Any] = {
        "type": "http",
        "method": source.pick(["GET", "POST", "X-Y"]),
        "scheme": source.pick(["http", "https"]),
        "path": path,
        "raw_path": source.pick([None, source.bytes()]),
        "query_string": source.bytes(),
        "server": source.pick([None, ("127.0.0.1", 80), ("/run/socket", None)]),
        "headers": [],
    }
    for _ in range(source.integer(0, 5)):
        name = source.bytes().lower() if source.flag() else source.pick([b"host", b"cookie", b"proxy", b"x-a"])
        scope["headers"].append((name, source.bytes()))
    body = source.bytes()
    params = {"x": source.text()}
    request = EdgeRequest.from_scope(scope, body, path=path, params=params)
    request.context = EdgeContext("r", region=source.text())
    assert request.content == body
    route, client = source.pick(_ROUTES), source.pick([None, (source.text(), 1)])
    for name in ("edge", "wws", "cgi"):
        protocol = get_protocol(name)
        stdin = protocol.encode(request)
        if name == "cgi":
            assert stdin == body
        else:
            assert isinstance(json.loads(stdin.decode()), dict)
        variables = protocol.environ(request, route=route, client=client)
        assert len(dict(variables)) == len(variables)
        for key, value in variables:
            assert key not in ("", "HTTP_PROXY", "HTTP_AUTHORIZATION", "HTTP_CONTENT_LENGTH")
            assert not {"\0", "="} & set(key)
            assert "\0" not in value
            (key + value).encode()
