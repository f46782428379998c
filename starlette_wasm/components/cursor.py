"""A cursor over bytes that a stranger has written: every read has a bound, and every error names what and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .errors import ComponentError

MAX_NAME = 4096
"""Bytes of a name."""
MAX_COUNT = 100_000
"""Items of one vector."""
MAX_ITEMS = 500_000
"""Items of a component, with all that is nested in it."""
_Item = TypeVar("_Item")


class Budget:
    """How many items may yet be read, shared by all cursors over one file."""

    __slots__ = ("left",)

    def __init__(self, items: int = MAX_ITEMS) -> None:
        self.left = items


class Cursor:
    """Reads from ``at`` to ``end`` and never beyond; ``what`` names the part for messages."""

    __slots__ = ("at", "budget", "data", "end", "what")

    def __init__(
        self, data: bytes, at: int = 0, end: int | None = None, what: str = "component", budget: Budget | None = None
    ) -> None:
        self.data = data
        self.at = at
        self.end = len(data) if end is None else end
        self.what = what
        self.budget = budget or Budget()

    def fail(self, problem: str) -> ComponentError:
        """Make the error to raise for what was read last."""
        return ComponentError(problem, f"{self.what}, at byte {self.at}")

    @property
    def more(self) -> bool:
        """Whether there is anything left."""
        return self.at < self.end

    def byte(self) -> int:
        if self.at >= self.end:
            raise self.fail("it ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def u32(self) -> int:
        """Read an unsigned integer in LEB128, of 32 bits at most."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 28:
                raise self.fail("a number has more than 5 bytes")
        if value >> 32:
            raise self.fail("a number has more than 32 bits")
        return value

    def s33(self) -> int:
        """Read a signed integer in LEB128, of 33 bits at most: an index, or a code below zero."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 28:
                raise self.fail("a number has more than 5 bytes")
        if value >> (shift - 1) & 1:
            value -= 1 << shift
        if not -(1 << 32) <= value < 1 << 32:
            raise self.fail("a number has more than 33 bits")
        return value

    def take(self, size: int) -> bytes:
        if size > self.end - self.at:
            raise self.fail(f"{size} bytes are announced, {self.end - self.at} are left")
        self.at += size
        return self.data[self.at - size : self.at]

    def name(self) -> str:
        size = self.u32()
        if size > MAX_NAME:
            raise self.fail(f"a name has {size} bytes, the most is {MAX_NAME}")
        try:
            return self.take(size).decode()
        except UnicodeDecodeError:
            raise self.fail("a name is no UTF-8") from None

    def vector(self, item: Callable[[], _Item]) -> tuple[_Item, ...]:
        """Read as many items as the count in front of them."""
        count = self.u32()
        if count > MAX_COUNT:
            raise self.fail(f"{count} items are announced, the most is {MAX_COUNT}")
        if count > self.end - self.at:  # each takes a byte at least
            raise self.fail(f"{count} items are announced, {self.end - self.at} bytes are left")
        self.spend(count)
        return tuple(item() for _ in range(count))

    def spend(self, count: int) -> None:
        """Note that so many items are about to be read. Raises ComponentError beyond the bound."""
        self.budget.left -= count
        if self.budget.left < 0:
            raise self.fail(f"it has more than {MAX_ITEMS} items")

    def part(self, size: int, what: str) -> Cursor:
        """Make a cursor over the next bytes, which this one steps over."""
        start = self.at
        if size > self.end - start:
            raise self.fail(f"{what} of {size} bytes is announced, {self.end - start} are left")
        self.at += size
        return Cursor(self.data, start, self.at, what, self.budget)

    def done(self) -> None:
        """Raise ComponentError unless all was read."""
        if self.more:
            raise self.fail(f"{self.end - self.at} bytes are left over")
