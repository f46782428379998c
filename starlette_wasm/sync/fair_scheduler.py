"""``FairScheduler``: jobs of several tenants for a few threads, in which each tenant has its share."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairScheduler(Generic[T]):
    """Chooses a job of the tenant with the fewest running jobs; among equals, of the one served longest ago.

    ``each`` is how many jobs of one tenant may run at once. The caller must not put a job
    that is queued already, and must hold a lock. Operations take constant time, except take() and ``starved``, which
    may look at as many tenants as jobs run.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self._waiting: OrderedDict[Hashable, OrderedDict[T, None]] = OrderedDict()
        self._running: Counter[Hashable] = Counter()
        self._count = 0

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return self._count

    @property
    def starved(self) -> bool:
        """Whether a tenant waits of which nothing runs."""
        return any(not self._running[tenant] for tenant in self._waiting)

    def put(self, tenant: Hashable, job: T) -> None:
        self._waiting.setdefault(tenant, OrderedDict())[job] = None
        self._count += 1

    def remove(self, tenant: Hashable, job: T) -> bool:
        """Take out a job that waits; False if it does not."""
        jobs = self._waiting.get(tenant)
        if jobs is None or job not in jobs:
            return False
        del jobs[job]
        self._count -= 1
        if not jobs:
            del self._waiting[tenant]
        return True

    def take(self) -> tuple[Hashable, T] | None:
        """Take the next job, which counts as running until release(); None if none may run."""
        tenant = self._next()
        if tenant is None:
            return None
        jobs = self._waiting[tenant]
        job, _ = jobs.popitem(last=False)
        self._count -= 1
        if jobs:
            self._waiting.move_to_end(tenant)
        else:
            del self._waiting[tenant]
        self._running[tenant] += 1
        return tenant, job

    def release(self, tenant: Hashable) -> None:
        """Note that a job of that tenant runs no longer."""
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]

    def _next(self) -> Hashable | None:
        found, fewest = None, self._each
        for tenant in self._waiting:
            running = self._running[tenant]
            if running < fewest:
                found, fewest = tenant, running
            if not running:
                break
        return found
