"""One invocation of a component: the calls of its entry, and what its guests call meanwhile.

Driven as any invocation (engine/invocation.py). In a poll the guest runs; what it calls of the host is noted by the
glue's ``step`` and carried out when the guest has been left, on the event loop or in a worker thread.
"""

from __future__ import annotations

import asyncio
import ctypes
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import partial
from typing import Any, Self

from ..capabilities import Session
from ..engine import capi
from ..engine.invocation import LARGE, LIGHT, Guard, Host, Invocation
from ..engine.loop_time import CALM
from ..engine.native.component_state import ComponentState
from ..engine.outcome import End, Outcome
from ..engine.plan import NO_STRINGS
from ..engine.scratch import Scratch
from ..sync.cancel_scope import Interrupted, Why
from . import glue
from .bound import ComponentPlan
from .calls import Await, Calls, Imports, Request, is_always_allowed
from .direct_calls import TooLargeError
from .edge_call import ASKED, ENDED, EdgeCall
from .entries import answer_of, answer_request, call_export
from .errors import CanonicalTrap, OutOfTime
from .files.granted import Files
from .flat_plan import AsyncFunction, CoreItem, HostFunction, LiftedFunction
from .handles import HandleTable
from .held import Held, is_small
from .http_call import HttpCall, HttpRequest
from .http_exchange import HttpExchange, InvalidHead, do_nothing
from .instance import CoreInstances
from .lent_streams import LentStreams
from .quick_answers import Quick
from .restore import Kept
from .side import NO_MEMORY, Memory
from .typed import Linked, LinkedImports, TypedCall
from .types import Signature, signature
from .values import Value, ValueMismatchError
from .wasi.exchange_streams import RequestStream, ResponseStream
from .wasi.host import Bounds, GuestExit, GuestInput, OutputOverflow, WasiHost, strings_of
from .wasi.http import read_message
from .weights import is_small as is_small_in_memory
from .weights import passes

_FIRST_POLL = 2  # ticks, as in engine/instance.py
_KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3}
_BITS = {"i32": struct.Struct("<Ixxxx"), "i64": struct.Struct("<Q"), "f32": struct.Struct("<Ixxxx"),
         "f64": struct.Struct("<Q")}  # fmt: skip
_VALUE_OF = capi.Value.of.offset
_VALUE_SIZE = ctypes.sizeof(capi.Value)
_CALLS_OF_TURN = 7
_SECONDS_OF_BYTE = 0.002 / (1 << 20)
"""Time that a handler may use on the event loop for what it streams: 2 ms for a MiB."""
_GIVE_OF_OTHERS = (*glue.EVENT_GIVERS, "cancel-write", "future.read")
"""Built-ins that give what others have begun."""
_NO_FORM = Signature((), (), False, False)


class ComponentInvocation(Invocation):
    """An Invocation of a component: bytes in, bytes out."""

    __slots__ = (
        *(
            "_answer",
            "_arguments",
            "_called",
            "_calls",
            "_cores",
            "_due",
            "_ended_by",
            "_form",
            "_kept",
            "_lent",
            "_mismatch",
        ),
        *("_native", "_of_entry", "_quiet", "_resumes", "_returned", "_script", "_stack", "_unbooked", "_wasi"),
        *("_well_ended", "content", "exchange", "is_packed", "linked", "typed"),
    )

    plan: ComponentPlan

    def __init__(self, plan: ComponentPlan, stdin: bytes, environ: bytes = NO_STRINGS, args: bytes = b"") -> None:
        super().__init__(plan, stdin, environ, args)
        self.host = None  # an instance may be made only to see whether that goes
        self._script: Generator[Request | None, Any, bytes] | None = None
        self._stack: list[tuple[int, Generator[Request, Any, list[int]]]] = []
        self._native: EdgeCall | HttpCall | None = None
        """The call that component.c makes, in the place of the script."""
        self._of_entry = False
        """Whether the function of the guest that runs is one for a request, and not one that gives it room."""
        self._called: CoreItem | None = None
        """The function that was called last."""
        self._answer = b""
        self._ended_by: CanonicalTrap | None = None
        self._mismatch: ValueError | None = None
        self._kept: Kept | None = None
        self._well_ended = False
        self._due: tuple[Value] | None = None
        """What a call of the host has given, until it is written to the guest's memory in a thread."""
        self._returned: list[int] | None = None
        """What the function for a request has returned, until it is lifted in a thread."""
        self._resumes = False
        """Whether a task goes on, as what it waited for is there."""
        self.exchange: HttpExchange | None = None
        """The request, if a handler is to answer it as it comes: set before it is started."""
        self._lent: LentStreams | None = None
        """What C may use of its streams."""
        self._unbooked = 0
        """Bytes through it for which time on the event loop was not counted."""
        self.typed: TypedCall | None = None
        """What is called in the place of the entry, likewise."""
        self.linked: Linked | None = None
        """What other functions answer, likewise."""
        self.is_packed = False
        """Whether its input is the head of a request, packed, and no message of the ``edge`` protocol."""
        self.content = b""
        """The body of that request."""
        entry = plan.component.entry
        self._quiet = entry is not None and entry.world == "edge"
        """Whether it is to begin on the event loop, if it calls the host or not: what stubs WASI does not."""
        self._cores: CoreInstances | None = None

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

    def _make(self, scratch: Scratch) -> None:
        kept = self._kept = self.plan.component.keeper.take(self.plan)
        if kept is None:
            state = ComponentState()
            data = self.number if self.plan.component.native is None else ctypes.addressof(state)
            self._store = capi.store_new(self.engine.ptr, data, None)
            self._cores = cores = CoreInstances(self.plan, self._store, scratch, state)
            self._context = cores.context
            self._instantiated = True
        else:
            self._hold(kept, scratch)
            kept.cores.forget_request()
            if self.plan.component.native is None:
                kept.cores.hold(False)

    def _hold(self, kept: Kept, scratch: Scratch) -> None:
        """Go on with an instance that was restored, under the number that its store has."""
        self._kept, self._store, self._cores = kept, kept.store, kept.cores
        if kept.number:
            self.engine.live.pop(self.number, None)
            self.number = kept.number
            self.engine.live[self.number] = self
        kept.cores.lend(scratch)
        self._context = kept.cores.context
        self._instantiated = True

    def _prepare_calls(self) -> None:
        """Make what answers the guest's calls of the host, if it is not there yet."""
        if getattr(self, "_calls", None) is None:
            imports = self._imports()
            instances = self.plan.component.flat.instances
            self._calls = Calls(instances, self._there.memory, imports, self._wasi.wakeup, self._room_of_values,
                                self._check_time)  # fmt: skip
            self._calls.held = Held(self._spare)

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

    @property
    def _makes_native_call(self) -> bool:
        """Whether component.c makes the call as a whole."""
        component = self.plan.component
        started = self._kept is not None or not component.starts
        return (component.makes_edge_calls or component.makes_http_calls) and self.typed is None and started

    def _native_call(self, scratch: Scratch) -> EdgeCall | HttpCall:
        entry = self.plan.component.entry
        assert entry is not None
        if entry.world == "edge":
            return EdgeCall(self._there, entry.function, self._stdin, scratch, self._room_of_values)
        strings = self._environ, self.plan.args
        return HttpCall(self._there, entry.function, self._http_request(), scratch, strings, self.plan.limits.stdout)

    def _http_request(self) -> HttpRequest:
        if self.is_packed:
            return HttpRequest(self._stdin, content=self.content)
        head, content = read_message(self._stdin)
        if self.exchange is None:
            return HttpRequest(head.pack(), head, content)
        content, is_whole = self.exchange.request.peek()
        return HttpRequest(head.pack(), head, content, is_whole=is_whole)

    @property
    def _there(self) -> CoreInstances:
        assert self._cores is not None, "it is closed, or was not started"
        return self._cores

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

    def _remember(self) -> None:
        """Take down the first state, if it does not depend on the host, for instances that are restored."""
        if not self.plan.restores or self.host_calls:
            return
        if self.plan.snapshot is None:
            self.plan.snapshot = self.plan.component.keeper.snapshots.of(self._there)
        assert self._store is not None
        self._there.save_globals()
        self._kept = Kept(self.plan, self._store, self._there, self.number)

    def _answer_request(self) -> Generator[Request | None, Any, bytes]:
        typed = self.typed
        if typed is not None:
            self._wasi.returns = True
            typed.value = yield from call_export(typed.function, self._calls, typed.values)
            return b""
        entry = self.plan.component.entry
        assert entry is not None
        return (yield from answer_request(entry, self._calls, self._wasi, self._stdin))

    def _imports(self) -> Imports:
        limits = self.plan.limits
        environ = [(name, value) for name, _, value in (each.partition("=") for each in strings_of(self._environ))]
        self._wasi = WasiHost(
            self.plan.component.offers,
            GuestInput(self._stdin, strings_of(self.plan.args), environ, self.plan.config),
            Bounds(limits.stdout, limits.stderr, self.engine.config.clock_resolution_ns, self._spare // 4),
            edge_call=self._edge_call,
            exchange=self.exchange,
            session=self.host if isinstance(self.host, Session) else None,
            room=lambda: self._room(sum(self._there.sizes())),
            files=Files(self.plan.preopens, limits, self.plan.tenant),
        )
        self._wasi.returns = isinstance(self._native, EdgeCall)
        return self._wasi if self.linked is None else LinkedImports(self._wasi, self.linked)

    def _room(self, used: int) -> int:
        """Return how many bytes a call may copy, beside what calls under way hold."""
        calls = getattr(self, "_calls", None)  # component.c may have called the guest, and nothing else
        return max(super()._room(used) - (0 if calls is None else calls.held.size), 0)

    def _check_time(self) -> None:
        if self.is_over:
            raise OutOfTime("time limit exceeded")

    def _room_of_values(self) -> int:
        """Return how many bytes the values of a call may take: what is left of the memory, and an answer."""
        return self._room(sum(self._there.sizes())) + self.plan.limits.stdout

    def _edge_call(self, operation: int, payload: bytes) -> Value | Await:
        """Answer ``call`` of the world ``edge`` as ``edge.call`` of a core module is."""
        if self.host is None:
            raise CanonicalTrap("there is nothing here that answers calls of the host")
        answer = self.host.take(operation, memoryview(payload), self._room(sum(self._there.sizes())))
        return answer if isinstance(answer, bytes) else Await(answer)

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
            results = self._results()
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

    def _polled(self, poll: Callable[[], int]) -> int:
        """Let the guest go on, with what C may use of its streams."""
        lent = self._lent
        if lent is None:
            return poll()
        lent.lend()
        try:
            return poll()
        finally:
            lent.take_back()

    def _poll_native(self, call: EdgeCall | HttpCall) -> bool:
        self._hand_over()
        return self._come_to(call, call.poll)

    def _come_to(self, call: EdgeCall | HttpCall, poll: Callable[[], int]) -> bool:
        """Let the guest go on, and return whether it has ended."""
        try:
            how = self._polled(poll)
            if isinstance(call, HttpCall):
                self._follow(call, how)
        except CanonicalTrap as trap:
            self._ended_by = trap
            how = ENDED
        finally:  # component.c frees each call that has ended, whatever comes of its result
            self._future = call.future
        if how == ASKED:
            self._note()
        elif how == ENDED and call.answer is not None and self._ended_by is None:
            self._answer = call.answer
            if len(call.answer) > self.plan.limits.stdout and isinstance(call, EdgeCall):
                self._ended_by = OutputOverflow(f"more than {self.plan.limits.stdout} bytes of output")
        return how == ENDED

    def _follow(self, call: HttpCall, how: int) -> None:
        """Let Python have what a handler has done, if it is not all done in C: what waits is to leave meanwhile."""
        if self.exchange is not None and how != ASKED:
            self._take_over(call)
        if how == ENDED and not self._has_failed and (call.answer is None or self.exchange is not None):
            self._take_over(call)
            call.answer = answer_of(call.outparam, self._wasi)

    def _follow_to_end(self, call: HttpCall) -> None:
        """Let Python have what a handler has done that has ended before there was anything else to take its answer."""
        try:
            self._follow(call, ENDED)
        except CanonicalTrap as trap:
            self._ended_by = trap

    @property
    def _has_failed(self) -> bool:
        scratch = self._made
        return bool(scratch.trap.value or scratch.error.value or self._ended_by)

    def _take_over(self, call: HttpCall) -> None:
        """Have Python answer what a handler calls from now on."""
        if call.is_open:
            self._prepare_calls()
            call.take_over(self._calls, self._wasi)

    def _hand_over(self) -> None:
        """Give component.c the result of the call that the guest waits for."""
        state, result = self._there.state, self._result
        if state.asked and result is not None:
            state.result = result & 0xFFFFFFFF
            state.quick = result == glue.DONE and not self._stack and self._calls_freely
            state.answered = True

    @property
    def _calls_freely(self) -> bool:
        """Whether what runs of the guest may call the host."""
        return self._of_entry if self._native is None else self._native.may_call_host

    def _note(self) -> None:
        """Note what the guest has called, and whether that is for the event loop."""
        state = self._there.state
        number, frame = state.number, state.frame
        self.wait_for_host(number, frame, 0 if self._is_light(number, frame) else LARGE + 1)

    def _is_light(self, number: int, frame: int) -> bool:
        host = self.plan.component.flat.hosts[number]
        if self._stack and self._stack[-1][0] == frame:
            return not isinstance(host.of, LiftedFunction)  # whose result, of whatever size, is read now
        checks = self.plan.component.checks[number]
        if isinstance(host.of, AsyncFunction) and host.of.name.endswith(_GIVE_OF_OTHERS):
            calls = getattr(self, "_calls", None)
            flat = self._read(frame, 0, self.plan.component.arities[number])
            if calls is not None and not calls.tasks.is_light(host.of, calls.state(host.instance), flat):
                return False
        if not checks:
            return checks is not None
        flat = self._read(frame, 0, self.plan.component.arities[number])
        return passes(checks, flat, self._memory_of(host))

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

    def _begin_call(self, function: int, flat: list[int], form: Signature) -> None:
        count, results = len(form.params), len(form.results)
        self._arguments = values = ctypes.create_string_buffer((count + results) * _VALUE_SIZE or 1)
        for index, (kind, bits) in enumerate(zip(form.params, flat, strict=True)):
            at = index * _VALUE_SIZE
            values[at] = bytes([_KINDS[kind]])
            _BITS[kind].pack_into(values, at + _VALUE_OF, bits)
        self._form = form
        at = ctypes.addressof(values)
        scratch = self._made
        capi.set_epoch_deadline(self._context, _FIRST_POLL)
        self._future = capi.func_call_async(
            self._context, function + capi.EXTERN_OF, at, count, at + count * _VALUE_SIZE, results, scratch.trap_at,
            scratch.error_at,
        )  # fmt: skip

    def _results(self) -> list[int]:
        first = len(self._form.params) * _VALUE_SIZE + _VALUE_OF
        return [
            _BITS[kind].unpack_from(self._arguments, first + index * _VALUE_SIZE)[0]
            for index, kind in enumerate(self._form.results)
        ]

    def set_clocks(self) -> None:
        """Do nothing: there is no io memory."""

    def _serve(self) -> None:
        """Carry out what the glue's ``step`` noted. Not on the guest's stack."""
        asked, self._asked = self._asked, None
        assert asked is not None
        number, frame, _ = asked
        if self._answer_with_lent(number):
            return
        host = self.plan.component.flat.hosts[number]
        sent: Any = None
        if self._stack and self._stack[-1][0] == frame:
            sent = self._result_of_call(frame)
        else:
            self.host_calls += 1
            self._prepare_calls()
            if isinstance(self._native, HttpCall) and self._native.is_open:
                try:
                    self._native.take_over(self._calls, self._wasi)
                except CanonicalTrap as trap:
                    self._end_by(trap)
                    return
            flat = self._read(frame, 0, self.plan.component.arities[number])
            if self._forbidden(frame):
                if not is_always_allowed(host):  # the call returns, and its instance goes on
                    self._calls.forbid_leaving(host.instance)
            elif self._serve_directly(number, frame, flat):
                return
            self._stack.append((frame, self._calls.host(host, flat)))
        self._advance(sent)

    def _serve_directly(self, number: int, frame: int, flat: list[int]) -> bool:
        """Carry out a call whose types are plain. False if that is to be done step by step, from the beginning."""
        component = self.plan.component
        direct, host = component.direct_calls[number], component.flat.hosts[number]
        if direct is None:
            return False
        state = self._calls.state(host.instance)
        if not state.may_leave:
            return False
        memory = self._memory_of(host)
        try:
            value = direct.call(self._wasi, state.handles, memory, flat)
            found = None if direct.lower is None else direct.lower(state.handles, memory, flat, value)
        except TooLargeError:
            return False
        except CanonicalTrap as trap:
            self._end_by(trap)
            return True
        except Exception as error:
            raise capi.EngineError(f"a function of the host failed: {error!r}") from error
        kind = component.stream_calls.get(number)
        if kind is not None and self.exchange is not None:
            stream = self._lend(kind, number, state.handles, flat[0] & 0xFFFFFFFF)
            if isinstance(value, Await) and isinstance(stream, RequestStream) and not stream.ready():
                self._call = partial(self._wait_and_serve, number, frame, stream)
                return True
        if found is None:
            self._stack.append((frame, self._calls.answered_directly(host, flat, direct.placed, memory, value)))
            self._advance(None)
            return True
        self._write(frame, glue.RESULT, found)
        self._result = glue.DONE
        return True

    def _lend(self, kind: Quick, number: int, table: HandleTable, index: int) -> RequestStream | ResponseStream | None:
        """Let C go on with the stream that the guest uses, if it is one of its request. Return that."""
        if self._lent is None:
            assert self.exchange is not None
            self._lent = LentStreams(self.exchange)
            self._there.state.lent = self._lent.address
        return self._lent.note(kind, number, table, index)

    def _answer_with_lent(self, number: int) -> bool:
        """Let C answer a call that was left to Python, if that is of a stream for which there is more by now."""
        lent = self._lent
        if lent is None or self._stack or not lent.is_used_by(number):
            return False
        assert self.plan.component.native is not None
        lent.lend()
        try:
            answered: bool = self.plan.component.native.component_retry(self._there.state_at)
        finally:
            lent.take_back()
        self._result = glue.DONE  # C has noted what the guest is to do
        return answered

    async def _wait_and_serve(self, number: int, frame: int, stream: RequestStream) -> int:
        """Wait until there is something to read, and have the call answered from its beginning then."""
        self.host_calls -= 1
        try:
            await self._awaited(partial(self._wasi.wakeup.until, stream.ready))
        except CanonicalTrap as trap:
            self._end_by(trap)
            return glue.TRAP
        self._asked = number, frame, 0
        return glue.DONE

    def _memory_of(self, host: HostFunction) -> Memory:
        return NO_MEMORY if host.options.memory is None else self._there.memory(host.options.memory)

    def _forbidden(self, frame: int) -> bool:
        """Return whether component.c has called something of the guest that may not call the host."""
        if self._native is not None:
            if not self._native.may_call_host:
                return True
            entry = self.plan.component.entry
            assert entry is not None
            self._calls.begun(entry.function.instance)
        pending: int = self._there.state.pending
        return bool(pending) and pending != frame + 1

    def _result_of_call(self, frame: int) -> list[int]:
        return self._read(frame, glue.RESULT, 1)

    def _read(self, frame: int, slot: int, count: int) -> list[int]:
        data = capi.string_at(self._there.frames + frame + slot * glue.SLOT, count * glue.SLOT)
        return list(struct.unpack(f"<{count}Q", data))

    def _write(self, frame: int, slot: int, flat: Sequence[int]) -> None:
        data = struct.pack(f"<{len(flat)}Q", *flat)
        capi.memmove(self._there.frames + frame + slot * glue.SLOT, data, len(data))

    def _advance(self, sent: Any) -> None:
        """Let the innermost call of the host go on, and give the glue its next step."""
        frame, calling = self._stack[-1]
        try:
            request = calling.send(sent)
        except StopIteration as done:
            self._stack.pop()
            self._write(frame, glue.RESULT, done.value)
            self._result = glue.DONE
            return
        except CanonicalTrap as trap:
            self._end_by(trap)
            return
        except (ValueMismatchError, UnicodeEncodeError) as error:
            raise capi.EngineError(f"the host gave what does not fit: {error}") from error
        except Exception as error:
            raise capi.EngineError(f"a function of the host failed: {error!r}") from error
        if isinstance(request, Await):
            self._call = partial(self._wait, request.begin)
            return
        self._write(frame, glue.ARGUMENTS, request.arguments)
        if request.kind == glue.ANY_REALLOC or request.kind < 0:
            self._write(frame, glue.CALLEE, [self.plan.component.glue.slots[request.item]])
        self._result = self.plan.component.glue.number(request)

    def _end_by(self, trap: CanonicalTrap) -> None:
        """Let the glue end the guest."""
        self._ended_by = trap
        self._stack.clear()
        self._result = glue.TRAP

    async def _wait(self, begin: Callable[[], Awaitable[Value]]) -> int:
        """Answer the glue once the host has what the guest waits for."""
        try:
            value = await self._awaited(begin)
        except CanonicalTrap as trap:
            self._end_by(trap)
            return glue.TRAP
        light = self._calls.scheduler.resumes_light()
        if (
            self.linked is not None or not is_small(value) or not light
        ):  # another guest, or a store, has chosen how large it is
            self._due = (value,)
            return glue.DONE
        self._advance(value)
        while self._call is not None:
            call, self._call = self._call, None
            await call()
        assert self._result is not None
        return self._result

    async def _awaited(self, begin: Callable[[], Awaitable[Value]]) -> Value:
        exchange = self.exchange
        if exchange is None:
            return await begin()
        exchange.on_wait()
        value = await (self._wait_for_client(begin, exchange) if exchange.stalled else begin())
        if isinstance(value, Await):  # what it waited for is there, and fails
            value = await value.begin()
        return value

    async def _wait_for_client(self, begin: Callable[[], Awaitable[Value]], exchange: HttpExchange) -> Value:
        """Wait, without that being the guest's time as long as it is the client who keeps it waiting.

        Raises Interrupted if the client does not take the answer.
        """
        takes, pause = exchange.full, self.pause_time()
        bound = asyncio.timeout(exchange.patience) if takes else None

        def look() -> None:
            """Let the guest's time run, if it waits for something else than the client, such as a timer."""
            if not exchange.stalled:
                pause.end()
                if bound is not None and not bound.expired():
                    bound.reschedule(None)

        exchange.on_change = look
        try:
            if bound is None:
                return await begin()
            async with bound:
                return await begin()
        except TimeoutError:
            if bound is not None and bound.expired():
                raise Interrupted(Why.GONE) from None
            raise
        finally:
            exchange.on_change = do_nothing
            waited = pause.end()
            exchange.waited += waited
            exchange.patience -= waited if takes else 0
            if isinstance(self.host, Session):
                self.host.postpone(waited)

    def _outcome(self, *, stopped: bool = False) -> Outcome:
        scratch = self._made
        future, self._future = self._future, None
        if future:
            capi.future_delete(future)
        outcome = Outcome(End.OK, b"" if stopped else self._answer)
        cores = self._there
        outcome.memory_bytes = sum(cores.sizes())
        self.host_calls += cores.state.calls
        cores.state.calls = 0
        trap, error = scratch.take_failure()
        if error:
            outcome.end, outcome.reason = End.TRAP, capi.take_failure(error)
        if trap:
            outcome.end = End.TRAP
            outcome.reason, outcome.frames, _ = capi.take_trap(trap)
        if self._ended_by is not None:
            self._class_end(outcome, self._ended_by)
        self._well_ended = outcome.end is End.OK and not stopped and self._ended_by is None
        wasi: WasiHost | None = getattr(self, "_wasi", None)  # if it was asked for anything
        if wasi is not None:
            outcome.denials = tuple(wasi.files.budget.denials)
            outcome.stderr, outcome.stderr_dropped = bytes(wasi.stderr), wasi.stderr_dropped
        if outcome.end is End.TRAP:
            refused = cores.refused_pages()
            if refused:
                outcome.end, outcome.refused_pages = End.MEMORY, refused
        return outcome

    def _class_end(self, outcome: Outcome, end: CanonicalTrap) -> None:
        """Say how a guest ended that the host has ended."""
        outcome.frames = ()
        if isinstance(end, OutputOverflow):
            outcome.end = End.OUTPUT
        elif isinstance(end, InvalidHead):  # which whoever decodes it finds too, and explains
            outcome.end, outcome.stdout = End.OK, str(end).encode()
        elif isinstance(end, OutOfTime):
            outcome.end = End.TIMEOUT
        elif isinstance(end, GuestExit):
            outcome.end, outcome.exit_code = (End.EXIT if end.code else End.OK), end.code
            outcome.stdout = bytes(self._wasi.stdout)
        else:
            outcome.end, outcome.reason = End.TRAP, str(end)

    def _keep(self) -> None:
        """Leave an instance that has ended well to the next request."""
        kept, self._kept = self._kept, None
        if kept is None or not self._well_ended or self._future is not None or not self._store or self.engine.dead:
            return
        keeper = self.plan.component.keeper
        kept.state.dirty = True
        self.engine.live.pop(self.number, None)  # before it is offered: in another thread it may be taken at once
        self.number = 0
        if keeper.offer(kept):
            self._store = None
            keeper.clean()

    def finish(self) -> Outcome:
        """Finish as an Instance does. Raises ValueMismatchError for arguments that do not fit their types."""
        outcome = super().finish()
        if self._mismatch is not None:
            raise self._mismatch
        return outcome

    def _size(self) -> int:
        return 0 if self.engine.dead or self._cores is None else sum(self._cores.sizes())

    def _release(self) -> None:
        wasi: WasiHost | None = getattr(self, "_wasi", None)  # it may not have come to that
        if wasi is not None:
            wasi.close()
        self._keep()
        super()._release()
        self._native = None
        self._script = None
        self._stack.clear()
        self._cores = None
