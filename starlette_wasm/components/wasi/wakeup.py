"""Wakes a guest that waits: it waits for one thing at a time, be that the first of many pollables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..errors import CanonicalTrap

_MOST_PUMPS = 1000
_AT_ONCE = 256 << 10
"""Bytes that are moved in one round of the event loop."""


class Pump(Protocol):
    """What moves something within the host, until it is ``forwarded``."""

    forwarded: bool

    def forward(self, most: int) -> int:
        """Move up to so many bytes. Return how many there were."""


class Wakeup:
    """One for an invocation. It is used on the event loop, but for before_wait()."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self._first: list[Callable[[], None]] = []
        self._pumps: list[Pump] = []
        self._more = False
        """Whether there is more to move at once than is moved in one round of the event loop."""
        self.check: Callable[[], None] = _nothing
        """Raises what ends the guest if it waits any longer."""

    def before_wait(self, begin: Callable[[], None]) -> None:
        """Have ``begin`` called once the guest waits for something."""
        self._first.append(begin)

    def pump(self, pump: Pump) -> None:
        """Have it move something within the host. Traps if too much is under way."""
        if len(self._pumps) >= _MOST_PUMPS:
            raise CanonicalTrap(f"more than {_MOST_PUMPS} streams and futures of the host are handed to the host")
        self._pumps.append(pump)

    def pumped(self) -> bool:
        """Move some of what can be moved within the host. Return whether that is all."""
        pumps, left = self._pumps, _AT_ONCE
        for _ in range(len(pumps)):
            if left <= 0:
                break
            pump = pumps.pop(0)
            left -= pump.forward(left)
            if not pump.forwarded:
                pumps.append(pump)  # behind the others
        self._more = left <= 0
        return not pumps

    def notify(self) -> None:
        """Wake the guest, as something may have become ready."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def until(self, ready: Callable[[], bool], seconds: Callable[[], float | None] = lambda: None) -> None:
        """Return once it is ready. It is asked after each notify(), and when so many seconds have passed."""
        while self._first:
            self._first.pop()()
        while True:
            self.pumped()
            if ready():
                return
            self.check()
            if self._more:
                await asyncio.sleep(0)
                continue
            self._waiter = asyncio.get_running_loop().create_future()
            left = seconds()
            if left is None:
                await self._waiter
            else:
                await asyncio.wait((self._waiter,), timeout=left)


def _nothing() -> None:
    pass
