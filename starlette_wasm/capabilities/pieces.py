"""``Pieces``: a body as it came."""

from __future__ import annotations

_SMALL, _JOINED = 1024, 64 << 10
"""Bytes of a piece that is added to the last one, and of what is made of such pieces."""


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
        """Add what came next. Small pieces are put together: each would take more for itself than for its bytes."""
        last = self.all[-1] if self.all else b""
        if len(piece) >= _SMALL:
            self.all.append(piece)
        elif isinstance(last, bytearray) and len(last) < _JOINED:
            last += piece
        else:
            self.all.append(bytearray(piece))
        self._size += len(piece)
