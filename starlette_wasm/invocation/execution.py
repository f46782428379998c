"""``Execution``: one run of a guest. What calls, health checks and shadow copies have in common."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from functools import partial

from ..capabilities import Capabilities, Grants, Session
from ..components.invocation import begin
from ..config.settings import RequestSettings
from ..engine.invocation import Guard
from ..engine.outcome import Outcome
from ..exceptions import InvalidFunctionResponse
from ..functions.target import Target
from ..messages import EdgeRequest, EdgeResponse
from ..protocols import LOOP_TOKENS, LongAnswerError, ResponseError
from ..sync.threads import FairThreads
from ..telemetry import IDLE_WATCH, CallTelemetry, log_after_answer
from .context import context_of
from .faults import fault_of
from .inputs import inputs_of
from .off_loop import is_large, off_loop
from .options import DEFAULT_OPTIONS, CallOptions

_LARGE = 256 << 10
"""Bytes of stdout from which a response is decoded beside the event loop."""
_decoding = FairThreads("starlette-wasm-decode", most=4, each=1)


class Execution:
    """Runs a guest once, from the request to its response. Whether and when it may run is the caller's concern."""

    __slots__ = ("_options", "begin", "context", "limit", "ran", "request", "session", "target")

    def __init__(
        self, target: Target, request: EdgeRequest, settings: RequestSettings, options: CallOptions = DEFAULT_OPTIONS
    ) -> None:
        """Fill in ``request.context``."""
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
        context, target, options = self.context, self.target, self._options
        self.request.context = context  # again: the request may be shared, and others came while this one waited
        request = self.request = watch.executing(self.request, context)
        session = None
        if grants is not None:
            session = self.session = Session(
                capabilities, grants, deadline=deadline, observer=watch.observer, recorder=watch.recorder
            )
        if options.started is not None:
            return await options.started.invocation.run(deadline, guard, session)
        inputs = partial(inputs_of, target, request, context, options.route, options.caller.client)
        if is_large(request):
            async with guard():
                encoded = await off_loop(target.tenant, inputs, self.limit)
        else:
            encoded = inputs()
        return await begin(target.plan, *encoded, options.caller.stream, options.typed).run(deadline, guard, session)

    @property
    def took(self) -> float:
        """Seconds since the guest's time began, without those that it waited for the client."""
        stream = self._options.caller.stream
        return time.monotonic() - self.begin - (0.0 if stream is None else stream.waited)

    async def response(self, outcome: Outcome, watch: CallTelemetry = IDLE_WATCH) -> EdgeResponse:
        """Return what the guest answered. Raises FunctionError."""
        target = self.target
        fault = fault_of(target, outcome, self.limit)
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
