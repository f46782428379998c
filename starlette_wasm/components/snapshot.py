"""``Snapshot``: the memories of a component as they are before any of its code has run."""

from __future__ import annotations

import ctypes
import mmap
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

from ..engine import capi

if TYPE_CHECKING:
    from .instance import CoreInstances

BLOCK = 64 << 10
_NOTHING = bytes(BLOCK)


class Snapshot:
    """The same for all instances. Blocks of zeros take no room: the kernel has one page for all of them."""

    def __init__(self, cores: CoreInstances) -> None:
        ranges = cores.ranges()
        self.sizes = [size for _, size in ranges]
        self.memories = [_copy(base, size) for base, size in ranges]
        self.places = [ctypes.addressof(ctypes.c_char.from_buffer(each)) for each in self.memories]
        """Where the bytes of each memory are."""

    def same_as(self, other: Snapshot) -> bool:
        return self.sizes == other.sizes and all(
            mine[at : at + BLOCK] == theirs[at : at + BLOCK]
            for mine, theirs in zip(self.memories, other.memories, strict=True)
            for at in range(0, len(mine), BLOCK)
        )


def _copy(base: int, size: int) -> mmap.mmap:
    pages = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, size, BLOCK):
        block = capi.string_at(base + at, BLOCK)
        if block != _NOTHING:
            pages[at : at + BLOCK] = block
    return pages


class Snapshots:
    """The snapshots of one component: policies share one if their instances begin alike. For several threads."""

    def __init__(self) -> None:
        self._known: WeakSet[Snapshot] = WeakSet()
        self._lock = threading.Lock()

    def of(self, cores: CoreInstances) -> Snapshot:
        """Return the snapshot of what these are now."""
        made = Snapshot(cores)
        with self._lock:
            found = next((each for each in list(self._known) if each.same_as(made)), made)
            self._known.add(found)
        return found
