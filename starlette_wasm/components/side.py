"""What lifting and lowering need of one side of a call: a memory, an encoding, a table of handles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from .errors import CanonicalTrap
from .handles import CallScope, Handle, HandleTable

MAX_ITEMS = 4_000_000
"""Parts of the values of one call: what a guest's bytes become here is larger than they are."""


class Memory(Protocol):
    """A core memory as it is now."""

    def read(self, at: int, size: int) -> bytes:
        """Traps if it is out of bounds."""

    def write(self, at: int, data: bytes) -> None:
        """Traps if it is out of bounds."""


class NoMemory:
    """For functions whose types need none."""

    def read(self, at: int, size: int) -> bytes:
        raise CanonicalTrap("out of bounds memory access")

    def write(self, at: int, data: bytes) -> None:
        raise CanonicalTrap("out of bounds memory access")


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

    def spend(self, items: int) -> None:
        self.items -= items
        if self.items < 0:
            raise CanonicalTrap(f"values of more than {MAX_ITEMS} parts")

    def end_call(self) -> None:
        """Take back what was lent."""
        for handle in self.lent:
            handle.lends -= 1
        self.lent.clear()
