"""``FairQueue``: what waits for one worker; tenants take turns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class NoRoom(Exception):
    """As many of this tenant wait already as may."""


class FairQueue(Generic[T]):
    """A queue in which tenants take turns. For several threads. ``each``: how many of one tenant may wait."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, deque[T]] = {}

    def put(self, tenant: Hashable, thing: T) -> None:
        """Raise NoRoom."""
        with self._lock:
            things = self._waiting.setdefault(tenant, deque())
            if len(things) >= self._each:
                raise NoRoom(f"{self._each} wait already")
            things.append(thing)

    def holds(self, tenant: Hashable) -> bool:
        """Return whether something of this tenant waits."""
        return tenant in self._waiting

    def take(self) -> T | None:
        """Take the oldest of the tenant that was served longest ago; None if nothing waits."""
        with self._lock:
            tenant = next(iter(self._waiting), None)
            if tenant is None:
                return None
            things = self._waiting.pop(tenant)
            thing = things.popleft()
            if things:
                self._waiting[tenant] = things  # behind the others
            return thing

    def remove(self, tenant: Hashable, thing: T) -> None:
        """Take out what need not be done any more, if it still waits."""
        with self._lock, suppress(KeyError, ValueError):
            things = self._waiting[tenant]
            things.remove(thing)
            if not things:
                del self._waiting[tenant]
