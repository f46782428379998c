"""Decisions read from bytes, so that a fuzzer that changes bytes changes decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Source:
    """Where the bytes run out, zeros follow."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def more(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """At most so many bytes."""
        self._at += size
        return self._data[self._at - size : self._at]

    def integer(self, low: int, high: int) -> int:
        size = ((high - low).bit_length() + 7) // 8
        return low + int.from_bytes(self.take(size), "little") % (high - low + 1)

    def flag(self) -> bool:
        return self.integer(0, 1) == 1

    def pick(self, items: Sequence[T]) -> T:
        return items[self.integer(0, len(items) - 1)]

    def bytes(self) -> bytes:
        """At most 255, their number first."""
        return self.take(self.integer(0, 255))

    def text(self) -> str:
        """UTF-8; bytes that are none become lone surrogates."""
        return self.bytes().decode("utf-8", "surrogateescape")

    def rest(self) -> bytes:
        return self.take(len(self._data))
