"""``Pieces``: a body as it came."""

from __future__ import annotations


class Pieces:
    """Bytes that came piece by piece. To put them together again and again as they come would copy each many times."""

    __slots__ = ("_size", "all")

    def __init__(self) -> None:
        self.all: list[bytes] = []
        self._size = 0

    def __len__(self) -> int:
        """Return how many bytes there are."""
        return self._size

    def add(self, piece: bytes) -> None:
        self.all.append(piece)
        self._size += len(piece)
