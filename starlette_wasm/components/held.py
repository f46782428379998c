"""``Held``: what the host keeps for a guest that runs on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Hashable

from .errors import CanonicalTrap
from .side import MAX_ROOM, PART
from .values import Err, Ok, Some, Value


class Held:
    """Bytes by their owners, which fit beside the guest's memory however large that becomes. For several threads."""

    def __init__(self, most: int = MAX_ROOM) -> None:
        self.most = most
        self.size = 0
        self._sizes: dict[Hashable, int] = {}
        self._lock = threading.Lock()

    def hold(self, owner: Hashable, size: int) -> None:
        """Note that an owner holds so much from now on. Raises CanonicalTrap if all hold too much together."""
        with self._lock:
            total = self.size - self._sizes.get(owner, 0) + size
            if total > self.most:
                raise CanonicalTrap(f"calls that are under way hold more than {self.most} bytes")
            self._sizes[owner] = size
            self.size = total

    def release(self, owner: Hashable) -> None:
        """Note that it holds nothing any more."""
        with self._lock:
            self.size -= self._sizes.pop(owner, 0)


def size_of(value: Value) -> int:
    """Estimate how many bytes a value of the host takes."""
    size, left = 0, [value]
    while left:
        each = left.pop()
        size += PART
        if isinstance(each, bytes | str):
            size += len(each)
        elif isinstance(each, list | tuple):
            left += each
        elif isinstance(each, dict):
            left += each.values()
        elif isinstance(each, Ok | Err | Some):
            left.append(each.value)
    return size
