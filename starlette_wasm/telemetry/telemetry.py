"""``Telemetry``: the observers of a runtime, and what they get of each request and call.

If nobody listens, a request costs a check and a few empty calls; a benchmark measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from opentelemetry import context as contexts
from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import (
    NoOpTracer,
    ProxyTracer,
    Span,
    Tracer,
    TracerProvider,
    get_current_span,
)
from opentelemetry.util.types import AttributeValue
from starlette.types import Scope

from .._compat import METRICS_GLOBALS, SPAN_KEY, TRACE_GLOBALS, is_placeholder
from ..engine import layout
from ..engine.fast_path import Completed
from ..functions.target import Target
from ..messages import EdgeRequest
from . import access, prometheus
from .call_telemetry import ActiveCallTelemetry
from .conventions import GUEST_SCOPE, Metric
from .exclusions import UNTRACED, Exclusions
from .flush import flush
from .idle import CallTelemetry, Listeners, RequestTelemetry
from .metrics import Metrics
from .observation import Observation
from .propagation import extract_scope
from .request_telemetry import ActiveRequestTelemetry, UnsampledRequestTelemetry
from .spans import ServerSpan, WarmSpan, WarmTracer, end_warm, in_warm
from .versions import Versions

_SCOPE = "starlette_wasm"
_SAMPLED = "13579bdf"
"""The last digit of a traceparent that is sampled."""
_MOST_TENANTS = 1000
"""Tenants with series of their own."""


class Telemetry(Listeners):
    """Spans, metrics, Prometheus figures and access lines of one runtime.

    Spans and metrics go to the given providers, else to the global ones, also when those are set later.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        super().__init__()
        self._given = tracer_provider, meter_provider
        self._probed: set[tuple[str, str]] = set()
        """The versions of functions whose probes have figures."""
        self._versions = Versions()
        self._tenants = Versions(_MOST_TENANTS)
        self.access_log = False
        self.listeners: list[Callable[[Observation], None]] = []
        """Further observers of each invocation."""
        self.exclusions = Exclusions()
        """The requests that get no spans."""
        self.prometheus: prometheus.Recorder | None = None
        self.tracer: Tracer | None = None
        self._warm_tracer: WarmTracer | None = None
        self.guest_tracer: Tracer | None = None
        """For the spans that guests start."""
        self.metrics: Metrics | None = None
        self._recorders: list[Metrics | prometheus.Recorder] = []
        """What takes figures, if anybody listens."""

    def configure(self, *, access_log: bool, prometheus_text: bool) -> None:
        """Configure it from settings and config; ``prometheus_text`` has no effect without the extra."""
        self.access_log = access_log
        if access_log:
            access.install()
        self.prometheus = prometheus.recorder() if prometheus_text else None
        self._tracers = self._meters = self

    def listen(self, listener: Callable[[Observation], None]) -> None:
        """Tell ``listener`` of each invocation from now on."""
        if listener not in self.listeners:
            self.listeners.append(listener)
            self._tracers = self._meters = self  # look again whether anybody listens

    def _look(self) -> None:
        given_tracers, given_meters = self._given
        tracers = given_tracers or trace.get_tracer_provider()
        tracer = tracers.get_tracer(_SCOPE)
        meters = given_meters or metrics.get_meter_provider()
        self.tracer = None if isinstance(tracer, NoOpTracer | ProxyTracer) else tracer
        self._warm_tracer = None if self.tracer is None else WarmTracer(self.tracer)
        self.guest_tracer = None if self.tracer is None else tracers.get_tracer(GUEST_SCOPE)
        self.metrics = None if is_placeholder(meters.get_meter(_SCOPE)) else Metrics.of(meters, _SCOPE)
        self._recorders = [each for each in (self.metrics, self.prometheus) if each is not None]
        self._tracers = TRACE_GLOBALS.get("_TRACER_PROVIDER", self)
        self._meters = METRICS_GLOBALS.get("_METER_PROVIDER", self)
        self._active = bool(self.tracer or self.metrics or self.prometheus or self.access_log or self.listeners)

    def hurry(self) -> None:
        """Hold nothing back from now on: the process may end at any time."""
        self._hand_over(delay=False)

    def _hand_over(self, *, delay: bool) -> None:
        access.write_out(delay=delay)
        if self.prometheus is not None:
            self.prometheus.hand_over(delay=delay)

    async def flush(self, limit_ms: int) -> None:
        """Send what is held back, by the global providers too, for ``limit_ms`` at most."""
        self._hand_over(delay=True)
        await flush([each for each in self._given if each is not None], limit_ms)

    def _exchange(self, scope: Scope, route: str, since: int) -> RequestTelemetry:
        tracer, method = self._warm_tracer, scope["method"]
        if tracer is None:
            return ActiveRequestTelemetry(method, route)
        context = contexts.get_current()
        current: Span = context.get(SPAN_KEY) or get_current_span(context)  # type: ignore[assignment]
        there = current.get_span_context()
        has_span = there.is_valid
        is_ours = has_span and not there.is_remote
        if is_ours and not current.is_recording():  # the sampler has refused it
            if since or self._recorders or self.access_log or self.listeners:
                return ActiveRequestTelemetry(method, route, context=there)
            return UnsampledRequestTelemetry(there, method, route)
        if self.exclusions(scope, context, has_span):
            token = contexts.attach(contexts.set_value(UNTRACED, True))
            return ActiveRequestTelemetry(method, route, context=there if has_span else None, token=token)
        if is_ours:
            span = ServerSpan.around(current, scope, route)
            return ActiveRequestTelemetry(method, route, context=there, tracer=tracer, span=span)
        parent = context if has_span else extract_scope(scope)
        span, there = ServerSpan.new(tracer, parent, scope, route, since)
        return ActiveRequestTelemetry(
            method, route, context=there, tracer=tracer if span.span is not None else None, span=span
        )

    def _watch(
        self,
        target: Target,
        request: EdgeRequest,
        exchange: RequestTelemetry | None,
        since: int,
        attempt: int | None,
        attributes: Mapping[str, AttributeValue] | None,
        ran: float,
    ) -> CallTelemetry:
        if isinstance(exchange, UnsampledRequestTelemetry):
            exchange = exchange.active()
        assert exchange is None or isinstance(exchange, ActiveRequestTelemetry)
        return ActiveCallTelemetry(self, target, request, exchange, since, attempt, attributes, ran)

    def record(self, seen: Observation) -> None:
        """Record an invocation that is over, of which all is known."""
        if self.access_log:
            access.log(seen)
        seen = _with_version(seen, self._versions.label(seen.function, seen.version))
        for each in self._recorders:
            each.record(seen)
        for listener in self.listeners:
            listener(seen)

    def record_fast(self, exchange: RequestTelemetry, target: Target, completed: Completed, duration: float) -> None:
        """Record a call that took the fast path."""
        if exchange.idle:
            return
        assert isinstance(exchange, ActiveRequestTelemetry)
        warm, exchange.warm = exchange.warm, None
        memory = layout.PAGE * max(completed.pages, target.function.module.min_pages)
        if self._recorders or self.access_log or self.listeners:
            self._record_figures(exchange, target, completed, duration, memory, warm)
        if warm is not None:
            end_warm(warm, completed, memory)

    def _record_figures(
        self,
        exchange: ActiveRequestTelemetry,
        target: Target,
        completed: Completed,
        duration: float,
        memory: int,
        warm: WarmSpan | None,
    ) -> None:
        """Add a call to what is taken in bulk; make an observation of it only for whoever wants that."""
        version = self._versions.label(target.name, target.version)
        key = ("http", target.name, version, exchange.route, exchange.variant._value_)
        trace = completed.traceparent if exchange.context is not None else None
        sampled = trace is not None and trace[-1] in _SAMPLED
        cpu = completed.ran_ns / 1e9
        alone: list[Metrics | prometheus.Recorder] = []
        for each in self._recorders:  # a comprehension is one more call
            if not each.bulk.add(key, sampled, duration, cpu, memory):
                alone.append(each)
        if not (alone or self.access_log or self.listeners):
            return
        seen = self._observe_fast(exchange, target, completed, duration, memory)
        watched = alone or self.listeners or access.bulk_handler() is None
        token = contexts.attach(in_warm(warm)) if warm is not None and watched else None
        try:  # while the function's span is current: exemplars, and the access line, belong to it
            if self.access_log:
                access.log(seen)
            seen = _with_version(seen, version)
            for each in alone:
                each.record_alone(seen)
            for listener in self.listeners:
                listener(seen)
        finally:
            if token is not None:
                contexts.detach(token)

    def _observe_fast(
        self, exchange: ActiveRequestTelemetry, target: Target, completed: Completed, duration: float, memory: int
    ) -> Observation:
        seen = Observation(target.name, target.version, "http", exchange.method, exchange.route)
        seen.variant, seen.reason, seen.attempt = exchange.variant.value, exchange.reason.value, exchange.failures + 1
        seen.duration, seen.ran, seen.cpu = duration, True, completed.ran_ns / 1e9
        seen.memory = memory
        seen.status = completed.status
        seen.request_id = completed.request_id.decode("ascii")
        if completed.traceparent is not None:
            seen.trace_id, seen.span_id = completed.traceparent[3:35], completed.traceparent[36:52]
            seen.sampled = exchange.context is not None and int(completed.traceparent[53:], 16) & 1 == 1
        return seen

    def _figures(self) -> list[Metrics | prometheus.Recorder]:
        """Return whatever takes figures; nothing if nobody listens."""
        return self._recorders if self.active else []

    def violation(self, function: str, kind: str, count: int) -> None:
        """Record how often a policy refused something to a guest: ``kind`` is of ``conventions.VIOLATION_KINDS``."""
        for each in self._figures():
            each.violation(function, kind, count)

    def of_pipeline(self, metric: Metric, function: str, version: str) -> None:
        """Count one more of ``conventions.PIPELINES``, for the function that failed."""
        version = self._versions.label(function, version)
        for each in self._figures():
            each.of_pipeline(metric, function, version)

    def tenant_request(self, tenant: str, outcome: str) -> None:
        """Record that a request of a tenant was served, or refused by a quota."""
        tenant = self._tenants.label("", tenant)
        for each in self._figures():
            each.tenant_request(tenant, outcome)

    def tenant_cpu(self, tenant: str, seconds: float) -> None:
        """Record for how long guests of a tenant have run."""
        tenant = self._tenants.label("", tenant)
        for each in self._figures():
            each.tenant_cpu(tenant, seconds)

    def canary_weight(self, function: str, version: str, percent: float) -> None:
        """Record a canary's new share; 0 when it is over."""
        version = self._versions.label(function, version)
        for each in self._figures():
            each.canary_weight(function, version, percent)

    def canary_overdue(self, function: str, version: str, overdue: bool) -> None:
        """Record whether a canary has taken no step for too long."""
        for each in self._figures():
            each.canary_overdue(function, version, overdue)

    def function_healthy(self, function: str, version: str, healthy: bool) -> None:
        """Record that the probes of a version of a function have another result than before."""
        if self._versions.label(function, version) != version:
            return  # one figure cannot hold it for several
        for each in self._figures():
            each.function_healthy(function, version, healthy)
            self._probed.add((function, version))

    def reload_refused(self, refused: bool) -> None:
        """Record that a reload was taken, or refused."""
        for each in self._figures():
            each.reload_refused(refused)

    def function_gone(self, function: str, version: str) -> None:
        """Record that a version of a function is no longer served: its probes have no figures any more."""
        if (function, version) not in self._probed:
            return
        self._probed.remove((function, version))
        for each in self._figures():
            each.function_gone(function, version)


def _with_version(seen: Observation, version: str) -> Observation:
    """Return an observation under the version that metrics have; a line that waits keeps the real one."""
    return seen if seen.version == version else replace(seen, version=version)
