"""``Execution``: runs a guest once. The base class for calls, health checks and shadow copies.

``EncodedExecution`` is for a request that C has encoded; request_execution.py has the subclass for an EdgeRequest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from ..components.errors import CanonicalTrap
from ..components.kinds import begin, resume
from ..engine.fast_path import Encoded, Inputs
from ..engine.invocation import Guard, Invocation
from ..engine.outcome import End, Outcome
from ..exceptions import ExecutionTimeout, FunctionOverloaded, InvalidFunctionResponse, WasmError
from ..functions.target import Target
from ..messages import EdgeContext, EdgeRequest, EdgeResponse
from ..protocols import LOOP_TOKENS, LongAnswerError, ResponseError
from ..protocols.headers import Rendered, with_request_id
from ..sync.threads import FairThreads
from ..telemetry import IDLE_WATCH, CallTelemetry, log_after_answer
from ..telemetry.conventions import Attribute
from .faults import fault_of
from .inputs import inputs_of_encoded
from .off_loop import rendered
from .options import CallOptions

if TYPE_CHECKING:
    from ..capabilities import Capabilities, Grants, Session
    from ..components.flat_plan import ImportedFunction
    from ..components.typed import Linked
    from ..components.values import Value

R = TypeVar("R")
Nested = Callable[[Target, EdgeRequest, CallOptions], Awaitable[EdgeResponse]]
_LARGE = 256 << 10
"""Bytes of stdout from which a response is decoded beside the event loop."""
_decoding = FairThreads("starlette-wasm-decode", most=4, each=1)


class Execution(Generic[R]):
    """Runs a guest once, from its inputs to its answer. Whether and when it may run is the caller's concern."""

    __slots__ = ("_failed", "_nested", "_options", "context", "guest", "limit", "session", "started_at", "target")

    def __init__(self, target: Target, context: EdgeContext, nested: Nested, options: CallOptions) -> None:
        """Take ``nested``, which calls the functions that satisfy imports of this one."""
        self._nested = nested
        self._failed: WasmError | None = None
        """Why a function that satisfies an import gave no answer."""
        self.target = target
        self.context = context
        self._options = options
        self.limit = target.plan.limits.time
        """Seconds that the guest has."""
        self.guest: Outcome | Invocation | None = None
        """The guest, if it was started before run()."""
        self.started_at = math.inf
        """When the guest's time began, on time.monotonic()."""
        self.session: Session | None = None
        """What the guest asked of the host; None if it cannot ask."""

    def inputs(self) -> Inputs | None:
        """Return what the guest reads; None if there is too much of it for the event loop."""
        raise NotImplementedError

    async def inputs_off_loop(self, guard: Guard) -> Inputs:
        """Encode as inputs() does, in a thread."""
        raise NotImplementedError

    def read(self, stdout: bytes) -> R | None:
        """Decode stdout; return None if that takes too long for the event loop. Raises ResponseError."""
        raise NotImplementedError

    async def read_off_loop(self, stdout: bytes) -> R:
        """Read as read() does, in a thread if that takes long."""
        raise NotImplementedError

    def already_answered(self) -> R | None:
        """Return the answer that the client has got while the guest ran; None if it has got none."""
        return None

    def hand_over(self, watch: CallTelemetry) -> None:
        """Put the trace of the guest's span, which begins now, into the request. Here there is no request."""

    @property
    def ran(self) -> float:
        """Seconds that a guest has run which was started before run()."""
        return self.guest.ran if isinstance(self.guest, Invocation) else 0.0

    async def run(
        self, capabilities: Capabilities, grants: Grants | None, guard: Guard, watch: CallTelemetry = IDLE_WATCH
    ) -> Outcome:
        """Run the guest to its end, from now on.

        Raises EngineError, OSError, MemoryError, OutOfInstances, TooBusy, and what ``guard`` raises.
        """
        self.started_at = time.monotonic() - self.ran
        deadline = self.started_at + self.limit
        self.hand_over(watch)
        session = None
        if grants is not None:
            from ..capabilities.session import Session  # loaded with the grants

            session = self.session = Session(
                capabilities, grants, deadline=deadline, observer=watch.observer, recorder=watch.recorder
            )
        found = self.guest
        if found is None:
            inputs = self.inputs()
            found = self._begin(await self.inputs_off_loop(guard) if inputs is None else inputs)
        elif isinstance(found, Invocation):
            resume(found, self._options.caller.stream, self._linked)
        if isinstance(found, Outcome):
            return found
        try:
            return await found.run(deadline, guard, session)
        except BaseException:
            watch.given_up(found.cpu)
            raise

    def _begin(self, inputs: Inputs) -> Outcome | Invocation:
        """Begin the guest. Return its Outcome if C has run it to its end, else an Invocation to be run."""
        target, options = self.target, self._options
        if target.fast_path is not None and target.fast_path.runs:
            found = target.fast_path.run(inputs)
            if found is not None:
                return found
        return begin(target.plan, *inputs.parts, options.caller.stream, options.typed, self._linked)

    @property
    def _linked(self) -> Linked | None:
        """What answers the imports that other functions satisfy."""
        if not self.target.links:
            return None
        from ..components.typed import Linked

        return Linked(self.target.links, self._call_linked)

    async def _call_linked(self, function: ImportedFunction, values: Sequence[Value]) -> Value:
        """Call the function that satisfies an import: in this trace, within this deadline. Raises CanonicalTrap."""
        from ..components.typed import TypedCall

        link, context = self.target.links[function], self.context
        headers = {"x-request-id": context.request_id, "x-region": context.region}
        if context.traceparent is not None:
            headers["traceparent"] = context.traceparent
        request = EdgeRequest(method="POST", path=f"/{link.name}", headers=headers)
        typed = TypedCall(link.function, values)
        left = max(self.limit - self.took, 0.0)
        attributes = {Attribute.EXPORT.value: link.name}
        try:
            await self._nested(link.target, request, CallOptions(typed=typed, timeout=left, attributes=attributes))
        except WasmError as error:
            self._failed = error
            raise CanonicalTrap(f"a function that it imports failed: {error}".partition("\n")[0]) from None
        return typed.value

    def _fault(self, outcome: Outcome) -> WasmError | None:
        """Return the error that an outcome stands for, or None.

        If a function that satisfies an import was overloaded, or used up the time, that counts as this one's error.
        """
        target, failed = self.target, self._failed
        if isinstance(failed, FunctionOverloaded):
            return failed
        if isinstance(failed, ExecutionTimeout) and self.took >= self.limit:
            return ExecutionTimeout(target.name, target.version, limit_ms=math.ceil(self.limit * 1000))
        return None if outcome.end is End.OK else fault_of(target, outcome, self.limit)

    @property
    def took(self) -> float:
        """Seconds since the guest's time began, without those that it waited for the client."""
        stream = self._options.caller.stream
        return time.monotonic() - self.started_at - (0.0 if stream is None else stream.waited)

    async def response(self, outcome: Outcome, watch: CallTelemetry = IDLE_WATCH) -> R:
        """Return what the guest answered. Raises FunctionError."""
        target = self.target
        fault = None if outcome.end is End.OK and self._failed is None else self._fault(outcome)
        if fault is not None and (answered := self.already_answered()) is not None:
            log_after_answer(fault, self.context)
            watch.executed(outcome, None)
            return answered
        watch.executed(outcome, fault)
        if fault is not None:
            raise fault
        try:
            answer = self.read(outcome.stdout)
            return await self.read_off_loop(outcome.stdout) if answer is None else answer
        except ResponseError as error:
            raise InvalidFunctionResponse(
                target.name, target.version, problem=error.problem, offset=error.offset, hint=_stray(outcome.stdout)
            ) from None


class EncodedRequest(NamedTuple):
    """An HTTP request that C has encoded."""

    encoded: Encoded
    again: Callable[[str | None, str | None, str], Encoded | None] | None
    """If somebody listens: encodes it with another trace, and the id that it has."""

    @property
    def request_id(self) -> str:
        """What the guest gets."""
        return self.encoded.request_id


class EncodedExecution(Execution[Rendered]):
    """An execution from what C made of an HTTP request to the answer for ASGI."""

    __slots__ = ("_again", "_encoded", "_method")

    def __init__(
        self, target: Target, request: EncodedRequest, method: str, region: str, nested: Nested, options: CallOptions
    ) -> None:
        self._encoded, self._again = encoded, _ = request
        self._method = method
        context = EdgeContext(encoded.request_id, region, False, target.name, target.version, target.deadline_ms)
        context.traceparent = encoded.traceparent
        super().__init__(target, context, nested, options)

    @property
    def seen(self) -> EdgeRequest:
        """What telemetry sees of the request: the context, and the client's trace."""
        traceparent = self.context.traceparent
        return EdgeRequest(headers={} if traceparent is None else {"traceparent": traceparent}, context=self.context)

    def hand_over(self, watch: CallTelemetry) -> None:
        context = self.context
        before = context.traceparent
        watch.executing(self.seen, context)
        if self._again is None or context.traceparent == before:
            return
        encoded = self._again(context.traceparent, context.tracestate, context.request_id)
        if encoded is None:
            raise MemoryError("there was none to encode the request again")
        self._encoded = encoded

    def inputs(self) -> Inputs:
        context = self.context
        return inputs_of_encoded(self.target, self._encoded, context.request_id, context.region, context.traceparent)

    def read(self, stdout: bytes) -> Rendered | None:
        fast_path = self.target.fast_path
        assert fast_path is not None, "it has encoded the request"
        found = fast_path.decode(stdout, self.context.request_id, self._method)
        return None if found is None else Rendered(*found)

    async def read_off_loop(self, stdout: bytes) -> Rendered:
        tenant = self.target.tenant
        answer = await rendered(tenant, await decoded(self.target, stdout), self._method)
        return answer._replace(headers=with_request_id(answer.headers, self.context.request_id))


async def decoded(target: Target, stdout: bytes) -> EdgeResponse:
    """Return the response that a guest wrote. Raises ResponseError."""
    if len(stdout) <= _LARGE:
        with suppress(LongAnswerError):
            return target.protocol.decode(stdout, LOOP_TOKENS)
    return await _decoding.run(target.tenant, lambda: target.protocol.decode(stdout))


def _stray(stdout: bytes) -> str:
    """Return the remark about stdout that begins or ends with what looks like a line of a log; empty if it does not."""
    text = stdout.strip()
    ends = (text.partition(b"\n")[0].rstrip(), text.rpartition(b"\n")[2])
    strays = [line for line in ends if line and not line.startswith((b"{", b"}")) and not line.endswith(b"}")]
    if not strays or b"{" not in stdout:
        return ""
    return f"; {strays[0][:80].decode('utf-8', 'replace')!a} is not part of the answer: logs belong on stderr"
