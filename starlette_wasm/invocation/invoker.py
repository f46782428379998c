"""``Invoker``: calls functions, from the place in the queue to the response, with all telemetry."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ..engine.fast_path import Decoded
from ..engine.invocation import Invocation
from ..engine.outcome import End, Outcome
from ..exceptions import FunctionError, FunctionOverloaded, RuntimeClosed, WasmError
from ..functions.target import Target
from ..messages import EdgeRequest, EdgeResponse
from ..protocols.headers import Rendered
from ..sync.cancel_scope import CancelScope, CancelScopes, Interrupted, OnDisconnect, Why
from ..telemetry import IDLE_WATCH, CallTelemetry, log_failure, log_guest, log_violations
from ..telemetry.origin import RUNTIME
from .execution import EncodedExecution, EncodedRequest, Execution
from .faults import NOT_RUN, REFUSED, failure_of
from .inputs import inputs_of_encoded
from .options import DEFAULT_OPTIONS, CallOptions
from .request_execution import RequestExecution
from .runtime_state import RuntimeState

R = TypeVar("R", EdgeResponse, Rendered)


class Invoker:
    """The part of a runtime through which every call goes, but for what the fast path completes."""

    def __init__(self, runtime: RuntimeState) -> None:
        self.runtime = runtime
        self.running = 0
        """Calls under way, queued ones included."""
        self.counts: Counter[str] = Counter()
        """How calls ended: ``ok``, the slug of an error, or why they were given up."""
        self._cancel_scopes = CancelScopes()
        self._next_overload_records: dict[str, float] = {}
        """By function, of which one leaves the others theirs."""

    async def call(self, target: Target, request: EdgeRequest, options: CallOptions = DEFAULT_OPTIONS) -> EdgeResponse:
        """Run one invocation of ``target``; ``request.context`` is filled in.

        Raises FunctionOverloaded, RuntimeClosed and FunctionError; Interrupted if the client goes away.
        """
        runtime, caller = self.runtime, options.caller
        if not runtime.is_open:
            raise RuntimeClosed(runtime.state)
        execution = RequestExecution(target, request, runtime.request_settings, self.call, options)
        with runtime.telemetry.watch(
            target,
            request,
            exchange=caller.exchange,
            since=caller.cold,
            attempt=options.attempt,
            attributes=options.attributes,
            ran=execution.ran,
        ) as watch:
            return await self._carry_out(execution, caller.on_disconnect, watch)

    async def answer(
        self, target: Target, request: EncodedRequest, method: str, region: str, options: Callable[[], CallOptions]
    ) -> Rendered | Decoded:
        """Answer as call() does, from what C made of an HTTP request to its answer.

        ``options`` is called if the guest has to be waited for, or somebody listens.
        """
        runtime = self.runtime
        if not runtime.is_open:
            raise RuntimeClosed(runtime.state)
        begun = self._begin(target, request, method, region) if request.again is None else None
        if isinstance(begun, tuple):
            return begun
        given = options()
        execution = EncodedExecution(target, request, method, region, self.call, given)
        execution.guest = begun
        watch = IDLE_WATCH
        if request.again is not None:
            watch = runtime.telemetry.watch(target, execution.seen, exchange=given.caller.exchange)
        with watch:
            return await self._carry_out(execution, given.caller.on_disconnect, watch)

    def _begin(
        self, target: Target, request: EncodedRequest, method: str, region: str
    ) -> Decoded | Outcome | Invocation | None:
        """Begin a guest in C, if nobody listens, and it asks nothing of the host.

        Return its answer; what it printed, if that is for Python; or the guest. None if none has begun.
        """
        fast_path, bulkhead, encoded = target.fast_path, target.bulkhead, request.encoded
        if target.grants is not None or fast_path is None or not fast_path.runs or bulkhead.active >= bulkhead.limit:
            return None
        began = time.monotonic()
        inputs = inputs_of_encoded(target, encoded, encoded.request_id, region, encoded.traceparent)
        found = fast_path.run_and_decode(inputs, encoded.request_id, method)
        if isinstance(found, tuple):
            self._count(target, time.monotonic() - began, found[0])
        return found

    async def _carry_out(self, execution: Execution[R], on_disconnect: OnDisconnect | None, watch: CallTelemetry) -> R:
        """Run the guest, count how that ended, and log what went wrong."""
        runtime, target = self.runtime, execution.target
        self.running += 1
        origin = RUNTIME.set(runtime)
        try:
            response = await self._run(execution, on_disconnect, watch)
        except WasmError as error:
            self._failed(execution, error, execution.took)
            raise
        except NOT_RUN as error:
            failure = failure_of(target, error)
            if failure is None:
                raise
            cause = None if isinstance(error, REFUSED) else error
            self._failed(execution, failure, 0.0, cause)
            raise failure from cause
        except Interrupted as error:
            self.counts[error.why.name.lower()] += 1
            if error.why is Why.CLOSING:
                raise RuntimeClosed(runtime.state) from None
            raise
        finally:
            RUNTIME.reset(origin)
            self.running -= 1
        watch.answered(response.status_code)
        self._count(target, execution.took, response.status_code)
        return response

    def _count(self, target: Target, seconds: float, status: int) -> None:
        self.counts["ok"] += 1
        if target.tally is not None:
            target.tally.answered(seconds, status)

    async def _run(self, execution: Execution[R], on_disconnect: OnDisconnect | None, watch: CallTelemetry) -> R:
        """Run the guest when there is a place for it."""
        target = execution.target
        bulkhead = target.bulkhead
        guard = partial(CancelScope, self._cancel_scopes, on_disconnect, watch.outside)
        if bulkhead.active < bulkhead.limit:
            bulkhead.active += 1
        else:
            watch.queued()
            async with guard():
                await bulkhead.wait()
        try:
            outcome = await execution.run(self.runtime.capabilities, target.grants, guard, watch)
        finally:
            if bulkhead.waiters:
                bulkhead.leave()
            else:
                bulkhead.active -= 1
            session = execution.session
            if session is not None and session.violations:
                log_violations(target, session.violations, execution.context)
                watch.violated(session.violations)
        if outcome.stderr or outcome.denials:
            await log_guest(target, outcome, execution.context)
        if outcome.end is End.TRAP and outcome.places:
            outcome.frames = target.function.module.lines.named(outcome.frames, outcome.places)
        return await execution.response(outcome, watch)

    def _failed(
        self, execution: Execution[R], error: WasmError, seconds: float, cause: Exception | None = None
    ) -> None:
        tally = execution.target.tally
        if tally is not None and isinstance(error, FunctionError):
            tally.failed(seconds, error)
        self.counts[error.slug] += 1
        if isinstance(error, FunctionOverloaded):  # as many as clients like: one record a second of each function
            now, function = time.monotonic(), execution.target.name
            if now < self._next_overload_records.get(function, 0.0):
                return
            self._next_overload_records[function] = now + 1
        log_failure(error, execution.context, cause)

    def guard(self, on_disconnect: OnDisconnect | None) -> CancelScope:
        """Make a scope that ends its block, with Interrupted, when the client goes away or the runtime closes."""
        return CancelScope(self._cancel_scopes, on_disconnect)

    def interrupt(self) -> None:
        """End all calls under way: the runtime closes."""
        self._cancel_scopes.interrupt(Why.CLOSING)

    def forget(self) -> None:
        """Forget the calls under way, in a forked child: they are the parent's."""
        self.running = 0
        self._cancel_scopes = CancelScopes()
