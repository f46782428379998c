"""Runs a pipeline for one request."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import TYPE_CHECKING

from ..exceptions import (
    ExecutionTimeout,
    FunctionError,
    FunctionOverloaded,
    InvalidFunctionResponse,
    PipelineTimeout,
    RequestTooLarge,
    RuntimeClosed,
    WasmError,
)
from ..functions.target import Target
from ..invocation.context import context_of
from ..invocation.off_loop import check_size, off_loop
from ..invocation.options import PYTHON, Caller, CallOptions
from ..messages import EdgeRequest, EdgeResponse
from ..sync.cancel_scope import Interrupted, Why
from ..telemetry import PickedBy, Role, error_type, log_failure
from ..telemetry.conventions import CIRCUIT_OPENINGS, PIPELINE_FALLBACKS, PIPELINE_RETRIES, Metric
from .breaker import Breaker, Circuit
from .handover import hand_over
from .merge import as_collection, as_object
from .plan import Call, Callee, Parallel, Pipeline
from .retry import Failure, Refused, asked_pause, may_repeat
from .trace import Trace, around

if TYPE_CHECKING:
    from ..invocation.invoker import Invoker

CanaryVersion = Callable[[str], str | None]

_CIRCUIT_OPEN = "circuit-open"
_LARGE = 256 << 10
"""Characters from which answers are merged beside the event loop."""


async def run(
    invoker: Invoker,
    canary_version: CanaryVersion,
    pipeline: Pipeline,
    request: EdgeRequest,
    caller: Caller = PYTHON,
) -> EdgeResponse:
    """Run the steps, and return the response of the last one, or of the one that ended the pipeline.

    ``canary_version`` gives the version that a function's canary lets a request have.

    Raises PipelineTimeout, RequestTooLarge, FunctionOverloaded, RuntimeClosed, FunctionError and Interrupted.
    """
    runtime, exchange = invoker.runtime, caller.exchange
    if not runtime.is_open:
        raise RuntimeClosed(runtime.state)
    if exchange is not None:
        exchange.picked(PickedBy.PIPELINE)
    context = request.context = context_of(
        runtime.request_settings, pipeline.first, request.headers, cold=bool(caller.cold)
    )
    deadline = asyncio.get_running_loop().time() + pipeline.timeout
    counts = pipeline.owner.counts
    counts.running += 1
    try:
        with around(runtime.telemetry, pipeline.route, request, exchange) as whole:
            trace = Trace(runtime.telemetry, exchange, whole)
            this = _Run(invoker, canary_version, pipeline, request, caller, trace, deadline)
            try:
                async with asyncio.timeout_at(deadline), invoker.guard(caller.on_disconnect):
                    return await this.steps()
            except TimeoutError:
                late = PipelineTimeout(pipeline.route, this.at, limit_ms=math.ceil(pipeline.timeout * 1000))
                counts.timeouts += 1
                log_failure(late, context)
                raise late from None
            except Interrupted as error:
                if error.why is Why.CLOSING:
                    raise RuntimeClosed(runtime.state) from None
                raise
    finally:
        counts.running -= 1


class _Answered(Exception):
    """A branch has answered for the whole pipeline."""

    def __init__(self, response: EdgeResponse) -> None:
        self.response = response
        super().__init__()


class _Run:
    def __init__(
        self,
        invoker: Invoker,
        canary_version: CanaryVersion,
        pipeline: Pipeline,
        request: EdgeRequest,
        caller: Caller,
        trace: Trace,
        deadline: float,
    ) -> None:
        self.at = ""
        """The name of the step under way."""
        self._invoker = invoker
        self._canary_version = canary_version
        self._pipeline = pipeline
        self._request = request
        assert request.context is not None
        self._request_id = request.context.request_id
        # The client's request id, for the context of every step; one id, also if the client has sent none.
        self._headers = {**request.headers, "x-request-id": self._request_id}
        self._may_repeat = may_repeat(request.method, request.headers)
        self._trace = trace
        self._caller = caller
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._answered_by = pipeline.first

    async def steps(self) -> EdgeResponse:
        response: EdgeResponse | None = None
        for step in self._pipeline.steps:
            self.at = step.name
            given = self._request if response is None else self._next(response)
            response = await (self._parallel(step, given) if isinstance(step, Parallel) else self._call(step, given))
            if response.status_code >= 300:
                break
        assert response is not None  # a config has at least one step
        return response

    def _next(self, response: EdgeResponse) -> EdgeRequest:
        return hand_over(self._request, self._request_id, response)

    async def _parallel(self, step: Parallel, given: EdgeRequest) -> EdgeResponse:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {branch.name: group.create_task(self._branch(branch, given)) for branch in step.branches}
        except BaseExceptionGroup as errors:
            first = errors.exceptions[0]
            if isinstance(first, _Answered):
                return first.response
            raise first from None
        answers = {name: task.result() for name, task in tasks.items()}
        merge = partial(as_object, step, answers) if step.merge is None else partial(as_collection, answers)
        large = sum(len(answer.body) for answer in answers.values() if answer is not None) > _LARGE
        merged = await off_loop(self._pipeline.tenant, merge) if large else merge()
        if step.merge is None:
            return merged
        self.at = step.merge.name
        return await self._call(step.merge, self._next(merged))

    async def _branch(self, branch: Call, given: EdgeRequest) -> EdgeResponse | None:
        try:
            response = await self._call(branch, given)
        except (FunctionError, FunctionOverloaded, RequestTooLarge):
            if not branch.optional:
                raise
            return None
        if response.status_code < 300:
            return response
        if branch.optional:
            return None
        raise _Answered(response)

    async def _call(self, call: Call, given: EdgeRequest) -> EdgeResponse:
        """Call with retries and fallback, and return the answer, whatever its status. Raises WasmError."""
        self._pipeline.budget.first_attempt()
        tried = 1
        result = await self._attempt(call, call.callee, given, tried)
        while isinstance(result, Failure) and tried < call.attempts:
            wait = max(call.backoff.delay(tried), asked_pause(result.answer))
            refused = self._refused(call, result, wait)
            if refused is not None:
                self._trace.not_retried(call, refused.value)
                break
            await asyncio.sleep(wait)
            tried += 1
            self._pipeline.owner.counts.retries += 1
            self._count(PIPELINE_RETRIES, result.target)
            result = await self._attempt(call, call.callee, given, tried, Role.RETRY, result.cause)
        if isinstance(result, Failure):
            result = await self._fall_back(call, given, result, tried + 1)
        if not isinstance(result, Failure):
            return result
        if isinstance(result.answer, WasmError):
            raise result.answer
        return result.answer

    def _refused(self, call: Call, failure: Failure, wait: float) -> Refused | None:
        if not failure.may_pass:
            return Refused.HOPELESS
        if failure.had_effects and not (call.unsafe or self._may_repeat):
            return Refused.NOT_IDEMPOTENT
        if self._breaker(call.callee, failure.target).state is Circuit.OPEN:
            return Refused.CIRCUIT_OPEN
        if self._loop.time() + wait >= self._deadline:
            return Refused.DEADLINE
        return None if self._pipeline.budget.take() else Refused.BUDGET

    async def _fall_back(self, call: Call, given: EdgeRequest, failure: Failure, number: int) -> EdgeResponse | Failure:
        if call.fallback is None and call.answer is None:
            return failure
        self._pipeline.owner.counts.fallbacks += 1
        self._count(PIPELINE_FALLBACKS, failure.target)
        if call.fallback is not None:
            return await self._attempt(call, call.fallback, given, number, Role.FALLBACK, failure.cause)
        assert call.answer is not None
        self._trace.mark(call.name, number, self._trace.attempt(call, Role.FALLBACK, failure.cause))
        return call.answer()

    async def _attempt(
        self, call: Call, callee: Callee, given: EdgeRequest, number: int, role: Role | None = None, cause: str = ""
    ) -> EdgeResponse | Failure:
        target = callee.serving(self._canary_version(callee.target.name))
        too_large = await self._too_large(target, given)
        if too_large is not None:
            return too_large
        left = self._deadline - self._loop.time()
        if left <= 0:
            raise TimeoutError
        breaker = self._breaker(callee, target)
        admitted = breaker.admit()
        attributes = self._trace.attempt(call, role, cause, breaker.state)
        if not admitted:
            refused = FunctionOverloaded(target.name, "its circuit is open", retry_after=breaker.retry_after)
            self._trace.mark(target.name, number, attributes, refused)
            return Failure(target, refused, _CIRCUIT_OPEN)
        limit = min(callee.timeout, left)
        # A call that had little time is not evidence about the function.
        blamed = limit >= callee.timeout / 2
        caller, self._caller = self._caller, self._caller._replace(cold=0)
        tell: Callable[[int], bool | None] = breaker.dropped
        try:
            response = await self._invoker.call(
                target,
                copy(given),
                CallOptions(
                    caller,
                    route=self._pipeline.route,
                    headers=self._headers,
                    attempt=number,
                    timeout=limit,
                    attributes=attributes,
                ),
            )
            tell = breaker.failed if response.status_code >= 500 else breaker.succeeded
        except FunctionError as error:
            late = isinstance(error, ExecutionTimeout)
            if blamed or not late:
                tell = breaker.failed
            if late and limit < callee.timeout:
                raise TimeoutError from error
            return Failure(target, error, error_type(error).value)
        except FunctionOverloaded as error:
            return Failure(target, error, error_type(error).value)
        except asyncio.CancelledError:
            if blamed and self._loop.time() >= self._deadline:
                tell = breaker.failed
            raise
        finally:
            if tell(admitted):
                self._count(CIRCUIT_OPENINGS, target)
        if response.status_code >= 500:
            return Failure(target, response, str(response.status_code))
        self._answered_by = target
        return response

    def _breaker(self, callee: Callee, target: Target) -> Breaker:
        return self._pipeline.owner.breakers.get(target.name, target.version, callee.circuit)

    def _count(self, metric: Metric, target: Target) -> None:
        self._invoker.runtime.telemetry.of_pipeline(metric, target.name, target.version)

    async def _too_large(self, target: Target, given: EdgeRequest) -> Failure | None:
        """Raise RequestTooLarge if that is the client's fault."""
        try:
            await check_size(target, given)
        except RequestTooLarge as error:
            if given is self._request:
                raise
            who = self._answered_by
            problem = f"{target.name} takes no body of more than {error.limit} bytes (maxRequestBytes)"
            invalid = InvalidFunctionResponse(who.name, who.version, problem=problem)
            return Failure(target, invalid, error_type(error).value, too_large=True)
        return None
