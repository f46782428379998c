"""The head of a request as wasi_http.c takes it, and request.c writes it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_SIZES = struct.Struct("<5I")
_PAIR = struct.Struct("<2I")


class HttpHead(NamedTuple):
    """The head of a request; ``method``, ``path`` (with its query) and so on are as ``wasi:http`` has them."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: list[tuple[str, bytes]]

    def pack(self) -> bytes:
        """Write the sizes of the first four, the number of headers, then all; each header behind its two sizes."""
        texts = [each.encode("utf-8", "surrogatepass") for each in self[:4]]
        parts = [_SIZES.pack(*map(len, texts), len(self.headers)), *texts]
        for name, value in self.headers:
            raw = name.encode("utf-8", "surrogatepass")
            parts += _PAIR.pack(len(raw), len(value)), raw, value
        return b"".join(parts)


def unpack(packed: bytes) -> HttpHead:
    """Return the head again."""
    *sizes, count = _SIZES.unpack_from(packed)
    at, texts = _SIZES.size, []
    for size in sizes:
        texts.append(packed[at : at + size].decode("utf-8", "surrogatepass"))
        at += size
    method, scheme, authority, path = texts
    return HttpHead(method, scheme, authority, path, list(_headers(packed, at, count)))


def _headers(packed: bytes, at: int, count: int) -> Iterator[tuple[str, bytes]]:
    for _ in range(count):
        name, value = _PAIR.unpack_from(packed, at)
        at += _PAIR.size
        yield packed[at : at + name].decode("utf-8", "surrogatepass"), packed[at + name : at + name + value]
        at += name + value
