"""``Pieces``: a body as it came."""

from __future__ import annotations

from collections import deque

_SMALL = 1024
"""Bytes below which a piece is joined to the last one: each would take more for itself than for its bytes."""
_JOINED = 64 << 10
"""Bytes of what is made of such pieces."""


def put(pieces: list[bytes | bytearray] | deque[bytes | bytearray], piece: bytes, most: int = _SMALL) -> None:
    """Put a piece behind others. Small ones become one bytearray, which is not joined to any more from ``most`` on."""
    last = pieces[-1] if pieces else b""
    if len(piece) >= _SMALL:
        pieces.append(piece)
    elif isinstance(last, bytearray) and len(last) < most:
        last += piece
    else:
        pieces.append(bytearray(piece))


class Pieces:
    """Bytes that came piece by piece. To put them together again and again as they come would copy each many times."""

    __slots__ = ("_size", "all")

    def __init__(self) -> None:
        self.all: list[bytes | bytearray] = []
        self._size = 0

    def __len__(self) -> int:
        """Return how many bytes there are."""
        return self._size

    def add(self, piece: bytes) -> None:
        """Add what came next."""
        put(self.all, piece, _JOINED)
        self._size += len(piece)
