"""A bound on what runs at once on one route, with a short queue: one route cannot starve the others."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class Full(Exception):
    """There is neither a slot nor room to wait for one; the text names which."""


class Bulkhead:
    """A bound on what runs at once: ``limit`` run, ``max_queue`` may wait, each ``timeout`` seconds at most.

    The hot path is in the caller: if ``active`` is below ``limit`` it adds one, else it awaits wait(). Then it calls
    leave(), or if there are no ``waiters`` takes one from ``active``.
    """

    __slots__ = ("active", "limit", "max_queue", "timeout", "waiters")

    def __init__(self, limit: int, max_queue: int, timeout: float) -> None:
        self.limit = limit
        self.max_queue = max_queue
        self.timeout = timeout
        self.active = 0
        self.waiters: deque[asyncio.Future[None]] = deque()

    @property
    def limits(self) -> tuple[int, int, float]:
        return self.limit, self.max_queue, self.timeout

    @property
    def waiting(self) -> int:
        return len(self.waiters)

    async def wait(self) -> None:
        """Wait for a place and take it. Raises Full."""
        if len(self.waiters) >= self.max_queue:
            raise Full(f"{self.limit} invocations run (maxConcurrency) and {self.max_queue} wait (maxQueue)")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(place)
        try:
            async with asyncio.timeout(self.timeout):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.leave()  # it was given just as the wait ended
            else:
                with suppress(ValueError):
                    self.waiters.remove(place)
            if isinstance(error, TimeoutError):
                raise Full(f"no place within {self.timeout * 1000:.0f} ms (queueTimeoutMs)") from None
            raise

    def leave(self) -> None:
        """Give the place to the one that waits longest, or back."""
        while self.waiters:
            place = self.waiters.popleft()
            if place.done():
                continue
            loop = place.get_loop()
            if asyncio._get_running_loop() is loop:
                place.set_result(None)
            else:
                try:
                    loop.call_soon_threadsafe(self._give, place)
                except RuntimeError:  # that loop is closed
                    continue
            return
        self.active -= 1

    def _give(self, place: asyncio.Future[None]) -> None:
        if place.done():
            self.leave()
        else:
            place.set_result(None)
