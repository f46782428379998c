"""How a request and a result cross: a u32 (little endian) with the length of a JSON object, that object, the body.

::

    request   {"url": "https://api.example.com/", "method": "POST"}      body of the request
    result    {"ok": true, "status": 200, "headers": {...}}              body of the response
              {"ok": false, "error": {"code": "host-not-allowed", "message": "host not allowed: evil.net"}}
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import NoReturn

from ..sync.copies import joined
from .errors import CapabilityError, Code
from .pieces import Pieces

MAX_HEADER_BYTES = 64 << 10

MAX_DEPTH = 32
"""Nesting in a header. Some versions of Python end the process if a parser runs out of an unusual stack."""

MAX_PARTS = 2000
"""Strings in a header, and commas and brackets outside of strings: many times what any operation takes."""

# One that does not end goes on to the end of the text: else each quote in it would be tried as the begin of another.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LENGTH = struct.Struct("<I")


def _bad(problem: str) -> CapabilityError:
    return CapabilityError(Code.BAD_REQUEST, f"bad request: {problem}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def encode(header: Mapping[str, object], body: bytes | Pieces = b"") -> bytes:
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    pieces = body.all if isinstance(body, Pieces) else (body,)
    return joined((_LENGTH.pack(len(text)), text, *pieces))


def decode(payload: bytes | memoryview) -> tuple[dict[str, object], memoryview]:
    """Return the object and the body of a request, which is not copied. Raises CapabilityError."""
    if len(payload) < _LENGTH.size:
        raise _bad("shorter than the length of its header")
    (length,) = _LENGTH.unpack_from(payload)
    if length > MAX_HEADER_BYTES:
        raise _bad(f"a header of more than {MAX_HEADER_BYTES} bytes")
    end = _LENGTH.size + length
    if end > len(payload):
        raise _bad("shorter than its header")
    try:
        text = bytes(payload[_LENGTH.size : end])
        check_shape(text)
        header = json.loads(text.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _bad("the header is not JSON") from None
    if not isinstance(header, dict):
        raise _bad("the header is not a JSON object")
    return header, memoryview(payload)[end:]


def check_shape(text: bytes) -> None:
    """Refuse JSON that costs much to decode: of many parts, or nested deeply. Raises CapabilityError."""
    parts = f"the header has more than {MAX_PARTS} parts"
    if text.count(b'"') - text.count(b'\\"') > 2 * MAX_PARTS:
        raise _bad(parts)
    bare = _STRINGS.sub(b"", text)
    depth = 0
    for bracket in bare.translate(None, _NOT_BRACKETS)[: 2 * MAX_PARTS]:
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise _bad(f"the header is nested more than {MAX_DEPTH} deep")
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > MAX_PARTS:
        raise _bad(parts)
