"""Any ASGI scope, through fast_path.c: what the guest gets of it, or that it is left to Python."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from starlette_wasm import EdgeRequest

from .source import Source
from .ways import compare_call, compare_request

_TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_SPANS = (
    None,
    SpanContext(1, 2, False, TraceFlags(1)),
    SpanContext(1 << 127, 1 << 63, False, TraceFlags(0), TraceState([("a", "b")])),
)
TOKENS = (b"host", b"a.org:80", b"[::1]", b"cookie", b"x-request-id", b"traceparent", b"x-a", b"X-A", b"a=1&b=2", b"&=",
          b"%2F", b"%C3%A9", b"%e9", b"&a=2", b"tracestate",
          _TRACEPARENT, b"+", b'"', b"\\", b"\xc3\xa9", b"\xed\xa0\x80")  # fmt: skip
_NAMES = (b"host", b"Host", b"cookie", b"x-request-id", b"traceparent", b"tracestate", b"x-region", b"x-a", b"accept")
_ODD: tuple[Any, ...] = (None, b"", "", 1, (), [], {}, bytearray(b"a"), "\ud800")


def check(data: bytes) -> None:
    source = Source(data)
    path, body = source.text(), source.bytes()
    scope: dict[str, Any] = {
        "type": "http",
        "method": source.pick(["GET", "POST", "HEAD", source.text()]),
        "path": source.pick(["/", "/a", "/" + source.text(), source.text()]),
        "query_string": source.bytes(),
        "headers": [(b"host", b"a.org")] if source.flag() else [],
    }
    if source.flag():
        scope["scheme"] = source.pick(["https", source.text()])
    if source.flag():
        scope["raw_path"] = source.pick([source.bytes(), quote(scope["path"], errors="replace").encode()])
    for _ in range(source.integer(0, 6)):
        name = source.bytes().lower() if source.flag() else source.pick(_NAMES)
        scope["headers"].append((name, source.bytes()))
    if source.integer(0, 15) == 15:
        scope["headers"] += [(b"n-%d" % number, b"") for number in range(source.integer(0, 70))]
    params: Any = {
        source.text(): source.pick([source.text(), source.integer(0, 1 << 40)]) for _ in range(source.integer(0, 3))
    }
    given: dict[str, Any] = {"body": body * source.pick([1, 1, 1, 1000]), "path": path, "params": params}
    given["region"] = source.pick(["eu", source.text().encode(errors="replace").decode()])
    environ, span = source.flag(), source.pick(_SPANS)
    _check_calls(scope, given, environ=environ)
    while source.more():  # what no server gives
        odd = source.pick(_ODD)
        match source.integer(0, 3):
            case 0:
                scope[source.pick(["method", "path", "query_string", "scheme", "headers"])] = odd
            case 1:
                given[source.pick(["body", "path", "params"])] = odd
            case 2:
                del scope[source.pick(sorted(scope))]
            case 3 if isinstance(scope.get("headers"), list):
                scope["headers"].append(
                    source.pick([odd, (odd,), (b"a", odd), (odd, b"b"), [b"a", b"b"], (b"", b"", b"")])
                )
        if not scope:
            break
    for protocol in ("edge", "wws", "cgi"):
        # A body of cgi that is an answer by itself would be one. C looks at no parameters for cgi: it has none.
        odd_body = not isinstance(given["body"], bytes) or b"\n" in given["body"]
        if protocol == "cgi" and (odd_body or not isinstance(given["params"], dict)):
            continue
        compare_request(scope, **given, environ=environ, span=span, protocol=protocol, route="/a")


def _check_calls(scope: dict[str, Any], given: dict[str, Any], *, environ: bool) -> None:
    """The same as calls from Python."""
    texts = {name: str(value) for name, value in given["params"].items()}
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    body = given["body"].decode(errors="surrogateescape")
    request = EdgeRequest(given["path"], scope["method"], headers, texts, body or None, environ, texts, scope["path"])
    request.multi_value_headers = request.multi_value_query = {name: [value, ""] for name, value in texts.items()}
    compare_call(request, given["region"], environ=environ)
    compare_call(request, given["region"], protocol="wws")
