"""What lifting and lowering need of one side of a call: a memory, an encoding, a table of handles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from .errors import CanonicalTrap
from .handles import CallScope, Handle, HandleTable

MAX_ITEMS = 4_000_000
"""Parts of the values of one call: what a guest's bytes become here is larger than they are."""
MAX_ROOM = 1 << 32
ITEMS_AT_ONCE = 10_000
"""Parts between two looks at the time that the guest has."""
PART = 64
"""Bytes that one part takes in the host, about."""
MAX_AT_ONCE = 128 << 10
"""Bytes that a call may copy, whatever room there is."""


class Memory(Protocol):
    """A core memory as it is now."""

    def read(self, at: int, size: int) -> bytes:
        """Read guest memory. Traps if it is out of bounds."""

    def write(self, at: int, data: bytes) -> None:
        """Write guest memory. Traps if it is out of bounds."""


class NoMemory:
    """The memory of functions whose types need none."""

    def read(self, at: int, size: int) -> bytes:
        raise CanonicalTrap("out of bounds memory access")

    def write(self, at: int, data: bytes) -> None:
        raise CanonicalTrap("out of bounds memory access")


NO_MEMORY = NoMemory()


@dataclass(slots=True)
class Side:
    """One component instance, with the options of one lifted or lowered function."""

    instance: int
    handles: HandleTable
    memory: Memory = field(default_factory=NoMemory)
    encoding: str = "utf8"
    scope: CallScope | None = None
    """The scope of the call into this instance, if it is one: borrows that go in count there."""
    lent: list[Handle] = field(default_factory=list)
    """What this instance has lent for the call that it makes."""
    items: int = MAX_ITEMS
    room: Callable[[], int] = lambda: MAX_ROOM
    """Gives how many bytes the values of the call may take in the host."""
    check_time: Callable[[], None] = lambda: None
    """Raises OutOfTime once the guest has no time left."""
    to_guest: bool = False
    """Whether what it gives is for another guest: streams that it gives are then not with the host."""
    unchecked: int = 0
    copied: int = 0
    most: int = MAX_AT_ONCE

    def spend(self, items: int) -> None:
        self.items -= items
        if self.items < 0:
            raise CanonicalTrap(f"values of more than {MAX_ITEMS} parts")
        self.unchecked += items
        if self.unchecked >= ITEMS_AT_ONCE:
            self.unchecked = 0
            self.check_time()

    def copy(self, size: int, at: int = 0) -> None:
        """Count so many bytes, from that place, before they are copied into the host: pointers may all lead to the same
        ones. Traps if they are not there, or do not fit beside the guest's memory.
        """
        self.copied += size
        if self.copied > self.most:
            self.most = max(self.room(), MAX_AT_ONCE)
            if self.copied > self.most:
                self.memory.read(at + size - 1, 1)
                raise CanonicalTrap(f"the values of a call take more than the {self.most} bytes that there is room for")

    def end_call(self) -> None:
        """Take back what was lent."""
        for handle in self.lent:
            handle.lends -= 1
        self.lent.clear()
