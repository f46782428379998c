"""A response that an app has built or changed, of any types, through render()."""

from __future__ import annotations

from typing import Any

from starlette_wasm.messages import EdgeResponse
from starlette_wasm.protocols import ResponseError
from starlette_wasm.protocols.headers import render

from .responses import METHODS, check_rendered
from .source import Source

TOKENS = (b"set-cookie", b"Connection", b"x-a", b"X-A", b"content-length", b"\r\n", b"\0", b"\xc2\x85", b"\xe2\x80\xa8")
_NAMES = ("x-a", "X-A", "x-b", "connection", "Content-Length", "te", "set-cookie", "Transfer-Encoding", "")
_STATUSES: tuple[Any, ...] = (200, 204, 205, 304, 599, 199, 600, 101, True, None, "200", 200.0, -1, 0)


def check(data: bytes) -> None:
    source = Source(data)
    method = source.pick(METHODS)
    status, is_base64 = source.pick(_STATUSES), source.flag()
    headers: dict[Any, Any] = {}
    while source.more():
        name = source.text() if source.flag() else source.pick(_NAMES)
        headers[name] = _value(source)
    body = str(next(iter(headers.values()), ""))
    try:
        rendered = render(EdgeResponse(status, headers, body, is_base64), method)
    except ResponseError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 300
        return
    check_rendered(*rendered, method)
    named = {each.strip().lower() for name, value in headers.items() if name.lower() == "connection"
             for line in (value if isinstance(value, list) else [value]) for each in line.split(",")}  # fmt: skip
    assert not named & {name.decode() for name, _ in rendered[1]} - {"content-length"}


def _value(source: Source) -> Any:
    match source.integer(0, 7):
        case 0:
            return [source.text() for _ in range(source.integer(0, 4))]
        case 1:
            return source.pick([None, 1, True, b"x", ["a", 1], ("a",), [["a"]]])
        case 2:
            return ["x"] * source.integer(0, 200)
        case 3:
            return "x" * source.integer(0, 40_000)
    return source.text()
