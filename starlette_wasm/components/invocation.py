"""One invocation of a component: the calls of its entry, and what its guests call meanwhile.

Driven as any invocation (engine/invocation.py). In a poll the guest runs; what it calls of the host is noted by the
glue's ``step`` and carried out when the guest has been left, on the event loop or in a worker thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, Self

from ..engine import capi
from ..engine.invocation import LARGE, LIGHT, Guard, Host
from ..engine.loop_time import CALM
from ..engine.outcome import Outcome
from ..engine.scratch import Scratch
from . import glue
from .calls import Await, Request
from .edge_call import ASKED, ENDED
from .entries import answer_request, call_export
from .errors import CanonicalTrap
from .http_call import HttpCall
from .native_side import NativeSide
from .restore import Kept
from .types import Signature, signature
from .values import Value, ValueMismatchError
from .weights import is_small as is_small_in_memory

_CALLS_OF_TURN = 7
_SECONDS_OF_BYTE = 0.002 / (1 << 20)
"""Time that a handler may use on the event loop for what it streams: 2 ms for a MiB."""
_NO_FORM = Signature((), (), False, False)


class ComponentInvocation(NativeSide):
    """An Invocation of a component: bytes in, bytes out."""

    __slots__ = ()

    @classmethod
    def left(cls, kept: Kept, scratch: Scratch, how: int, stdin: bytes, environ: bytes, content: bytes | None) -> Self:
        """Make one that component_path.c has begun, with the instance and the place that it has used; start() returns
        what came of it. ``content`` is the body of a request for a handler, None if it is for something else.
        """
        invocation = cls(kept.plan, stdin, environ)
        invocation.is_packed = content is not None
        invocation.content = content or b""
        invocation._expect_calls()
        kept.plan.module.live.add(id(invocation))
        invocation._scratch = scratch
        invocation._hold(kept, scratch)
        invocation.cpu = scratch.result()[0] / 1e9
        try:
            invocation._native = call = invocation._native_call(scratch)
            invocation._begun = int(invocation._come_to(call, partial(call.came_to, how)))
        except BaseException:
            invocation.close()
            raise
        return invocation

    def start(self) -> bool:
        if self._begun is not None:
            return self._go_on_from_begun()
        self.reserve()
        self.begin()
        try:
            begin = time.thread_time()  # a process that waits for a CPU does no work
            if self.plan.component.native is None:
                ended = self._poll_first()
            else:
                ended = self._serve_while_light(self.poll(), begin)
            self.cpu = time.thread_time() - begin
            return ended
        except BaseException:
            self.close()
            raise

    def try_at_once(self) -> bool:
        """Make the guest, and run it until it ends, calls what C does not answer, or the epoch ticks. True when it has
        ended. Nothing of Python was called; run() goes on from there, with whatever it is given till then.

        Raises as start() does.
        """
        self._expect_calls()
        self.reserve()
        self.begin()
        try:
            begin = time.thread_time()
            ended = self.poll()
            if not ended and self._asked is None and self.plan.memory.calm == CALM:
                ended = self.poll()  # the tick may have met it by chance, or the process waits for a CPU
            self._begun = int(ended)
            self.cpu = time.thread_time() - begin
            return bool(self._begun)
        except BaseException:
            self.close()
            raise

    @property
    def answered(self) -> bytes | None:
        """What a guest that has ended at once gave; None if that is not well."""
        if self._has_failed or len(self._answer) > self.plan.limits.stdout:
            return None
        return self._answer

    def book(self) -> None:
        """Book what a guest used that has ended at once."""
        self._book(self.cpu)

    @property
    def ran(self) -> float:
        return self.cpu

    def _go_on_from_begun(self) -> bool:
        """Go on with what try_at_once() has left."""
        ended, self._begun = bool(self._begun), None
        begin = time.thread_time()
        try:
            if not ended and self._there.state.asked:
                self._note()
                ended = self._serve_while_light(False, begin)
            elif ended and isinstance(self._native, HttpCall):
                self._follow_to_end(self._native)
            self.cpu += time.thread_time() - begin
            return ended
        except BaseException:
            self.close()
            raise

    def _poll_first(self) -> bool:
        """Run it until it calls the host: then it is held, and goes on in a thread, where callbacks meet no signal."""
        main = threading.current_thread() is threading.main_thread()
        self._there.hold(main and self.plan.module.calls_host)
        ended = self.poll()
        if not ended:
            self._there.hold(False)
            self._quiet = False
        return ended

    def _serve_while_light(self, ended: bool, begin: float) -> bool:
        """Carry out what it calls of the host, and let it go on, as long as neither waits nor takes long."""
        while not ended and self._asked is not None and self._asked[2] <= LARGE:
            if time.thread_time() - begin > LIGHT:
                break
            ended = self._turn()
        return ended

    def _turn(self) -> bool:
        """Do as Invocation does, but look at the clock only every few calls of the host that take no time."""
        ended = super()._turn()
        for _ in range(_CALLS_OF_TURN):
            if ended or self._asked is None or self._call is not None or self._asked[2] > LARGE:
                break
            ended = super()._turn()
        return ended

    @property
    def _in_thread_at_once(self) -> bool:
        """As in Invocation, but that component.c calls no Python, and so meets no signal handler. Without it, one that
        seldom calls the host begins on the event loop, where it is held.
        """
        if self.typed is not None and self.typed.may_be_large:
            return True
        if self.plan.component.native is not None:
            return self.plan.slow or self.plan.loop_time.spent or self.plan.tenant in self.engine.reclaimer.late
        if self._quiet:
            return self.plan.slow or self.plan.loop_time.spent
        return super()._in_thread_at_once

    def _enter(self, scratch: Scratch) -> None:
        if self._kept is None:
            capi.yield_on_epoch(self._context, 1)
        if self._makes_native_call:
            if self._kept is None:
                self._remember()
            self._native = self._native_call(scratch)
            self._native.begin()
            self._future = self._native.future
            return
        self._prepare_calls()
        self._script = self._run_entry()
        self._go_on_with(None)

    def _run_entry(self) -> Generator[Request | None, Any, bytes]:
        """Call what serves a request: start functions, then the entry."""
        if self._kept is None:
            for step in self.plan.component.starts:
                instance = self.plan.component.flat.steps[step].instance
                self._calls.starts(instance, True)
                self._begin_call(self._there.start_function(step), [], _NO_FORM)
                yield None
                self._calls.starts(instance, False)
            self._remember()
        return (yield from self._answer_request())

    def _answer_request(self) -> Generator[Request | None, Any, bytes]:
        typed = self.typed
        if typed is not None:
            self._wasi.returns = True
            typed.value = yield from call_export(typed.function, self._calls, typed.values)
            return b""
        entry = self.plan.component.entry
        assert entry is not None
        return (yield from answer_request(entry, self._calls, self._wasi, self._stdin))

    async def run(self, deadline: float, guard: Guard, host: Host | None = None) -> Outcome:
        """Run as Invocation does."""
        try:
            return await super().run(deadline, guard, host)
        finally:
            calls = getattr(self, "_calls", None)  # if it was made
            if calls is not None:
                calls.tasks.close()

    @property
    def _belongs_in_thread(self) -> bool:
        if self._due is not None or self._returned is not None:
            return True
        return (self._resumes and not self._calls.scheduler.resumes_light()) or super()._belongs_in_thread

    @property
    def _time_on_loop(self) -> float:
        """More for one through which bytes flow: for them a handler in Python would use the event loop as well."""
        exchange = self.exchange
        return LIGHT if exchange is None else LIGHT + exchange.moved * _SECONDS_OF_BYTE

    def _book(self, seconds: float) -> None:
        """Count what it used of the event loop, without the time that bytes take which flow through it."""
        exchange = self.exchange
        if exchange is not None:
            moved = exchange.moved - self._unbooked
            self._unbooked += moved
            seconds = max(seconds - moved * _SECONDS_OF_BYTE, 0.0)
        super()._book(seconds)

    def poll(self) -> bool:
        if self._due is not None:
            (value,), self._due = self._due, None
            self._advance(value)
            if self._call is not None:
                return False
        if self._resumes:
            self._resumes = False
            self._go_on_with(None)
            if self._call is not None:
                return False
        if self._returned is not None:
            returned, self._returned = self._returned, None
            self._go_on_with(returned)
            if self._call is not None:
                return False
        if self._native is not None:
            return self._poll_native(self._native)
        while self._future is not None:
            if not self._run_guest(self._future):
                return False
            future, self._future = self._future, None
            capi.future_delete(future)
            if self._has_failed:
                return True
            results = self._core_call.results()
            if self._of_entry and asyncio._get_running_loop() is not None and not self._is_small_result(results):
                self._returned = results
                return False
            self._go_on_with(results)
            if self._call is not None:
                return False
        return True

    def _is_small_result(self, results: list[int]) -> bool:
        """Return whether what was called for the request has returned what is lifted in no time."""
        entry = self.plan.component.entry
        function = self.typed.function if self.typed is not None else None if entry is None else entry.function
        if function is None or function.options.is_async or function.options.memory is None:
            return True
        if self._called is not function.core:  # it is a task of another component
            return True
        spilled = signature(function.type, lowered=False).result_spilled
        memory = self._there.memory(function.options.memory)
        return not spilled or is_small_in_memory(function.type.result, memory, results[0] & 0xFFFFFFFF)

    def _run_guest(self, future: int) -> bool:
        """Let the guest go on. True if what was called of it has returned."""
        native = self.plan.component.native
        if native is None:
            returned: bool = capi.future_poll(future)
            return returned
        self._hand_over()
        how = self._polled(partial(native.component_poll, self._there.state_at, future))
        if how == ASKED:
            self._note()
        return how == ENDED

    def _go_on_with(self, sent: list[int] | None) -> None:
        """Let the entry's script go on to its next call, if there is one."""
        assert self._script is not None
        try:
            request = self._script.send(sent)
        except StopIteration as done:
            self._answer = done.value
            return
        except CanonicalTrap as trap:
            self._ended_by = trap
            return
        except (ValueMismatchError, UnicodeEncodeError) as error:
            self._mismatch = error
            return
        if isinstance(request, glue.GuestCall):
            self._begin_call(self._there.item(request.item), request.arguments, request.form)
            self._called = request.item
            self._of_entry = request.kind in (glue.CALL, glue.ANY)
            self._there.state.quick = self._of_entry
        elif isinstance(request, Await):
            self._call = partial(self._wait_between, request.begin)

    async def _wait_between(self, begin: Callable[[], Awaitable[Value]]) -> int:
        """Wait between two calls of the guest, as a task does."""
        try:
            await self._awaited(begin)
            self._resumes = True
        except CanonicalTrap as trap:
            self._ended_by = trap
        return 0
