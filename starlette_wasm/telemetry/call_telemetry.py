"""``ActiveCallTelemetry``: one call of a function, as whoever listens sees it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING

from opentelemetry.util.types import AttributeValue

from ..capabilities import Violation
from ..engine.outcome import Outcome
from ..exceptions import WasmError
from ..functions.target import Target
from ..messages import EdgeContext, EdgeRequest
from .conventions import FS_ACCESS, FS_WRITE, Attribute, ErrorType, error_type
from .idle import CallTelemetry
from .observation import Observation
from .outbound import observer
from .prometheus import Recorder as PrometheusRecorder
from .request_telemetry import ActiveRequestTelemetry
from .spans import CallSpans, WarmSpan, now

if TYPE_CHECKING:
    from .telemetry import Telemetry

_GONE = 499


class ActiveCallTelemetry(CallTelemetry):
    """One that somebody listens to."""

    __slots__ = ("_attributes", "_begin", "_exchange", "_queued_at", "_ran", "_recorder", "_request", "_seen", "_since",
                 "_spans", "_target", "_telemetry", "observer", "outside", "recorder")  # fmt: skip

    def __init__(
        self,
        telemetry: Telemetry,
        target: Target,
        request: EdgeRequest,
        exchange: ActiveRequestTelemetry | None,
        since: int,
        attempt: int | None,
        attributes: Mapping[str, AttributeValue] | None,
        ran: float,
    ) -> None:
        self._attributes = attributes or {}
        self._telemetry = telemetry
        self._target = target
        self._request = request
        self._exchange = exchange
        self._since = since
        self._ran = ran
        self._recorder: PrometheusRecorder | None = None
        self._queued_at = 0
        self._seen = seen = Observation(target.name, target.version)
        self._spans: CallSpans | None = None
        self.outside = self.observer = self.recorder = None
        if exchange is not None:
            seen.trigger, seen.method, seen.route = "http", exchange.method, exchange.route
            seen.variant, seen.reason = exchange.variant.value, exchange.reason.value
        seen.attempt = attempt or (1 if exchange is None else exchange.failures + 1)
        seen.cold = bool(since)

    def __enter__(self) -> CallTelemetry:
        telemetry, target, seen = self._telemetry, self._target, self._seen
        begin = time.perf_counter() - self._ran
        if seen.cold:
            seen.init = max(now() - self._since, 0) / 1e9
            begin -= seen.init
        self._begin = begin
        if telemetry.prometheus is not None:
            self._recorder = telemetry.prometheus
            self._recorder.enter(target.name)
        if telemetry.tracer is not None:
            attributes: dict[str, AttributeValue] = {
                Attribute.VERSION.value: target.version,
                Attribute.ATTEMPT.value: seen.attempt,
                **self._attributes,
            }
            if self._request.context is not None:
                attributes[Attribute.INVOCATION_ID.value] = self._request.context.request_id
            alone: dict[str, AttributeValue]
            if self._exchange is not None:
                alone = self._exchange.describe(target, seen.cold)
            else:
                alone = {
                    Attribute.TRIGGER.value: seen.trigger,
                    Attribute.NAME.value: target.name,
                    Attribute.COLDSTART.value: seen.cold,
                }
            begun: WarmSpan | None = None
            if self._exchange is not None:
                begun, self._exchange.warm = self._exchange.warm, None
            self.outside = copy_context()
            self._spans = CallSpans(telemetry.tracer, target, self._request, self._since, attributes, alone, begun)
        return self

    def queued(self) -> None:
        self._queued_at = now()

    def _acquired(self, error: ErrorType | None = None) -> None:
        queued_at, self._queued_at = self._queued_at, 0
        if queued_at:
            self._seen.waited = max(now() - queued_at, 0) / 1e9
        if (queued_at or self._since) and self._spans is not None:
            self._spans.acquired(self._since or queued_at, self._target.function.compiled, error)

    def executing(self, request: EdgeRequest, context: EdgeContext) -> EdgeRequest:
        self._acquired()
        spans, telemetry = self._spans, self._telemetry
        if spans is None:
            return request
        spans.executing()
        if self._target.grants is not None and telemetry.tracer is not None and telemetry.guest_tracer is not None:
            self.recorder = guest = spans.guest(telemetry.guest_tracer, self._target.name)
            self.observer = observer(telemetry.tracer, guest)
        return spans.hand_over(request, context) if spans.context.is_valid else request

    def executed(self, outcome: Outcome, fault: WasmError | None) -> None:
        seen = self._seen
        seen.ran = True
        seen.cpu, seen.memory, seen.host_calls = outcome.cpu_s, outcome.memory_bytes, outcome.host_calls
        if outcome.denials:
            self._violated([(FS_WRITE if denial.write else FS_ACCESS, denial.path) for denial in outcome.denials])
        if self._spans is not None:
            self._spans.executed(outcome, None if fault is None else error_type(fault), str(fault or ""))

    def given_up(self, cpu: float) -> None:
        self._seen.cpu = cpu

    def violated(self, violations: Sequence[Violation]) -> None:
        self._violated([(violation.code.value, violation.message) for violation in violations])

    def _violated(self, found: list[tuple[str, str]]) -> None:
        for kind, count in Counter(kind for kind, _ in found).items():
            self._telemetry.violation(self._target.name, kind, count)
        if self._spans is not None:
            self._spans.violated([f"{kind} {what}" for kind, what in found])

    def answered(self, status: int) -> None:
        self._seen.status = status

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seen, spans = self._seen, self._spans
        seen.duration = time.perf_counter() - self._begin
        if error is not None:
            seen.error = error_type(error)
            if isinstance(error, WasmError):
                seen.status = error.status
            elif seen.error is ErrorType.CANCELLED:
                seen.status = _GONE
            if self._exchange is not None:
                self._exchange.failures += 1
            if self._queued_at:
                self._acquired(seen.error)
        self._identify()
        try:
            if self._recorder is not None:  # a reload may have brought one since
                self._recorder.leave(seen.function)
            # While the function's span is still current: exemplars, and the access line, belong to it.
            self._telemetry.record(seen)
        finally:
            if spans is not None:
                spans.end(seen.error, "" if error is None else str(error))

    def _identify(self) -> None:
        """Identify the log line by request and span: the caller's, if none is ours."""
        seen, spans, context = self._seen, self._spans, self._request.context
        if context is not None:
            seen.request_id = context.request_id
            if context.traceparent is not None:
                seen.trace_id, seen.span_id = context.traceparent[3:35], context.traceparent[36:52]
        if spans is not None and spans.context.is_valid:
            here = spans.context
            seen.trace_id, seen.span_id = f"{here.trace_id:032x}", f"{here.span_id:016x}"
            seen.sampled = here.trace_flags.sampled
