"""The descriptors that outbound connections take: a part of those of the process, of which each tenant has a share."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial

from ...sync.slots import FairSlots
from ..settings import SOCKETS_PART

_TENANT_PART = 4
"""One tenant may have one in so many of them."""
_WITHOUT_LIMIT = 16_384
_MAX_WAITING = 1024
"""Requests of one tenant that may wait for a connection."""

Release = Callable[[], None]


class Sockets:
    """One for the process: each connection, in use or idle, takes a slot of its tenant until it is closed.

    The limit of the process may be raised after this was made: it is read at each turn.
    """

    def __init__(self) -> None:
        self.slots = FairSlots(most=0, each=0, waiting=_MAX_WAITING)
        self._lock = threading.Lock()
        self._open: dict[asyncio.AbstractEventLoop, Counter[Hashable]] = {}

    async def take(self, tenant: Hashable) -> Release:
        """Take room for one more connection; call the result once it is closed. Raises NoRoom."""
        self._forget_closed_loops()
        self.read_limit()
        await self.slots.take(tenant)
        loop = asyncio.get_running_loop()
        with self._lock:
            self._open.setdefault(loop, Counter())[tenant] += 1
        return partial(self._release, loop, tenant)

    def is_free(self, tenant: Hashable) -> bool:
        """Return whether there is room at once."""
        self.read_limit()
        return self.slots.is_free(tenant)

    def has_share_left(self, tenant: Hashable) -> bool:
        """Return whether it is others that leave no room."""
        return self.slots.taken(tenant) < self.slots.each

    def read_limit(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = (_WITHOUT_LIMIT if soft == resource.RLIM_INFINITY else soft) // SOCKETS_PART
        self.slots.most, self.slots.each = most, max(most // _TENANT_PART, 1)

    def _release(self, loop: asyncio.AbstractEventLoop, tenant: Hashable) -> None:
        with self._lock:
            there = self._open.get(loop)
            if there is None or not there[tenant]:
                return
            there[tenant] -= 1
            if not there.total():
                del self._open[loop]
        self.slots.give(tenant)

    def _forget_closed_loops(self) -> None:
        """Forget loops that were closed: one that was closed without an end is not reported."""
        with self._lock:
            gone = [self._open.pop(loop) for loop in list(self._open) if loop.is_closed()]
        for tenants in gone:
            for tenant in tenants.elements():
                self.slots.give(tenant)


sockets = Sockets()
