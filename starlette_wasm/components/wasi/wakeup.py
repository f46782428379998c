"""Wakes a guest that waits: it waits for one thing at a time, be that the first of many pollables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Wakeup:
    """One for an invocation. It is used on the event loop, but for before_wait()."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self._first: list[Callable[[], None]] = []
        self._pumps: list[Callable[[], bool]] = []
        self.check: Callable[[], None] = _nothing
        """Raises what ends the guest if it waits any longer."""

    def before_wait(self, begin: Callable[[], None]) -> None:
        """Have ``begin`` called once the guest waits for something."""
        self._first.append(begin)

    def pump(self, move: Callable[[], bool]) -> None:
        """Have ``move`` called, which moves something within the host, until it gives True."""
        self._pumps.append(move)

    def pumped(self) -> bool:
        """Move what can be moved within the host; whether that is all."""
        self._pumps = [each for each in self._pumps if not each()]
        return not self._pumps

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
            self._waiter = asyncio.get_running_loop().create_future()
            left = seconds()
            if left is None:
                await self._waiter
            else:
                await asyncio.wait((self._waiter,), timeout=left)


def _nothing() -> None:
    pass
