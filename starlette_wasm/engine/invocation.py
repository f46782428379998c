"""The coroutine that polls a guest: deadline, migration to a thread, host calls, cancellation."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Protocol

from .capi import EngineError
from .instance import Instance
from .outcome import End, Outcome
from .workers import STUCK_AFTER, Workers

_PATIENCE = 0.01
"""Seconds that the answer to a timeout waits for the guest's thread, for its log."""
_LIGHT = 0.002
"""Seconds of CPU that an invocation may use on the event loop, where it did not end in the first poll."""
HEAVY, _HEAVIEST = 4, 8
"""From how many heavy invocations on, less the light ones, the next begins in a thread; and where counting ends."""
HostCall = Callable[[], Awaitable[int]]
Guard = Callable[[], AbstractAsyncContextManager[None]]
"""Makes what may end a long invocation from outside, by cancelling the body of its ``async with``."""


class Host(Protocol):
    """Answers ``edge.call``: operation and payload in, result out. Raises nothing but cancellation."""

    def at_once(self, operation: int, payload: bytes) -> bytes | None:
        """What waits for nothing, in whatever thread the guest runs; None for ``call()`` to answer."""

    async def call(self, operation: int, payload: bytes) -> bytes: ...


class _Owner(Enum):
    LOOP = 1
    THREAD = 2
    NOBODY = 3  # abandoned by the loop: the thread closes it


class Invocation(Instance):
    """One guest, from its input to its outcome."""

    __slots__ = (
        *("_call", "_deadline", "_ended", "_error", "_future_of_loop", "_lock", "_loop", "_owner", "_result"),
        *("calls", "host", "host_calls", "result"),
    )

    def __str__(self) -> str:
        return f"a guest of {self.plan.module.label}"

    async def run(self, deadline: float, guard: Guard, host: Host | None = None) -> Outcome:
        """Drive the guest to its end; ``deadline`` is on time.monotonic(), ``host`` answers ``edge.call``.

        Most guests end in the first poll, in place. One that does not goes on in a worker thread, where those that
        mostly come to that begin, and those that may wait for a disk; one that waits for the host leaves the loop
        free; both under ``guard``. Cancelling drops the guest.
        """
        self._call: HostCall | None = None
        self._result: int | None = None
        self.host = host
        self.calls = 0
        self.host_calls = 0
        self.result: bytes | None = None
        self.engine.ticker.touch()
        load = self.plan.memory
        ended = self.start(poll=not self._in_thread_at_once)
        if ended:
            if load.heavy:
                load.heavy -= 1
        else:
            self._lock = threading.Lock()
            self._owner = _Owner.LOOP
            self._deadline = deadline
            self._loop = asyncio.get_running_loop()
            self._error: Exception | None = None
            ended = await self._go_on(guard)
            if self.cpu < _LIGHT:
                load.heavy = max(load.heavy - 1, 0)
            elif load.heavy < _HEAVIEST:
                load.heavy += 1
        outcome = self.finish() if ended else await self._late()
        outcome.cpu_s = self.cpu
        outcome.host_calls = self.host_calls
        return outcome

    @property
    def _in_thread_at_once(self) -> bool:
        """Whether nothing of it is to run on the event loop."""
        plan = self.plan
        return plan.slow or plan.memory.heavy >= HEAVY

    async def _go_on(self, guard: Guard) -> bool:
        """True when the guest has ended, False when its time is over."""
        try:
            async with guard(), asyncio.timeout_at(self._loop.time() + self._deadline - time.monotonic()):
                while True:
                    if self._call is None:
                        if await self._in_thread():
                            return True
                        continue
                    call, self._call = self._call, None
                    self._result = await call()
                    if self.cpu > _LIGHT or self._in_thread_at_once:
                        continue
                    self.set_clocks()
                    begin = time.perf_counter()
                    ended = self.poll()
                    self.cpu += time.perf_counter() - begin
                    if ended:
                        return True
        except TimeoutError:
            return False
        except BaseException:
            self._abandon()
            raise

    async def _late(self) -> Outcome:
        """The outcome of a guest whose time is over, with what it has said so far.

        A thread sees at the next tick that it is over; one that does not is left to close the guest when it does.
        """
        patience = time.monotonic() + _PATIENCE
        try:
            while self._owner is _Owner.THREAD and time.monotonic() < patience:
                if self.engine.workers.withdraw(self):
                    self._owner = _Owner.LOOP
                    break
                await asyncio.sleep(0.0005)
            if self._owner is _Owner.LOOP:
                return self.stop()
        except BaseException:
            self._abandon()
            raise
        self._abandon()
        return Outcome(End.TIMEOUT)

    async def _in_thread(self) -> bool:
        """Let a worker thread run the guest. True when it has ended, False when it waits for a host call."""
        self._future_of_loop: asyncio.Future[bool] = self._loop.create_future()
        self._owner = _Owner.THREAD
        self.engine.workers.submit(self)
        ended = await self._future_of_loop
        if self._error is not None:
            raise EngineError(f"a guest thread failed: {self._error}") from self._error
        if not ended and self._call is None:
            raise TimeoutError
        return ended

    def _abandon(self) -> None:
        if self.engine.dead:  # forked from a process whose threads may have held any lock
            return
        with self._lock:
            if self._owner is _Owner.THREAD and not self.engine.workers.withdraw(self):
                self._owner = _Owner.NOBODY
                self.engine.workers.give_up(self)
                if not self._loop.is_closed():
                    self._loop.call_later(STUCK_AFTER * 1.1, self.engine.workers.relieve)
                return
            self._owner = _Owner.LOOP
        self.close()

    def work(self, turn_ends: float, workers: Workers) -> bool:
        """In a worker thread: poll until something is to be said. False when the turn is over."""
        self._ended = False
        while True:
            try:
                self.set_clocks()
                begin = time.thread_time()
                self._ended = self.poll()
                self.cpu += time.thread_time() - begin
            except Exception as error:
                self._error = error
                self._hand_back()
                return True
            now = time.monotonic()
            if self._ended or self._call is not None or now >= self._deadline or self._owner is _Owner.NOBODY:
                self._hand_back()
                return True
            if now >= turn_ends and workers.waiting:
                return False

    def _hand_back(self) -> None:
        with self._lock:
            if self._owner is _Owner.THREAD:
                self._owner = _Owner.LOOP
                try:
                    self._loop.call_soon_threadsafe(self._tell, self._future_of_loop, self._ended)
                    return
                except RuntimeError:  # the loop was closed under us
                    self._owner = _Owner.NOBODY
        self.close()

    @staticmethod
    def _tell(future: asyncio.Future[bool], ended: bool) -> None:
        if not future.done():
            future.set_result(ended)

    def wait_for(self, call: HostCall) -> None:
        """Called by a host function: the guest goes on when ``call`` has a result."""
        self._call = call
        self._result = None

    def take_result(self) -> int | None:
        """Called by wasmtime in a poll: the result of the host call, or None as long as there is none."""
        return self._result
