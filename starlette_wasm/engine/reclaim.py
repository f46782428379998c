"""``Reclaimer``: frees what guests leave, the large stores in a worker thread.

Clearing a memory takes the longer the more of it was used: 4 ms of CPU for 60 MiB, where nothing else runs. That is too
much for a turn of the event loop. A guest keeps its place among those of the engine until its store is freed, so no
more stores wait for that than there may be guests.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING

from . import capi
from .workers import Workers

if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger("starlette_wasm.engine")

SMALL = 4 << 20
"""Bytes of memory that are freed wherever they are. Also in native.h."""


class Reclaimer:
    """The one place in which stores are deleted, but for what the C library deletes in place: small ones, too."""

    def __init__(self, engine: Engine, workers: Workers) -> None:
        self._engine = engine
        self._workers = workers
        self._changed = threading.Condition()
        self.late: Counter[Hashable] = Counter()
        """How many stores of each tenant are yet to be freed: its next guest does not begin before that.

        Else its guests might have more memory at once than its bulkhead and policy allow.
        """

    @property
    def waiting(self) -> int:
        """How many stores are yet to be freed."""
        return self._workers.tasks

    def wait(self, tenant: Hashable, seconds: float) -> bool:
        """Wait in a worker thread until all stores of that tenant are freed; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: tenant not in self.late, seconds)

    def free(self, store: int, future: int | None, size: int, tenant: Hashable, done: Callable[[], None]) -> None:
        """Free a store with ``size`` bytes of memory, and the call in it, then call ``done``, which must not raise.

        At once, unless that would hold up an event loop.
        """
        left = _Left(self._engine, store, future, done)
        if size <= SMALL or asyncio._get_running_loop() is None or not self._hand_over(left, tenant):
            left.run()

    def _hand_over(self, left: _Left, tenant: Hashable) -> bool:
        """Hand it to a thread. Returns False if none can have it."""
        if self._engine.dead:
            return False
        done, left.done = left.done, partial(self._freed, tenant, left.done)
        with self._changed:
            self.late[tenant] += 1
            self._engine.state.late += 1
        try:
            self._workers.submit_task(left)
        except RuntimeError as error:
            logger.warning("a store is freed on the event loop: %s", error)
            self._forget(tenant)
            left.done = done
            return False
        return True

    def _freed(self, tenant: Hashable, done: Callable[[], None]) -> None:
        self._forget(tenant)
        done()

    def _forget(self, tenant: Hashable) -> None:
        with self._changed:
            self.late[tenant] -= 1
            self._engine.state.late -= 1
            if not self.late[tenant]:
                del self.late[tenant]
                self._changed.notify_all()


class _Left:
    """A store and future that a guest has left."""

    __slots__ = ("_engine", "_future", "_store", "done")

    def __init__(self, engine: Engine, store: int, future: int | None, done: Callable[[], None]) -> None:
        self._engine = engine
        self._store = store
        self._future = future
        self.done = done

    def run(self) -> None:
        try:
            if self._engine.dead:  # they are the parent's, of which a thread may have held a lock at the fork
                return
            if self._future:
                capi.future_delete(self._future)
            capi.store_delete(self._store)
        finally:
            self.done()
