"""Requests that an app has built, of any types, through edge.c.

The guest reads what it gets from Python, or the request is left to Python."""

from __future__ import annotations

from typing import Any

from starlette_wasm import EdgeRequest

from .source import Source
from .ways import compare_call

EXAMPLES = 60
TOKENS = (b"x-request-id", b"traceparent", b"tracestate", b"\xed\xa0\x80", b"\xc3\xa9", b"\xf0\x9f\x98\x80", b'"',
          b"\\", b"\0", b"\x7f", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")  # fmt: skip
_NAMES = ("x-request-id", "traceparent", "tracestate", "x-a", "cookie", "")
_FIELDS = ("path", "method", "headers", "query", "body", "is_base64_encoded", "params", "url", "multi_value_headers",
           "multi_value_query")  # fmt: skip


class _Text(str):
    """A string of an app's own kind."""


class _Dict(dict[Any, Any]):
    """A dict of an app's own kind."""


_ODD: tuple[Any, ...] = (
    None, b"x", 1, 2.5, True, (), ["a"], {"a": 1}, {1: "a"}, {"a": None}, {"a": ["b", 1]}, bytearray(b"x"), "\ud800",
    {"\udfff": "a"}, _Text("é"), [], [["a"]], object(),
)  # fmt: skip


def check(data: bytes) -> None:
    source = Source(data)
    environ, protocol, odd = source.flag(), source.pick(["edge", "wws"]), source.integer(0, 7)
    request = EdgeRequest(
        _text(source), source.pick(["GET", _text(source)]), _texts(source), _texts(source),
        source.pick([None, "", _text(source), _text(source) * 1000]), source.flag(), _texts(source), _text(source),
    )  # fmt: skip
    request.multi_value_headers, request.multi_value_query = _lists(source), _lists(source)
    region = _text(source)
    if odd in (5, 6):
        setattr(request, source.pick(_FIELDS), source.pick(_ODD))
    elif odd == 7:
        request.headers = _Dict({source.pick(_NAMES): source.pick(_ODD), **_texts(source)})
    compare_call(request, region, environ=environ and protocol == "edge", protocol=protocol)


def _text(source: Source) -> str:
    """Give short text, which seldom has surrogates."""
    text = source.take(source.integer(0, 31)).decode("utf-8", "surrogateescape")
    return text if source.integer(0, 31) == 31 else text.encode(errors="replace").decode()


def _texts(source: Source) -> dict[str, str]:
    return {_name(source): _text(source) for _ in range(source.integer(0, 4))}


def _lists(source: Source) -> dict[str, list[str]]:
    return {_name(source): [_text(source) for _ in range(source.integer(0, 3))] for _ in range(source.integer(0, 2))}


def _name(source: Source) -> str:
    return source.pick(_NAMES) if source.flag() else _text(source)
