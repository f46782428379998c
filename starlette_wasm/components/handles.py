"""The table of handles of a component instance: what its core code knows resources by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import CanonicalTrap
from .types import AsyncValueType, Resource

MAX_HANDLES = 10_000
"""The handles of one component instance."""


@dataclass(slots=True, eq=False)
class CallScope:
    """A call of a component's export: what was lent for it must be given back before it returns."""

    borrows: int = 0
    """Borrow handles that the callee got and has not dropped."""


@dataclass(slots=True, eq=False)
class Handle:
    """An entry of a handle table. ``rep`` is the number that the defining component gave, or the object of the host."""

    resource: Resource
    rep: Any
    scope: CallScope | None = None
    """The call that a borrow is for; None for one that owns."""
    lends: int = 0
    """Borrows of it that calls under way have."""


class AsyncEnd:
    """One end of a stream or a future that a guest has."""

    kind: AsyncValueType
    index: int

    def give(self) -> Any:
        """Hand on an end of the guest's. Traps if this is not an end to read from, or a copy is under way."""
        raise NotImplementedError


Kind = TypeVar("Kind")


class HandleTable:
    """Indices begin at 1, and those that are free are used again, the last first.

    Beside handles of resources there are what the async ABI has: waitables, and sets of them.
    """

    def __init__(self) -> None:
        self._entries: list[object | None] = [None]
        self._free: list[int] = []

    def adopt(self, entries: list[object | None], free: list[int]) -> None:
        """Take over the handles of an instance that has none here yet, from index 1 on, and which are free."""
        self._entries[1:] = entries
        self._free = free

    def __len__(self) -> int:
        return len(self._entries) - 1 - len(self._free)

    def __iter__(self) -> Any:
        return (entry for entry in self._entries if entry is not None)

    def add(self, handle: object) -> int:
        if self._free:
            index = self._free.pop()
            self._entries[index] = handle
            return index
        if len(self._entries) > MAX_HANDLES:
            raise CanonicalTrap(f"more than {MAX_HANDLES} handles")
        self._entries.append(handle)
        return len(self._entries) - 1

    def get(self, index: int, resource: Resource) -> Handle:
        """Get the handle with that index. Traps unless it is one of that resource."""
        found = self.get_kind(index, Handle, resource.name)
        if found.resource is not resource:
            raise CanonicalTrap(f"handle index {index} is used with the wrong type: {found.resource.name}")
        return found

    def get_kind(self, index: int, kind: type[Kind], name: str) -> Kind:
        """Get what has that index. Traps unless it is of that kind, which ``name`` is for the message."""
        found = self._entries[index] if 0 < index < len(self._entries) else None
        if found is None:
            raise CanonicalTrap(f"unknown handle index {index}")
        if not isinstance(found, kind):
            raise CanonicalTrap(f"handle index {index} is used with the wrong type: it is not a {name}")
        return found

    def peek(self, index: int) -> object | None:
        """Return what has that index, if anything has."""
        return self._entries[index] if 0 < index < len(self._entries) else None

    def rep(self, index: int) -> Any:
        """Return what the handle of a resource stands for; None if there is no such handle."""
        found = self._entries[index] if 0 < index < len(self._entries) else None
        return found.rep if isinstance(found, Handle) else None

    def get_end(self, index: int, kind: AsyncValueType) -> AsyncEnd:
        """Get an end of a stream or future of that type. Traps unless it is one."""
        found = self.get_kind(index, AsyncEnd, kind.kind)
        if found.kind.text != kind.text:
            raise CanonicalTrap(f"handle index {index} is used with the wrong type: {found.kind}")
        return found

    def take_end(self, index: int, kind: AsyncValueType) -> Any:
        """Take what a guest hands on with an end."""
        given = self.get_end(index, kind).give()
        self.free(index)
        return given

    def free(self, index: int) -> None:
        """Take out what has that index, which is there."""
        self._entries[index] = None
        self._free.append(index)

    def remove(self, index: int, resource: Resource) -> Handle:
        """Take a handle out. Traps if it is lent, or not of that resource."""
        found = self.get(index, resource)
        if found.lends:
            raise CanonicalTrap(f"cannot remove handle index {index}, which is lent")
        self.free(index)
        return found

    def take_own(self, index: int, resource: Resource) -> Any:
        """Take out the representation of an owning handle."""
        if self.get(index, resource).scope is not None:
            raise CanonicalTrap(f"handle index {index} is borrowed, and cannot be given away")
        return self.remove(index, resource).rep
