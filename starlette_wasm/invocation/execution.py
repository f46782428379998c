"""``Execution``: one run of a guest. What calls, health checks and shadow copies have in common."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from ..capabilities import Capabilities, Grants, Session
from ..components.errors import CanonicalTrap
from ..components.flat_plan import ImportedFunction
from ..components.invocation import begin
from ..components.typed import Linked, TypedCall
from ..components.values import Value
from ..config.settings import RequestSettings
from ..engine.invocation import Guard, Invocation
from ..engine.outcome import Outcome
from ..exceptions import ExecutionTimeout, FunctionOverloaded, InvalidFunctionResponse, WasmError
from ..functions.target import Target
from ..messages import EdgeRequest, EdgeResponse
from ..protocols import LOOP_TOKENS, LongAnswerError, ResponseError
from ..sync.threads import FairThreads
from ..telemetry import IDLE_WATCH, CallTelemetry, log_after_answer
from ..telemetry.conventions import Attribute
from .context import context_of
from .faults import fault_of
from .inputs import inputs_of
from .off_loop import is_large, off_loop
from .options import DEFAULT_OPTIONS, CallOptions

Nested = Callable[[Target, EdgeRequest, CallOptions], Awaitable[EdgeResponse]]
_LARGE = 256 << 10
"""Bytes of stdout from which a response is decoded beside the event loop."""
_decoding = FairThreads("starlette-wasm-decode", most=4, each=1)


class Execution:
    """Runs a guest once, from the request to its response. Whether and when it may run is the caller's concern."""

    __slots__ = ("_failed", "_nested", "_options", "begin", "context", "limit", "ran", "request", "session", "target")

    def __init__(
        self,
        target: Target,
        request: EdgeRequest,
        settings: RequestSettings,
        nested: Nested,
        options: CallOptions = DEFAULT_OPTIONS,
    ) -> None:
        """Fill in ``request.context``. ``nested`` calls the functions that satisfy imports of this one."""
        self._nested = nested
        self._failed: WasmError | None = None
        """Why a function that satisfies an import gave no answer."""
        self.target = target
        self.request = request
        self._options = options
        headers = request.headers if options.headers is None else options.headers
        context = request.context = context_of(settings, target, headers, cold=bool(options.caller.cold))
        self.context = context
        self.limit = target.plan.limits.time
        """Seconds that the guest has."""
        if options.timeout is not None:
            self.limit = min(options.timeout, self.limit)
            context.deadline_ms = math.ceil(self.limit * 1000)
        self.ran = 0.0
        """Seconds that a guest has run which the fast path started."""
        if options.started is not None:
            context.request_id, self.ran = options.started.request_id, options.started.invocation.ran
        self.begin = math.inf
        """When the guest's time began, on time.monotonic()."""
        self.session: Session | None = None
        """What the guest asked of the host; None if it cannot ask."""

    async def run(
        self, capabilities: Capabilities, grants: Grants | None, guard: Guard, watch: CallTelemetry = IDLE_WATCH
    ) -> Outcome:
        """Run the guest to its end, from now on.

        Raises EngineError, OSError, MemoryError, OutOfInstances, TooBusy, and what ``guard`` raises.
        """
        self.begin = time.monotonic() - self.ran
        deadline = self.begin + self.limit
        context, options = self.context, self._options
        self.request.context = context  # again: the request may be shared, and others came while this one waited
        self.request = watch.executing(self.request, context)
        session = None
        if grants is not None:
            session = self.session = Session(
                capabilities, grants, deadline=deadline, observer=watch.observer, recorder=watch.recorder
            )
        invocation = await self._begun(guard) if options.started is None else options.started.invocation
        try:
            return await invocation.run(deadline, guard, session)
        except BaseException:
            watch.given_up(invocation.cpu)
            raise

    async def _begun(self, guard: Guard) -> Invocation:
        """The invocation of a guest that has yet to run."""
        target, request, options = self.target, self.request, self._options
        inputs = partial(inputs_of, target, request, self.context, options.route, options.caller.client)
        if is_large(request):
            async with guard():
                encoded = await off_loop(target.tenant, inputs, self.limit)
        else:
            encoded = inputs()
        return begin(target.plan, *encoded, options.caller.stream, options.typed, self._linked)

    @property
    def _linked(self) -> Linked | None:
        """What answers the imports that other functions satisfy."""
        return Linked(self.target.links, self._call_linked) if self.target.links else None

    async def _call_linked(self, function: ImportedFunction, values: Sequence[Value]) -> Value:
        """Call the function that satisfies an import: in this trace, within this deadline. Raises CanonicalTrap."""
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
        """The error that an outcome is. What a function that satisfies an import lacked, this one lacked."""
        target, failed = self.target, self._failed
        if isinstance(failed, FunctionOverloaded):
            return failed
        if isinstance(failed, ExecutionTimeout) and self.took >= self.limit:
            return ExecutionTimeout(target.name, target.version, limit_ms=math.ceil(self.limit * 1000))
        return fault_of(target, outcome, self.limit)

    @property
    def took(self) -> float:
        """Seconds since the guest's time began, without those that it waited for the client."""
        stream = self._options.caller.stream
        return time.monotonic() - self.begin - (0.0 if stream is None else stream.waited)

    async def response(self, outcome: Outcome, watch: CallTelemetry = IDLE_WATCH) -> EdgeResponse:
        """Return what the guest answered. Raises FunctionError."""
        target = self.target
        fault = self._fault(outcome)
        stream = self._options.caller.stream
        if fault is not None and stream is not None and stream.finished and stream.head is not None:
            log_after_answer(fault, self.context)
            watch.executed(outcome, None)
            return stream.head
        watch.executed(outcome, fault)
        if fault is not None:
            raise fault
        if self._options.typed is not None:
            return EdgeResponse(200)
        try:
            return await _decoded(target, outcome.stdout)
        except ResponseError as error:
            raise InvalidFunctionResponse(
                target.name, target.version, problem=error.problem, offset=error.offset, hint=_stray(outcome.stdout)
            ) from None


async def _decoded(target: Target, stdout: bytes) -> EdgeResponse:
    """The response that a guest wrote. Raises ResponseError."""
    if len(stdout) <= _LARGE:
        with suppress(LongAnswerError):
            return target.protocol.decode(stdout, LOOP_TOKENS)
    return await _decoding.run(target.tenant, lambda: target.protocol.decode(stdout))


def _stray(stdout: bytes) -> str:
    """The remark about stdout that begins or ends with what looks like a line of a log; empty if it does not."""
    text = stdout.strip()
    ends = (text.partition(b"\n")[0].rstrip(), text.rpartition(b"\n")[2])
    strays = [line for line in ends if line and not line.startswith((b"{", b"}")) and not line.endswith(b"}")]
    if not strays or b"{" not in stdout:
        return ""
    return f"; {strays[0][:80].decode('utf-8', 'replace')!a} is not part of the answer: logs belong on stderr"
