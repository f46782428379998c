"""Threads that tenants share, apart from the event loop's default ones, which are the app's."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_NOBODY: Hashable = object()


class FairThreads:
    """Threads that tenants share: ``most`` in all, and ``each`` of one tenant.

    A tenant of which nothing runs gets a thread at once, even above ``most``: so others cannot keep it out. Of those
    who wait, tenants take turns. From any event loop; a forked child, which has none of the threads, begins anew.
    """

    def __init__(self, name: str, *, most: int, each: int) -> None:
        self._name = name
        self._most = most
        self._each = each
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, deque[_Job[Any]]] = {}
        self._running: Counter[Hashable] = Counter()

    async def run(self, tenant: Hashable, work: Callable[[], T]) -> T:
        """Return the result of ``work``, which does not run if cancelled first. Raise RuntimeError without threads."""
        if self._pid != os.getpid():
            self._begin()
        job: _Job[T] = _Job(work)
        with self._lock:
            self._waiting.setdefault(tenant, deque()).append(job)
            start = self._may_run(tenant)
            if start:
                self._running[tenant] += 1
        try:
            if start:
                self._start(tenant)
            return await job.result
        finally:
            self._withdraw(tenant, job)

    def _start(self, tenant: Hashable) -> None:
        try:
            threading.Thread(target=self._work, args=(tenant,), name=self._name, daemon=True).start()
        except RuntimeError as error:
            with self._lock:
                self._leave(tenant)
                # If the tenant has no other thread, nobody takes what waits, jobs of other event loops included.
                left = () if self._running[tenant] else self._waiting.pop(tenant, ())
            for job in left:
                job.fail(RuntimeError(str(error)))

    def _may_run(self, tenant: Hashable) -> bool:
        running = self._running[tenant]
        return running == 0 or (running < self._each and self._running.total() < self._most)

    def _work(self, tenant: Hashable) -> None:
        while tenant is not _NOBODY:
            job = self._take(tenant)
            if job is not None:
                job.run()
            tenant = self._next(tenant)

    def _take(self, tenant: Hashable) -> _Job[Any] | None:
        with self._lock:
            jobs = self._waiting.pop(tenant, None)
            if jobs is None:
                return None
            job = jobs.popleft()
            if jobs:
                self._waiting[tenant] = jobs  # behind the others
            return job

    def _next(self, tenant: Hashable) -> Hashable:
        """Choose for whom a thread that has done with ``tenant`` works on; _NOBODY if nothing waits."""
        with self._lock:
            self._leave(tenant)
            found = next(filter(self._may_run, self._waiting), _NOBODY)
            if found is not _NOBODY:
                self._running[found] += 1
            return found

    def _leave(self, tenant: Hashable) -> None:
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]

    def _withdraw(self, tenant: Hashable, job: _Job[Any]) -> None:
        with self._lock, suppress(KeyError, ValueError):
            jobs = self._waiting[tenant]
            jobs.remove(job)
            if not jobs:
                del self._waiting[tenant]


class _Job(Generic[T]):
    """Work for a thread; ``result`` is of the event loop that made it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._context = copy_context()
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[T] = self._loop.create_future()

    def run(self) -> None:
        try:
            value = self._context.run(self._work)
        except BaseException as error:
            self._tell(self._fail, error)
        else:
            self._tell(self._succeed, value)

    def fail(self, error: BaseException) -> None:
        """End the wait for a job that no thread has."""
        self._tell(self._fail, error)

    def _tell(self, how: Callable[[Any], None], what: object) -> None:
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(how, what)

    def _succeed(self, value: T) -> None:
        if not self.result.done():
            self.result.set_result(value)

    def _fail(self, error: BaseException) -> None:
        if not self.result.done():
            self.result.set_exception(error)
