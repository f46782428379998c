"""``Recent``: the last things that happened, of which each owner has a share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Keeps so many things in all: one more takes the place of the oldest of the owner that has the most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers = count()
        self._held: dict[Hashable, deque[tuple[int, T]]] = {}
        self._size = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._size

    def add(self, owner: Hashable, thing: T) -> None:
        """Add what happened last; from any thread."""
        with self._lock:
            self._held.setdefault(owner, deque()).append((next(self._numbers), thing))
            self._size += 1
            if self._size > self._most:
                self._drop(max(self._held, key=lambda each: len(self._held[each])))

    def _drop(self, owner: Hashable) -> None:
        things = self._held[owner]
        things.popleft()
        self._size -= 1
        if not things:
            del self._held[owner]

    def __iter__(self) -> Iterator[T]:
        """Yield all of them, the oldest first."""
        with self._lock:
            found = [each for things in self._held.values() for each in things]
        return (thing for _, thing in sorted(found, key=lambda each: each[0]))
