"""``HostSide``: what the host does for a guest of a component while that waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ..capabilities import Session
from ..engine import capi
from ..engine.invocation import LARGE
from . import glue
from .calls import Await, is_always_allowed
from .client_wait import wait_for_client
from .direct_calls import TooLargeError
from .errors import CanonicalTrap
from .flat_plan import AsyncFunction, LiftedFunction
from .guest import ComponentGuest
from .handles import HandleTable
from .held import is_small
from .http_call import HttpCall
from .http_exchange import HttpExchange
from .lent_streams import LentStreams
from .quick_answers import Quick
from .values import Value, ValueMismatchError
from .wasi.exchange_streams import RequestStream, ResponseStream
from .weights import passes

_GIVE_OF_OTHERS = (*glue.EVENT_GIVERS, "cancel-write", "future.read")
"""Built-ins that give what others have begun."""


class HostSide(ComponentGuest):
    """Carries out what the glue's ``step`` has noted, when the guest has been left."""

    __slots__ = ()

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

    def _serve(self) -> None:
        """Carry out what the glue's ``step`` noted. Not on the guest's stack."""
        asked, self._asked = self._asked, None
        assert asked is not None
        number, frame, _ = asked
        if self._lent is not None and self._lent.is_used_by(number) and self._serve_stream(self._lent, number, frame):
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
                assert self._lent is not None
                self._lent.waits = number + 1
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

    def _serve_stream(self, lent: LentStreams, number: int, frame: int) -> bool:
        """Let C answer a call of a stream that was left to Python, if there is more for it by now, or wait for more.

        False if Python is to answer it.
        """
        native, state = self.plan.component.native, self._there.state
        if native is None or self._stack or not state.quick:
            return False
        stream = lent.awaited(number, self._read(frame, 0, 1)[0] & 0xFFFFFFFF)
        if stream is not None and not stream.ready():
            self.host_calls += 1
            self._call = partial(self._wait_and_serve, number, frame, stream)
            return True
        lent.lend()
        try:
            if not native.component_retry(self._there.state_at):
                return False
        finally:
            lent.take_back()
        self._result = glue.DONE  # C has noted what the guest is to do
        return True

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

    @property
    def _calls_freely(self) -> bool:
        """Whether what runs of the guest may call the host."""
        return self._of_entry if self._native is None else self._native.may_call_host

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
        ):  # another guest, or a store, has chosen its size
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

    def _wait_for_client(self, begin: Callable[[], Awaitable[Value]], exchange: HttpExchange) -> Awaitable[Value]:
        postpone = self.host.postpone if isinstance(self.host, Session) else None
        return wait_for_client(begin, exchange, self.pause_time(), postpone)
