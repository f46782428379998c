"""The coroutine that polls a guest: deadline, migration to a thread, host calls, cancellation."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from functools import partial
from typing import Protocol

from ..sync.pace import Paces
from . import hostcall, layout
from .capi import EngineError
from .engine import OutOfInstances
from .instance import Instance
from .loop_time import BUDGET_US, CALM, FREE_US
from .outcome import End, Outcome
from .timed import Timed
from .workers import STUCK_AFTER, Workers

_GRACE = 0.01
"""Seconds that the answer to a timeout waits for the guest's thread, for its log."""
LIGHT = 0.002
"""Seconds that an invocation may use on the event loop, calls of the host included, if it does not end at once."""
_MOMENT = 0.001
"""Seconds that a worker thread waits for stores of a tenant to be freed, before it looks for other work."""
_LONGEST_REST = 0.001
"""Seconds that a worker thread rests after a call of the host at most."""
LARGE = 1 << 20
"""Bytes of input, payload or result from which the copy is made in a thread."""
_OF_BEGINNING = (OutOfInstances, EngineError, OSError, MemoryError)
"""What begin() raises."""
HostCall = Callable[[], Awaitable[int]]
_LEAST_ROOM = 128 << 10
"""Bytes that a call may copy at least, above the bound of the guest's memory."""
Guard = Callable[[], AbstractAsyncContextManager[None]]
"""Makes what may end a long invocation from outside, by cancelling the body of its ``async with``."""


class Host(Protocol):
    """Answers ``edge.call``: operation and payload in, result out. Raises nothing but cancellation."""

    def take(self, operation: int, payload: memoryview, room: int) -> bytes | Callable[[], Awaitable[bytes]]:
        """Return the result, if it waits for nothing, else what gives it on the event loop; in the guest's thread.

        ``payload`` is the guest's memory, valid until this returns; ``room`` is how many bytes may be copied of it,
        or be in the result.
        """


def rest(seconds: float) -> None:
    """Let other threads have the GIL for a while, in a worker thread that had it for as long.

    A poll leaves it for some microseconds only, in which no thread wakes up: beside guests that call the host again and
    again the event loop would wait for it through several turns of the worker threads.
    """
    time.sleep(seconds)


_paces = Paces()
"""For guests whose time is over."""


class _Owner(Enum):
    LOOP = 1
    THREAD = 2
    NOBODY = 3  # abandoned by the loop: the thread closes it


class Pause:
    """A time that does not count as the guest's."""

    def __init__(self, resume: Callable[[float], None]) -> None:
        self._resume = resume
        self._since = time.monotonic()
        self._seconds: float | None = None

    def end(self) -> float:
        """Let the guest's time run again, and return how many seconds it stood still. May be called again."""
        if self._seconds is None:
            self._seconds = time.monotonic() - self._since
            self._resume(self._seconds)
        return self._seconds


class Invocation(Instance):
    """One guest, from its input to its outcome."""

    __slots__ = (
        *("_call", "_deadline", "_ended", "_error", "_future_of_loop", "_lock", "_loop", "_owner", "_result"),
        "_bound",
        *("_asked", "_failure", "_unmade", "calls", "host", "host_calls", "result"),
    )

    def __str__(self) -> str:
        return f"a guest of {self.plan.module.label}"

    async def run(self, deadline: float, guard: Guard, host: Host | None = None) -> Outcome:
        """Drive the guest to its end; ``deadline`` is on time.monotonic(), ``host`` answers ``edge.call``.

        Most guests end in the first poll, in place. One that does not goes on in a worker thread, where those that
        mostly come to that are made and begin, and those that may wait for a disk or have much memory; one that waits
        for the host leaves the loop free; both under ``guard``. Cancelling drops the guest.
        """
        self._expect_calls()
        self.host = host
        self.calls = 0
        self._deadline = deadline
        self._owner = _Owner.LOOP
        self._unmade = self._begun is None and (self._in_thread_at_once or len(self._stdin) > LARGE)
        self.engine.ticker.ensure_armed()
        if self._unmade:
            self.reserve()
            ended = False
        else:
            ended = self.start()
        if ended:
            self._book(self.cpu)
        else:
            self._lock = threading.Lock()
            self._loop = asyncio.get_running_loop()
            self._error: Exception | None = None
            self._on_loop(self.cpu, already=True)
            if not self._unmade:
                self._read_call()
            ended = await self._go_on(guard)
        outcome = self.finish() if ended else await self._late()
        outcome.cpu_s = self.cpu
        outcome.host_calls = self.host_calls + (self._asked is not None)  # one that came at its deadline
        return outcome

    def _expect_calls(self) -> None:
        """Begin without a call of the host."""
        self._call: HostCall | None = None
        self._asked: tuple[int, int, int] | None = None
        self._failure: BaseException | None = None
        self._result: int | None = None
        self.result: bytes | None = None
        self.host_calls = 0

    @property
    def is_over(self) -> bool:
        """Whether its time is over, or nobody waits for it any more; in whatever thread it is."""
        return self._owner is _Owner.NOBODY or time.monotonic() >= self._deadline

    @property
    def tenant(self) -> Hashable:
        """Whose share of the threads it uses."""
        return self.plan.tenant

    @property
    def _in_thread_at_once(self) -> bool:
        """Whether nothing of it is to run on the event loop.

        Python's signal handlers run in the main thread, between any two lines, and may raise: within a function that
        wasmtime has called, that would end the process.
        """
        plan = self.plan
        late = self.engine.reclaimer.late
        if plan.slow or (late and plan.tenant in late):
            return True
        if plan.memory.cpu_score >= BUDGET_US and plan.loop_time.spent:
            return True
        calls_python = plan.module.calls_host and not plan.module.calls_are_noted
        return calls_python and threading.current_thread() is threading.main_thread()

    def _book(self, seconds: float) -> None:
        """Count what it used of the event loop, if that changes anything."""
        plan = self.plan
        if seconds * 1e6 > FREE_US or plan.memory.calm < CALM:
            plan.loop_time.add(seconds)

    def _on_loop(self, seconds: float, *, already: bool = False) -> None:
        """Book what it used of the event loop."""
        self._book(seconds)
        if not already:
            self.cpu += seconds

    async def _go_on(self, guard: Guard) -> bool:
        """Go on, and return True when the guest has ended, False when its time is over."""
        try:
            async with guard(), asyncio.timeout_at(self._loop.time() + self._deadline - time.monotonic()) as bound:
                self._bound = bound
                while True:
                    self._check()
                    call, self._call = self._call, None
                    if call is not None:
                        self._result = await Timed(call(), self._on_loop, _paces.here(), self.plan.tenant)
                    if self._belongs_in_thread:
                        if await self._in_thread():
                            return True
                        continue
                    begin = time.thread_time()
                    ended = self._turn()
                    self._on_loop(time.thread_time() - begin)
                    if ended:
                        return True
        except TimeoutError:
            return False
        except BaseException:
            self._abandon()
            raise

    def pause_time(self) -> Pause:
        """Let the guest's time stand still. On the event loop, in a call that the guest waits for."""
        self._bound.reschedule(None)
        return Pause(self._resume_time)

    def _resume_time(self, seconds: float) -> None:
        self._deadline += seconds
        if not self._bound.expired():
            self._bound.reschedule(self._loop.time() + self._deadline - time.monotonic())

    @property
    def _belongs_in_thread(self) -> bool:
        """Whether it goes on in a thread, and not on the event loop."""
        if self._asked is None and self._result is None:  # it was at work as the epoch ticked
            return True
        size = self._asked[2] if self._asked is not None else len(self.result or b"")
        return size > LARGE or self.cpu > self._time_on_loop or self._in_thread_at_once

    @property
    def _time_on_loop(self) -> float:
        """Seconds that it may use on the event loop, if it does not end at once."""
        return LIGHT

    def _turn(self) -> bool:
        """Go on on the event loop. True when the guest has ended."""
        if self._asked is not None:
            self._serve()
        return self._call is None and self._poll_again()

    def _poll_again(self) -> bool:
        self.set_clocks()
        if self._result is not None and self.plan.module.calls_are_noted:
            self._hand_over()
        ended = self.poll()
        if not ended:
            self._read_call()
        return ended

    def _hand_over(self) -> None:
        """Give host_calls.c the result of the call that it has noted, and what the guest may take."""
        assert self._result is not None
        scratch = self._made
        if self.result is not None:
            scratch.give(self.result)
            self.result = None
        scratch.answer(self._result)
        self._result = None

    def _read_call(self) -> None:
        """See what host_calls.c has noted, if the guest waits for the host, and answer it if that takes no time."""
        if not self.plan.module.calls_are_noted:
            return
        asked, *arguments = self._made.asked()
        if not asked:
            return
        self._result = None
        try:
            self._result = hostcall.answer(self, asked, arguments)
        except BaseException as error:
            self.fail(error)

    def forget_result(self) -> None:
        """Let the guest take nothing."""
        self.result = None
        if self.plan.module.calls_are_noted:
            self._made.give(None)

    def _check(self) -> None:
        """Raise what a function that the guest called has raised."""
        if self._failure is None:
            return
        failure, self._failure = self._failure, None
        if isinstance(failure, Exception):
            raise EngineError(f"a host function failed: {failure!r}") from failure
        raise failure

    def _serve(self) -> None:
        """Answer the call that the guest waits for, or leave what does. Not on the guest's stack."""
        asked, self._asked = self._asked, None
        assert asked is not None
        assert self.host is not None
        operation, at, length = asked
        self.host_calls += 1
        memory = self.guest_memory()
        with memory[at : at + length] as payload:
            answer = self.host.take(operation, payload, self._room(len(memory)))
        if isinstance(answer, bytes):
            self._take_answer(answer)
        else:
            self._call = partial(self._await_host, answer)

    def _room(self, used: int) -> int:
        """Return how many bytes a call may copy, if the guest's memory has ``used``."""
        return max(self.plan.limits.memory_pages * layout.PAGE - used, 0) + self._spare

    @property
    def _spare(self) -> int:
        """How many bytes the host may keep for the guest, however much memory that has."""
        return max(self.plan.limits.memory_pages * layout.PAGE // 16, _LEAST_ROOM)

    async def _await_host(self, answer: Callable[[], Awaitable[bytes]]) -> int:
        return self._take_answer(await answer())

    def _take_answer(self, answer: bytes) -> int:
        self.result = answer
        self._result = len(answer)
        return len(answer)

    async def _late(self) -> Outcome:
        """End a guest whose time is over, and return its outcome with its output so far.

        A thread sees at the next tick that it is over; one that does not is left to close the guest when it does.
        """
        grace = time.monotonic() + _GRACE
        try:
            while self._owner is _Owner.THREAD and time.monotonic() < grace:
                if self.plan.workers.withdraw(self):
                    self._owner = _Owner.LOOP
                    break
                await asyncio.sleep(0.0005)
            if self._owner is _Owner.LOOP:
                return await self._stop_in_turn()
        except BaseException:
            self._abandon()
            raise
        self._abandon()
        return Outcome(End.TIMEOUT)

    async def _stop_in_turn(self) -> Outcome:
        """Stop it, as stop() does: of many guests that began together, few end in one round of the event loop."""
        pace = _paces.here()
        await pace.turn(self.plan.tenant)
        begin = time.perf_counter()
        try:
            return self.stop()
        finally:
            pace.spend(begin)

    async def _in_thread(self) -> bool:
        """Let a worker thread run the guest. True when it has ended, False when it waits for a host call."""
        self._future_of_loop: asyncio.Future[bool] = self._loop.create_future()
        self._owner = _Owner.THREAD
        self.plan.workers.submit(self)
        self.plan.workers.watch(self._loop)
        ended = await self._future_of_loop
        if self._error is not None:
            error, self._error = self._error, None
            if isinstance(error, _OF_BEGINNING):
                raise error
            raise EngineError(f"a guest thread failed: {error}") from error
        if not ended and self._failure is None and time.monotonic() >= self._deadline:
            raise TimeoutError  # a call that it waits for is not begun any more
        return ended

    def _abandon(self) -> None:
        if self.engine.dead:  # forked from a process whose threads may have held any lock
            return
        with self._lock:
            if self._owner is _Owner.THREAD and not self.plan.workers.withdraw(self):
                self._owner = _Owner.NOBODY
                self.plan.workers.give_up(self)
                if not self._loop.is_closed():
                    self._loop.call_later(STUCK_AFTER * 1.1, self.plan.workers.relieve)
                return
            self._owner = _Owner.LOOP
        self.close()

    def work(self, turn_ends: float, workers: Workers) -> bool:
        """Poll in a worker thread until something is to be reported. Return False at the end of a turn, if it began."""
        self._ended = False
        while not self.is_over:
            if self._unmade and not self.engine.reclaimer.wait(self.plan.tenant, _MOMENT):
                return False
            begin = time.thread_time()
            try:
                self._step()
            except Exception as error:
                self._error = error
                break
            self.cpu += time.thread_time() - begin
            if self._ended or self._call is not None or self._failure is not None:
                break
            if time.monotonic() >= turn_ends and workers.waiting:
                return False
        self._hand_back()
        return True

    def _step(self) -> None:
        """Go on until the next tick, in a worker thread."""
        if self._unmade:
            self._unmade = False
            self.begin()
        if self._asked is not None:
            begin = time.thread_time()
            self._serve()
            rest(min(time.thread_time() - begin, _LONGEST_REST))
        if self._call is None:
            self._ended = self._poll_again()
            if self._ended:
                self.settle()

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
        """Note the call that the guest waits for; a host function calls this."""
        self._call = call
        self._result = None

    def wait_for_host(self, operation: int, payload: int, length: int) -> None:
        """Note that the guest goes on when its host has an answer; ``edge.call`` calls this."""
        self._asked = operation, payload, length
        self._result = None

    def fail(self, failure: BaseException) -> None:
        """Note that a host function has raised: the guest does not go on."""
        self._failure = failure
        self._result = None

    def take_result(self) -> int | None:
        """Return the result of the host call, None as long as there is none; wasmtime calls this in a poll."""
        return self._result
