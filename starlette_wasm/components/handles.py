"""The table of handles of a component instance: what its core code knows resources by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import CanonicalTrap
from .types import Resource

MAX_HANDLES = 10_000
"""The handles of one component instance."""


@dataclass(slots=True, eq=False)
class CallScope:
    """A call of a component's export: what was lent for it must be given back before it returns."""

    borrows: int = 0
    """Borrow handles that the callee got and has not dropped."""


@dataclass(slots=True, eq=False)
class Handle:
    """``rep`` is the number that the defining component gave, or the object of the host."""

    resource: Resource
    rep: Any
    scope: CallScope | None = None
    """The call that a borrow is for; None for one that owns."""
    lends: int = 0
    """Borrows of it that calls under way have."""


class HandleTable:
    """Indices begin at 1, and those that are free are used again, the last first."""

    def __init__(self) -> None:
        self._entries: list[Handle | None] = [None]
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._entries) - 1 - len(self._free)

    def __iter__(self) -> Any:
        return (entry for entry in self._entries if entry is not None)

    def add(self, handle: Handle) -> int:
        if self._free:
            index = self._free.pop()
            self._entries[index] = handle
            return index
        if len(self._entries) > MAX_HANDLES:
            raise CanonicalTrap(f"more than {MAX_HANDLES} handles")
        self._entries.append(handle)
        return len(self._entries) - 1

    def get(self, index: int, resource: Resource) -> Handle:
        """The handle with that index. Traps unless it is one of that resource."""
        found = self._entries[index] if 0 < index < len(self._entries) else None
        if found is None:
            raise CanonicalTrap(f"unknown handle index {index}")
        if found.resource is not resource:
            raise CanonicalTrap(f"handle index {index} is used with the wrong type: {found.resource.name}")
        return found

    def remove(self, index: int, resource: Resource) -> Handle:
        """Take a handle out. Traps if it is lent, or not of that resource."""
        found = self.get(index, resource)
        if found.lends:
            raise CanonicalTrap(f"cannot remove handle index {index}, which is lent")
        self._entries[index] = None
        self._free.append(index)
        return found

    def take_own(self, index: int, resource: Resource) -> Any:
        """The representation of an owning handle, which is taken out."""
        if self.get(index, resource).scope is not None:
            raise CanonicalTrap(f"handle index {index} is borrowed, and cannot be given away")
        return self.remove(index, resource).rep
