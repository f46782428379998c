"""``FairLock``: one at a time, for tasks of several event loops."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from concurrent.futures import Future
from types import TracebackType


class FairLock:
    """``async with``: the block runs alone, in the order in which they come. In a forked child nobody has a turn."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, Future[None]]] = deque()
        self._pid = os.getpid()

    async def __aenter__(self) -> None:
        if self._pid != os.getpid():
            self._begin()
        turn: Future[None] = Future()
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            self._waiting.append((asyncio.get_running_loop(), turn))
        try:
            await asyncio.wrap_future(turn)
        except BaseException:
            if not turn.cancel():  # it was given just as the wait ended
                self._give()
            raise

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
