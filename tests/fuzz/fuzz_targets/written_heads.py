"""Heads of answers through http1.c: the bytes that a plain re-telling of its rules gives, or none at all."""

from __future__ import annotations

import re
from typing import Any

from starlette_wasm.asgi.direct_write import JOINED
from starlette_wasm.engine.native.library import native

from .source import Source

TOKENS = (b"\0", b"\1", b"\2", b"\x0econtent-length", b"\x01\x35", b"\x0200", b"\x12" + b"0" * 17 + b"5",
          b"\nconnection", b"\x05close", b"\x11transfer-encoding", b"\x07chunked", b"\x02\r\n", b"\x01\xff",
          b"\x03a\tb", b"\x01A")  # fmt: skip
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LINE = b"HTTP/1.1 200 OK\r\n"
_ODD: tuple[Any, ...] = (None, "a", 1, (), (b"a",), (b"a", b"b", b"c"), [b"a", b"b"], ("a", b"b"), (b"a", "b"),
                         (bytearray(b"a"), b"b"), (b"a", memoryview(b"b")))  # fmt: skip
_SIZES = (0, 1, 5, JOINED, JOINED + 1)


def check(data: bytes) -> None:
    source = Source(data)
    server, headers, body = _headers(source), _headers(source), bytes(source.pick(_SIZES))
    if source.flag() and isinstance(headers, list):
        headers.append((b"content-length", b"%d" % len(body)))
    wanted = _retold(server, headers, body)
    assert native is None or native.http1(_LINE, server, headers, body) == wanted, (server, headers, len(body), wanted)


def _headers(source: Source) -> Any:
    """Return a list of pairs as ASGI has it, or with something odd in it."""
    if source.integer(0, 15) == 1:
        return source.pick((None, (), {}, "a", 1))
    made: list[Any] = []
    for _ in range(source.integer(0, 6)):
        odd = source.integer(0, 15) == 1
        made.append(source.pick(_ODD) if odd else (source.bytes(), source.bytes()))
    return made


def _retold(server: Any, headers: Any, body: bytes) -> bytes | None:
    lines, lengths = [_LINE], 0
    for given in (server, headers):
        if not isinstance(given, list):
            return None
        for each in given:
            if not (isinstance(each, tuple) and len(each) == 2 and all(isinstance(part, bytes) for part in each)):
                return None
            name, value = each
            if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)) or name in (b"connection", b"transfer-encoding"):
                return None
            if name == b"content-length":
                lengths += 1
                if not (re.fullmatch(rb"[0-9]{1,18}", value) and int(value) == len(body)):
                    return None
            lines.append(b"%s: %s\r\n" % each)
    return b"".join([*lines, b"\r\n", body[:JOINED] if len(body) <= JOINED else b""]) if lengths == 1 else None
