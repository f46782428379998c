"""``FairLock``: one at a time, for tasks of several event loops."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType

_Waiter = tuple[asyncio.AbstractEventLoop, Future[None]]


class FairLock:
    """A lock for ``async with``: blocks run one by one, in the order in which they come. A forked child begins anew."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[_Waiter] = deque()
        self._pid = os.getpid()

    async def __aenter__(self) -> None:
        if self._pid != os.getpid():
            self._begin()
        turn: Future[None] = Future()
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            waiter = asyncio.get_running_loop(), turn
            self._waiting.append(waiter)
        try:
            await asyncio.wrap_future(turn)
        except BaseException:
            self._withdraw(waiter)
            raise

    def _withdraw(self, waiter: _Waiter) -> None:
        with self._lock, suppress(ValueError):
            self._waiting.remove(waiter)
            return
        if not waiter[1].cancel():  # the turn was given just as the wait ended
            self._give()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give()

    def _give(self) -> None:
        with self._lock:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                if not loop.is_closed() and turn.set_running_or_notify_cancel():
                    break
            else:
                self._taken = False
                return
        turn.set_result(None)
