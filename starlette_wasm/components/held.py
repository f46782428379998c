"""``Held``: what the host keeps for a guest that runs on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable

from .errors import CanonicalTrap
from .side import MAX_ROOM, PART
from .values import Err, Ok, Some, Value

_AT_ONCE = 5000
"""Parts of a value after which the event loop has its turn."""
_FEW, _SHORT = 500, 128 << 10


def is_small(value: Value) -> bool:
    """Return whether a value of the host is lowered in no time."""
    size, left = 0, [value]
    for _ in range(_FEW):
        if not left:
            return True
        each = left.pop()
        if isinstance(each, bytes | str):
            size += len(each)
            if size > _SHORT:
                return False
        elif isinstance(each, list | tuple | dict):
            if len(each) > _FEW:
                return False
            left += each.values() if isinstance(each, dict) else each
        elif isinstance(each, Ok | Err | Some):
            left.append(each.value)
    return not left


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


async def size_of(value: Value) -> int:
    """Estimate how many bytes a value of the host takes."""
    size, left, parts = 0, [value], 0
    while left:
        parts += 1
        if parts % _AT_ONCE == 0:
            await asyncio.sleep(0)
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
