"""``FairSlots``: a bound on what is under way at once, of which each tenant has a share."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from concurrent.futures import Future
from contextlib import asynccontextmanager

from .fair_queue import NoRoom

_Waiter = tuple[asyncio.AbstractEventLoop, "Future[None]"]


class FairSlots:
    """A bound of ``most`` slots in all and ``each`` for one tenant, of which ``waiting`` may wait for one.

    A tenant that has none gets one at once, even above ``most``: so others cannot keep it out. Of those who wait,
    tenants take turns. For tasks of several event loops; in a forked child all slots are free.
    """

    def __init__(self, *, most: int, each: int, waiting: int) -> None:
        self.most = most
        self.each = each
        self._most_waiting = waiting
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[_Waiter]] = {}
        self._pid = os.getpid()

    def __len__(self) -> int:
        """Return how many are taken."""
        return self._taken.total()

    def taken(self, tenant: Hashable) -> int:
        return self._taken[tenant]

    def is_free(self, tenant: Hashable) -> bool:
        """Return whether the tenant would get a slot without waiting."""
        taken = self._taken[tenant]
        return taken == 0 or (taken < self.each and self._taken.total() < self.most)

    @asynccontextmanager
    async def slot(self, tenant: Hashable) -> AsyncIterator[None]:
        """Run the block in a slot. Raises NoRoom."""
        await self.take(tenant)
        try:
            yield
        finally:
            self.give(tenant)

    async def take(self, tenant: Hashable) -> None:
        """Take a slot, which give() frees. Raises NoRoom."""
        if self._pid != os.getpid():
            self._begin()
        turn: Future[None] = Future()
        with self._lock:
            waiters = self._waiting.get(tenant)
            if not waiters and self.is_free(tenant):
                self._taken[tenant] += 1
                return
            if waiters is not None and len(waiters) >= self._most_waiting:
                raise NoRoom(f"{self._most_waiting} wait already")
            waiter = asyncio.get_running_loop(), turn
            self._waiting.setdefault(tenant, deque()).append(waiter)
        try:
            await asyncio.wrap_future(turn)
        except BaseException:
            if not turn.cancel():  # it was given just as the wait ended
                self.give(tenant)
            self._forget(tenant, waiter)
            raise

    def _forget(self, tenant: Hashable, waiter: _Waiter) -> None:
        """Take out a waiter that was cancelled, or it would count among those that wait."""
        with self._lock:
            waiters = self._waiting.get(tenant)
            if waiters is not None and waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiting[tenant]

    def give(self, tenant: Hashable) -> None:
        """Free a slot; from any thread."""
        if self._pid != os.getpid():
            return  # it was the parent's
        turns: list[Future[None]] = []
        with self._lock:
            self._taken[tenant] -= 1
            if self._taken[tenant] <= 0:
                del self._taken[tenant]
            while (turn := self._next()) is not None:
                turns.append(turn)
        for turn in turns:
            turn.set_result(None)

    def _next(self) -> Future[None] | None:
        """Return the waiter that may go on next, slot taken; others of its tenant then wait behind other tenants."""
        for tenant in list(self._waiting):
            while self.is_free(tenant) and (waiters := self._waiting.pop(tenant, None)):
                loop, turn = waiters.popleft()
                if waiters:
                    self._waiting[tenant] = waiters
                if not loop.is_closed() and turn.set_running_or_notify_cancel():
                    self._taken[tenant] += 1
                    return turn
        return None
