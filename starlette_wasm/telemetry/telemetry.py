"""``Telemetry``: who listens to a runtime, and what they are told of each request and call.

The path of a request where nobody listens is a check and a few empty calls; a benchmark holds it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextvars import Context, copy_context
from types import TracebackType

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider, NoOpMeter
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.trace import NoOpTracer, ProxyTracer, Tracer, TracerProvider
from opentelemetry.util.types import AttributeValue
from starlette.types import Message, Scope, Send

from ..capabilities import Violation
from ..capabilities.http import Observer
from ..engine.instance import Outcome
from ..exceptions import WasmError
from ..messages import EdgeContext, EdgeRequest
from ..target import Target
from . import access, prometheus
from .conventions import FS_ACCESS, FS_WRITE, Attribute, ErrorType, PickedBy, Variant, error_type
from .metrics import Metrics
from .observation import Observation
from .outbound import observer
from .spans import CallSpans, ServerSpan, now

_SCOPE = "starlette_wasm"
_GONE = 499
_PARAMETER = re.compile(r"\{([^{}:]+)[^{}]*\}")

# The public getters of the global providers cost 0.8 us each, on every request, as long as none is set. Where these
# names are gone, the getters are asked.
_trace_globals = vars(trace)
_metrics_globals = vars(metrics_internal)


class Telemetry:
    """Spans, metrics, Prometheus figures and access lines of one runtime.

    Spans and metrics go to the given providers, else to the global ones, also when those are set later.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._given = tracer_provider, meter_provider
        self._tracers: object = self
        self._meters: object = self
        self._active = False
        self.access_log = False
        self.prometheus: prometheus.Recorder | None = None
        self.tracer: Tracer | None = None
        self.metrics: Metrics | None = None

    def configure(self, *, access_log: bool, prometheus_text: bool) -> None:
        """What settings and config say; ``prometheus_text`` has no effect without the extra."""
        self.access_log = access_log
        if access_log:
            access.install()
        self.prometheus = prometheus.recorder() if prometheus_text else None
        self._tracers = self._meters = self

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        if (
            _trace_globals.get("_TRACER_PROVIDER") is self._tracers
            and _metrics_globals.get("_METER_PROVIDER") is self._meters
        ):
            return self._active
        self._look()
        return self._active

    def _look(self) -> None:
        given_tracers, given_meters = self._given
        tracer = (given_tracers or trace.get_tracer_provider()).get_tracer(_SCOPE)
        meter = (given_meters or metrics.get_meter_provider()).get_meter(_SCOPE)
        self.tracer = None if isinstance(tracer, NoOpTracer | ProxyTracer) else tracer
        no_meter = isinstance(meter, NoOpMeter) or type(meter).__module__ == metrics_internal.__name__
        self.metrics = None if no_meter else Metrics(meter)
        self._tracers = _trace_globals.get("_TRACER_PROVIDER", self)
        self._meters = _metrics_globals.get("_METER_PROVIDER", self)
        self._active = bool(self.tracer or self.metrics or self.prometheus or self.access_log)

    def exchange(self, scope: Scope, route: str, *, since: int = 0) -> Exchange:
        """An HTTP request that is served here, to be used with ``with``.

        ``route`` is the template inside the mount; ``since`` says when a cold start began to hold it up, in ns since
        the epoch, 0 where none did.
        """
        # As in ``active``, without the call, which would be a tenth of what a request costs where nobody listens.
        if (
            _trace_globals.get("_TRACER_PROVIDER") is not self._tracers
            or _metrics_globals.get("_METER_PROVIDER") is not self._meters
        ):
            self._look()
        return Exchange(self, scope, route, since) if self._active else IDLE_EXCHANGE

    def watch(
        self,
        target: Target,
        request: EdgeRequest,
        *,
        exchange: Exchange | None = None,
        since: int = 0,
        attempt: int | None = None,
    ) -> Watch:
        """One call of a function, to be used with ``with``; without an exchange it is one from Python.

        ``attempt`` None means: one more than calls failed in this exchange.
        """
        if exchange is IDLE_EXCHANGE or (exchange is None and not self.active):
            return IDLE_WATCH
        return Watch(self, target, request, exchange, since, attempt)

    def violation(self, function: str, kind: str) -> None:
        """A policy refused something to a guest: ``kind`` is of ``conventions.VIOLATION_KINDS``."""
        if self.active:
            if self.metrics is not None:
                self.metrics.violation(function, kind)
            if self.prometheus is not None:
                self.prometheus.violation(function, kind)

    def canary_weight(self, function: str, version: str, percent: float) -> None:
        """A canary has a new share; 0 when it is over."""
        if self.active:
            if self.metrics is not None:
                self.metrics.canary_weight(function, version, percent)
            if self.prometheus is not None:
                self.prometheus.canary_weight(function, version, percent)

    def function_healthy(self, function: str, version: str, healthy: bool) -> None:
        """The probes of a version of a function have another result than before."""
        if self.active:
            if self.metrics is not None:
                self.metrics.function_healthy(function, version, healthy)
            if self.prometheus is not None:
                self.prometheus.function_healthy(function, version, healthy)


class Exchange:
    """One HTTP request, from our first look at it to the end of the answer."""

    def __init__(self, telemetry: Telemetry, scope: Scope, route: str, since: int) -> None:
        self._error: ErrorType | None = None
        self.method: str = scope["method"]
        self.route = whole_route(scope, route)
        self.failures = 0
        self.variant = Variant.STABLE
        self.reason = PickedBy.ROUTE
        self.weight: int | None = None
        self._described = False
        self._span = ServerSpan(telemetry.tracer, scope, self.route, since) if telemetry.tracer is not None else None

    def __enter__(self) -> Exchange:
        return self

    def picked(self, reason: PickedBy, weight: int | None = None, variant: Variant = Variant.STABLE) -> None:
        """Which version the router chose, why, and by which weight."""
        self.variant = variant
        self.reason = reason
        self.weight = weight

    def describe(self, target: Target, cold: bool) -> dict[str, AttributeValue]:
        """Tell the server span what serves it; what could not be told is returned."""
        attributes: dict[str, AttributeValue] = {
            Attribute.TRIGGER.value: "http",
            Attribute.NAME.value: target.name,
            Attribute.COLDSTART.value: cold,
            Attribute.VARIANT.value: self.variant.value,
            Attribute.REASON.value: self.reason.value,
        }
        if self.route:
            attributes[Attribute.HTTP_ROUTE.value] = self.route
        if self.weight is not None:
            attributes[Attribute.WEIGHT.value] = self.weight
        span = self._span
        if span is None or not span.recording:
            return attributes
        if not self._described:
            self._described = True
            span.set(attributes)
        return {}

    def send(self, send: Send) -> Send:
        """``send``, watched for the status. The span may end with the last part of the body, so it is told before."""
        if self._span is None or not self._span.recording:
            return send

        async def watched(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                self.answered(message["status"])

        return watched

    def failed(self, error: BaseException) -> None:
        """What the answer, if there will be one, is due to."""
        self._error = error_type(error)

    def answered(self, status: int) -> None:
        if self._span is not None:
            self._span.answered(status, self._error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._span is not None:
            if error is not None:
                self._span.raised(error_type(error))
            self._span.end()


class Watch:
    """One call of a function, from the place in the queue to the response."""

    observer: Observer | None = None
    """Watches the guest's outbound requests, where there are spans."""
    outside: Context | None = None
    """The context around the call's spans, where there are some."""

    def __init__(
        self,
        telemetry: Telemetry,
        target: Target,
        request: EdgeRequest,
        exchange: Exchange | None,
        since: int,
        attempt: int | None,
    ) -> None:
        self._telemetry = telemetry
        self._target = target
        self._request = request
        self._exchange = exchange
        self._since = since
        self._queued_at = 0
        self._seen = seen = Observation(target.name, target.version)
        self._spans: CallSpans | None = None
        if exchange is not None:
            seen.trigger, seen.method, seen.route = "http", exchange.method, exchange.route
            seen.variant, seen.reason = exchange.variant.value, exchange.reason.value
        seen.attempt = attempt or (1 if exchange is None else exchange.failures + 1)
        seen.cold = bool(since)

    def __enter__(self) -> Watch:
        telemetry, target, seen = self._telemetry, self._target, self._seen
        begin = time.perf_counter()
        if seen.cold:
            seen.init = max(now() - self._since, 0) / 1e9
            begin -= seen.init
        self._begin = begin
        if telemetry.prometheus is not None:
            telemetry.prometheus.enter(target.name)
        if telemetry.tracer is not None:
            attributes: dict[str, AttributeValue] = {
                Attribute.VERSION.value: target.version,
                Attribute.ATTEMPT.value: seen.attempt,
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
            self.outside = copy_context()
            self.observer = observer(telemetry.tracer)
            self._spans = CallSpans(telemetry.tracer, target, self._request, self._since, attributes, alone)
        return self

    def queued(self) -> None:
        """There is no place at once: the wait begins."""
        self._queued_at = now()

    def _acquired(self, error: ErrorType | None = None) -> None:
        queued_at, self._queued_at = self._queued_at, 0
        if queued_at:
            self._seen.waited = max(now() - queued_at, 0) / 1e9
        if (queued_at or self._since) and self._spans is not None:
            self._spans.acquired(self._since or queued_at, self._target.function.compiled, error)

    def executing(self, request: EdgeRequest, context: EdgeContext) -> EdgeRequest:
        """There is a place: the request as the guest is to have it, with ``context`` told of the guest's span."""
        self._acquired()
        if self._spans is not None:
            self._spans.executing()
            if self._spans.context.is_valid:
                return self._spans.hand_over(request, context)
        return request

    def executed(self, outcome: Outcome, fault: WasmError | None) -> None:
        """The guest has ended, and its log is written."""
        seen = self._seen
        seen.ran = True
        seen.cpu, seen.memory, seen.host_calls = outcome.cpu_s, outcome.memory_bytes, outcome.host_calls
        if outcome.denials:
            self._violated([(FS_WRITE if denial.write else FS_ACCESS, denial.path) for denial in outcome.denials])
        if self._spans is not None:
            self._spans.executed(outcome, None if fault is None else error_type(fault), str(fault or ""))

    def violated(self, violations: Sequence[Violation]) -> None:
        """What the policy refused to ``edge.call``; before the guest has ended."""
        self._violated([(violation.code.value, violation.message) for violation in violations])

    def _violated(self, found: list[tuple[str, str]]) -> None:
        for kind, _ in found:
            self._telemetry.violation(self._target.name, kind)
        if self._spans is not None:
            self._spans.violated([f"{kind} {what}" for kind, what in found])

    def answered(self, status: int) -> None:
        """The status of the function's own response."""
        self._seen.status = status

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        telemetry, seen, spans = self._telemetry, self._seen, self._spans
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
        context = self._request.context
        if context is not None:
            seen.request_id = context.request_id
            if context.traceparent is not None:
                seen.trace_id, seen.span_id = context.traceparent[3:35], context.traceparent[36:52]
        if spans is not None and spans.context.is_valid:
            here = spans.context
            seen.trace_id, seen.span_id = f"{here.trace_id:032x}", f"{here.span_id:016x}"
            seen.sampled = here.trace_flags.sampled
        try:
            # While the function's span is still current: exemplars, and the access line, belong to it.
            if telemetry.metrics is not None:
                telemetry.metrics.record(seen)
            if telemetry.prometheus is not None:
                telemetry.prometheus.record(seen)
            if telemetry.access_log:
                access.log(seen)
        finally:
            if spans is not None:
                spans.end(seen.error, "" if error is None else str(error))


class _IdleExchange(Exchange):
    def __init__(self) -> None:
        self.failures = 0

    def picked(self, reason: PickedBy, weight: int | None = None, variant: Variant = Variant.STABLE) -> None:
        pass

    def send(self, send: Send) -> Send:
        return send

    def failed(self, error: BaseException) -> None:
        pass

    def answered(self, status: int) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class _IdleWatch(Watch):
    def __init__(self) -> None:
        pass

    def __enter__(self) -> Watch:
        return self

    def queued(self) -> None:
        pass

    def executing(self, request: EdgeRequest, context: EdgeContext) -> EdgeRequest:
        return request

    def executed(self, outcome: Outcome, fault: WasmError | None) -> None:
        pass

    def violated(self, violations: Sequence[Violation]) -> None:
        pass

    def answered(self, status: int) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


IDLE_EXCHANGE = _IdleExchange()
IDLE_WATCH = _IdleWatch()


def whole_route(scope: Scope, route: str) -> str:
    """The template with the prefix of the mounts, whose parameters are names again; empty where it is not known.

    Where a value cannot be found in the prefix, the prefix is left out: a route must not vary with the request.
    """
    root: str = scope.get("root_path", "")
    if not root or not route:
        return route
    own = _PARAMETER.findall(route)
    outer = {str(value): name for name, value in scope.get("path_params", {}).items() if name not in own}
    if not outer:
        return root + route
    segments = root.split("/")
    if not outer.keys() <= set(segments):
        return route
    return "/".join(f"{{{outer[each]}}}" if each in outer else each for each in segments) + route
