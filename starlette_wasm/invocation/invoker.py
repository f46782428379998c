"""Runs invocations of what is bound, for a runtime that decides when."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from opentelemetry.util.types import AttributeValue

from ..binding.target import Target
from ..capabilities import Capabilities, Session
from ..components.invocation import begin as begin_invocation
from ..config.settings import RequestSettings, WasmSettings
from ..engine import layout
from ..engine.capi import EngineError
from ..engine.engine import OutOfInstances
from ..engine.fast_path import Started
from ..engine.outcome import End, Outcome
from ..engine.plan import NO_STRINGS
from ..exceptions import (
    FunctionError,
    FunctionOverloaded,
    FunctionTrapped,
    InvalidFunctionResponse,
    RuntimeClosed,
    WasmError,
)
from ..messages import EdgeContext, EdgeRequest, EdgeResponse, is_request_id, new_request_id
from ..protocols import LOOP_TOKENS, LongAnswerError, ResponseError
from ..protocols.cgi import cgi_arguments
from ..sync.bulkhead import Full
from ..sync.cancel_scope import CancelScope, CancelScopes, Interrupted, OnDisconnect, Why
from ..sync.threads import FairThreads
from ..telemetry import CallTelemetry, RequestTelemetry, Telemetry, log_failure, log_guest, log_violations
from .fast_path import FastPathRunner
from .faults import fault_of, host_lacks
from .off_loop import TooBusy, is_large, off_loop

_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
ACCEPTING = ("open", "draining")
"""The states of a runtime in which invocations are taken."""
_LARGE = 256 << 10
"""Bytes of stdout from which a response is decoded beside the event loop."""
_decoding = FairThreads("starlette-wasm-decode", most=4, each=1)


class Invoker:
    """One call at a time from a place in the queue to the response, with all its telemetry."""

    settings: WasmSettings
    request_settings: RequestSettings
    capabilities: Capabilities

    def __init__(self) -> None:
        self._state = "not started"
        self._interruptibles = CancelScopes()
        self._running = 0
        self._counts: Counter[str] = Counter()
        self._next_overload_record = 0.0
        self.telemetry = Telemetry()
        self.fast_path = FastPathRunner(self, self._counts)

    @property
    def state(self) -> str:
        """``not started``, ``open``, ``draining`` or ``closed``."""
        return self._state

    @property
    def is_open(self) -> bool:
        """Whether invocations are taken."""
        raise NotImplementedError

    async def call(
        self,
        target: Target,
        request: EdgeRequest,
        *,
        route: str = "",
        client: tuple[str, int] | None = None,
        cold: int = 0,
        on_disconnect: OnDisconnect | None = None,
        headers: Mapping[str, str] | None = None,
        exchange: RequestTelemetry | None = None,
        attempt: int | None = None,
        timeout: float | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        started: Started | None = None,
    ) -> EdgeResponse:
        """Run one invocation of ``target``; ``request.context`` is filled in.

        ``cold`` is when the wait for a start began, in ns since the epoch, 0 if there was none. ``on_disconnect``
        ends it when the client goes away, which raises Interrupted. ``headers`` are those of the client, if
        ``request`` has others. ``exchange`` is the HTTP request that it is for, ``attempt`` which try this is, by
        default one more than failed in the exchange. ``timeout`` bounds the time in the guest, in seconds, if it
        is less than the policy's. ``attributes`` are more for the span of the call. ``started`` is what the fast
        path gave, at once before. Raises FunctionOverloaded, RuntimeClosed and FunctionError.
        """
        if not self.is_open:
            raise RuntimeClosed(self._state)
        bulkhead, plan = target.bulkhead, target.plan
        limit = plan.limits.time if timeout is None else min(timeout, plan.limits.time)
        context = request.context = self.context(target, request.headers if headers is None else headers, bool(cold))
        if timeout is not None:
            context.deadline_ms = math.ceil(limit * 1000)
        ran = 0.0
        if started is not None:
            context.request_id, ran = started.request_id, started.invocation.ran
        begin = math.inf
        with self.telemetry.watch(
            target,
            request,
            exchange=exchange,
            since=cold,
            attempt=attempt,
            attributes=attributes,
            ran=ran,
        ) as watch:
            guard = partial(CancelScope, self._interruptibles, on_disconnect, watch.outside)
            self._running += 1
            try:
                if bulkhead.free:
                    bulkhead.active += 1
                else:
                    watch.queued()
                    async with guard():
                        await bulkhead.wait()
                session: Session | None = None
                try:
                    begin = time.monotonic() - ran
                    deadline = begin + limit
                    request.context = context  # again: the request may be shared, and others came while this one waited
                    request = watch.executing(request, context)
                    if target.grants is not None:
                        session = Session(
                            self.capabilities,
                            target.grants,
                            deadline=deadline,
                            observer=watch.observer,
                            recorder=watch.recorder,
                        )
                    if started is not None:
                        invocation = started.invocation
                    else:
                        inputs = partial(inputs_of, target, request, context, route, client)
                        if is_large(request):
                            async with guard():
                                invocation = begin_invocation(plan, *await off_loop(target.tenant, inputs, limit))
                        else:
                            invocation = begin_invocation(plan, *inputs())
                    outcome = await invocation.run(deadline, guard, session)
                finally:
                    bulkhead.leave()
                    if session is not None and session.violations:
                        log_violations(target, session.violations, context)
                        watch.violated(session.violations)
                response = await self._response(target, outcome, context, watch, limit)
            except WasmError as error:
                if target.tally is not None and isinstance(error, FunctionError):
                    target.tally.failed(time.monotonic() - begin, error)
                self._failed(error, context)
                raise
            except (Full, OutOfInstances, TooBusy) as error:
                overload = FunctionOverloaded(target.name, str(error), retry_after=_retry_after(target))
                self._failed(overload, context)
                raise overload from None
            except (EngineError, OSError, MemoryError, RuntimeError) as error:
                lack = host_lacks(error)
                if lack is not None:
                    overload = FunctionOverloaded(target.name, lack, retry_after=_retry_after(target))
                    self._failed(overload, context, error)
                    raise overload from error
                if isinstance(error, RuntimeError):
                    raise
                trapped = FunctionTrapped(target.name, target.version, reason="not run")
                if target.tally is not None:  # such as a module of which no instance can be made
                    target.tally.failed(0.0, trapped)
                self._failed(trapped, context, error)
                raise trapped from error
            except Interrupted as error:
                self._counts[error.why.name.lower()] += 1
                if error.why is Why.CLOSING:
                    raise RuntimeClosed(self._state) from None
                raise
            finally:
                self._running -= 1
            self._counts["ok"] += 1
            watch.answered(response.status_code)
            if target.tally is not None:
                target.tally.answered(time.monotonic() - begin, response.status_code)
            return response

    def guard(self, on_disconnect: OnDisconnect | None) -> CancelScope:
        """``async with``: ends the block, with Interrupted, when the client goes away or the runtime closes."""
        return CancelScope(self._interruptibles, on_disconnect)

    def context(self, target: Target, headers: Mapping[str, str], cold: bool) -> EdgeContext:
        given = headers.get("x-request-id")
        traceparent = headers.get("traceparent")
        traced = traceparent is not None and _TRACEPARENT(traceparent) is not None
        return EdgeContext(
            given if given is not None and is_request_id(given) else new_request_id(),
            self.region(headers.get("x-region")),
            cold,
            target.name,
            target.version,
            target.policy.execution_timeout_ms,
            traceparent if traced else None,
            headers.get("tracestate") if traced else None,
        )

    def region(self, header: str | None) -> str:
        """The region of a request: the node's, or the one in its ``x-region`` where that is trusted."""
        request_settings = self.request_settings
        if header is None or not request_settings.trust_region_header:
            return request_settings.region
        header = header.strip(" \t")  # which not every server takes away behind a value
        return header if _REGION(header) else request_settings.region

    async def _response(
        self, target: Target, outcome: Outcome, context: EdgeContext, watch: CallTelemetry, limit: float
    ) -> EdgeResponse:
        if outcome.stderr or outcome.denials:
            log_guest(target, outcome, context)
        if outcome.end is End.TRAP and outcome.places:
            outcome.frames = target.function.module.lines.named(outcome.frames, outcome.places)
        fault = fault_of(target, outcome, limit)
        watch.executed(outcome, fault)
        if fault is not None:
            raise fault
        try:
            return await decoded(target, outcome.stdout)
        except ResponseError as error:
            raise InvalidFunctionResponse(
                target.name, target.version, problem=error.problem, offset=error.offset, hint=_stray(outcome.stdout)
            ) from None

    def _failed(self, error: WasmError, context: EdgeContext, cause: Exception | None = None) -> None:
        self._counts[error.slug] += 1
        if isinstance(error, FunctionOverloaded):  # as many as clients like: one record a second
            now = time.monotonic()
            if now < self._next_overload_record:
                return
            self._next_overload_record = now + 1
        log_failure(error, context, cause)


async def decoded(target: Target, stdout: bytes) -> EdgeResponse:
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


def inputs_of(
    target: Target, request: EdgeRequest, context: EdgeContext, route: str, client: tuple[str, int] | None
) -> tuple[bytes, bytes, bytes]:
    """What the guest reads: stdin, environment and arguments."""
    module = target.plan.module
    environ, args = NO_STRINGS, b""
    if module.reads_environ:
        environ = environ_of(target, request, context, route, client)
    if module.reads_args and target.protocol.name == "cgi":
        args = args_of(target, request, route, client)
    return target.protocol.encode(request), environ, args


def environ_of(
    target: Target, request: EdgeRequest, context: EdgeContext, route: str, client: tuple[str, int] | None
) -> bytes:
    """The guest's environment, as a block of layout.strings()."""
    told = []
    if target.function.source.manifest.edge_environment:
        told = [("EDGE_REQUEST_ID", context.request_id), ("EDGE_REGION", context.region)]
    if context.traceparent is not None:
        told.append(("TRACEPARENT", context.traceparent))
    told += target.protocol.environ(request, route=route or target.route, client=client)
    ours = {name.encode() for name, _ in told}  # which win over what is granted: each is there once
    values = [each for each in target.environ if each.partition(b"=")[0] not in ours]
    values += (f"{name}={value}".encode("utf-8", "replace") for name, value in told)
    return layout.strings(values)


def args_of(target: Target, request: EdgeRequest, route: str, client: tuple[str, int] | None) -> bytes:
    """The arguments of a cgi guest, as a block of layout.strings()."""
    variables = dict(target.protocol.environ(request, route=route or target.route, client=client))
    given = target.function.source.manifest.args
    return layout.strings([each.encode("utf-8", "replace") for each in cgi_arguments(given, request, variables)])


def _retry_after(target: Target) -> int:
    return max(1, math.ceil(target.bulkhead.timeout))
