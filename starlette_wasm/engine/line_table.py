"""File and line of the places in a linked module's code, as the process that compiled it has written them down."""

from __future__ import annotations

from array import array
from base64 import b64decode, b64encode
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any

_COLUMNS = 5


class LineTable:
    """A table to look a trap's frames up in, by bisection. Nothing is decoded for it but once, at loading."""

    __slots__ = ("_columns", "_files")

    def __init__(self, files: list[str], columns: tuple[array[int], ...]) -> None:
        """Take ``columns``: functions, the first row of each, and of the rows offset in its function, file, line."""
        self._files = files
        self._columns = columns

    @classmethod
    def from_facts(cls, facts: dict[str, Any] | None) -> LineTable:
        """Read what ``facts()`` gave; None for a module without lines."""
        if facts is None:
            return cls([], tuple(array("I") for _ in range(_COLUMNS)))
        columns = tuple(array("I") for _ in range(_COLUMNS))
        for column, text in zip(columns, facts["columns"], strict=True):
            column.frombytes(b64decode(text))
        return cls(facts["files"], columns)

    def facts(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {"files": self._files, "columns": [b64encode(each.tobytes()).decode() for each in self._columns]}

    def __len__(self) -> int:
        return len(self._columns[2])

    def find(self, function: int, offset: int) -> str | None:
        """Return ``file:line`` of the byte ``offset`` in a function of the linked module; None if it is not known."""
        functions, firsts, offsets, files, lines = self._columns
        at = bisect_left(functions, function)
        if at == len(functions) or functions[at] != function:
            return None
        first = firsts[at]
        end = firsts[at + 1] if at + 1 < len(firsts) else len(offsets)
        # The engine reports a trap of the first instruction at the head of the function, which has no row.
        row = max(bisect_right(offsets, offset, first, end) - 1, first)
        return f"{self._files[files[row]]}:{lines[row]}" if lines[row] else None

    def named(self, frames: tuple[str, ...], places: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
        """Return the frames of a trap, with `` (file:line)`` if that is known."""
        if not len(self):
            return frames
        return (*self._named(frames, places), *frames[len(places) :])

    def _named(self, frames: tuple[str, ...], places: tuple[tuple[int, int], ...]) -> Iterator[str]:
        for name, place in zip(frames, places, strict=False):
            where = self.find(*place)
            yield f"{name} ({where})" if where else name
