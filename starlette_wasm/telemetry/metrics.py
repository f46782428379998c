"""The instruments of OpenTelemetry, made once, and what one invocation adds to them."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, MeterProvider
from opentelemetry.metrics import Observation as Observed
from opentelemetry.util.types import Attributes

from . import conventions as names
from .bulk import Series
from .conventions import Attribute, ErrorType, Metric
from .observation import Observation

_MOST_KEYS = 4096


_of_providers: WeakKeyDictionary[MeterProvider, Metrics] = WeakKeyDictionary()


class Metrics:
    """Records observations on the instruments of one meter.

    Exemplars are the SDK's: it takes the span that is current when an observation is recorded. What invocations that
    succeed have to say comes to it when a reader collects: see bulk.py.
    """

    @classmethod
    def of(cls, provider: MeterProvider, scope: str) -> Metrics:
        """The instruments of a provider, one set for all runtimes: none is lost with its runtime."""
        found = _of_providers.get(provider)
        if found is None:
            found = _of_providers[provider] = cls(provider.get_meter(scope))
        return found

    def __init__(self, meter: Meter) -> None:
        self._lock = Lock()
        self._series: dict[tuple[str, ...], Series | None] = {}
        # It has no points: its callback is called before the histograms are collected, whatever the reader.
        meter.create_observable_counter("starlette_wasm.bulk", [self._hand_over])
        self._invoke_duration = _histogram(meter, names.INVOKE_DURATION)
        self._init_duration = _histogram(meter, names.INIT_DURATION)
        self._cpu_usage = _histogram(meter, names.CPU_USAGE)
        self._mem_usage = _histogram(meter, names.MEM_USAGE)
        self._queue_wait = _histogram(meter, names.QUEUE_WAIT)
        self._invocations = _counter(meter, names.INVOCATIONS)
        self._coldstarts = _counter(meter, names.COLDSTARTS)
        self._errors = _counter(meter, names.ERRORS)
        self._timeouts = _counter(meter, names.TIMEOUTS)
        self._violations = _counter(meter, names.POLICY_VIOLATIONS)
        self._tenant_requests = _counter(meter, names.TENANT_REQUESTS)
        self._tenant_cpu = _counter(meter, names.TENANT_CPU)
        self._of_pipelines = {metric: _counter(meter, metric) for metric in names.PIPELINES}
        metric = names.CANARY_WEIGHT
        self._canary_weight = meter.create_gauge(metric.name, metric.unit, metric.description)
        metric = names.CANARY_OVERDUE
        self._canary_overdue = meter.create_gauge(metric.name, metric.unit, metric.description)
        metric = names.FUNCTION_HEALTHY
        self._healthy = meter.create_gauge(metric.name, metric.unit, metric.description)
        metric = names.RELOAD_REFUSED
        self._reload_refused = meter.create_gauge(metric.name, metric.unit, metric.description)
        # The same dict for the same series: building one costs more than to look it up.
        self._attributes: dict[tuple[str, ...], Attributes] = {}

    def record(self, seen: Observation) -> None:
        key = (seen.trigger, seen.function, seen.version, seen.route, seen.variant)
        attributes = self._attributes.get(key)
        if attributes is None:
            attributes = self._remember(key)
        error = seen.error
        if error is None and seen.ran:
            with self._lock:
                series = self._series.get(key)
                if series is not None and series.takes(seen):
                    series.add(seen)
                    return
        if error is None:
            self._invocations.add(1, attributes)
            self._invoke_duration.record(seen.duration, attributes)
        else:
            failed = {**(attributes or {}), Attribute.ERROR_TYPE: error.value}
            self._errors.add(1, failed)
            self._invoke_duration.record(seen.duration, failed)
            if error is ErrorType.EXECUTION_TIMEOUT:
                self._timeouts.add(1, attributes)
        if seen.ran:
            self._cpu_usage.record(seen.cpu, attributes)
            self._mem_usage.record(seen.memory, attributes)
            if error is None and key not in self._series:
                self._begin_series(key, attributes)
        if seen.cold:
            self._coldstarts.add(1, attributes)
            self._init_duration.record(seen.init, attributes)
        if seen.waited is not None:
            self._queue_wait.record(seen.waited, attributes)

    def _begin_series(self, key: tuple[str, ...], attributes: Attributes) -> None:
        """Take what comes next together; the first observation has just been recorded."""
        histograms = (
            (self._invoke_duration, names.INVOKE_DURATION.buckets),
            (self._cpu_usage, names.CPU_USAGE.buckets),
            (self._mem_usage, names.MEM_USAGE.buckets),
        )
        try:
            series = Series(attributes, self._invocations, histograms)
        except LookupError:
            series = None
        with self._lock:
            if key in self._series:  # from another thread, and it may hold observations already
                return
            if len(self._series) >= _MOST_KEYS:
                self._hand_over_all()
                self._series.clear()
            self._series[key] = series

    def _hand_over(self, options: CallbackOptions) -> Iterable[Observed]:
        with self._lock:
            self._hand_over_all()
        return ()

    def _hand_over_all(self) -> None:
        for series in self._series.values():
            if series is not None:
                series.hand_over()

    def _remember(self, key: tuple[str, ...]) -> Attributes:
        if len(self._attributes) >= _MOST_KEYS:
            self._attributes.clear()
        attributes: Attributes = {name.value: value for name, value in zip(names.INVOCATION, key, strict=True) if value}
        self._attributes[key] = attributes
        return attributes

    def violation(self, function: str, kind: str) -> None:
        self._violations.add(1, {Attribute.NAME.value: function, Attribute.VIOLATION.value: kind})

    def of_pipeline(self, metric: Metric, function: str, version: str) -> None:
        self._of_pipelines[metric].add(1, {Attribute.NAME.value: function, Attribute.VERSION.value: version})

    def tenant_request(self, tenant: str, outcome: str) -> None:
        self._tenant_requests.add(1, {Attribute.TENANT.value: tenant, Attribute.TENANT_OUTCOME.value: outcome})

    def tenant_cpu(self, tenant: str, seconds: float) -> None:
        self._tenant_cpu.add(seconds, {Attribute.TENANT.value: tenant})

    def canary_weight(self, function: str, version: str, percent: float) -> None:
        self._canary_weight.set(percent, {Attribute.NAME.value: function, Attribute.VERSION.value: version})

    def canary_overdue(self, function: str, version: str, overdue: bool) -> None:
        self._canary_overdue.set(int(overdue), {Attribute.NAME.value: function, Attribute.VERSION.value: version})

    def function_healthy(self, function: str, version: str, healthy: bool) -> None:
        self._healthy.set(int(healthy), {Attribute.NAME.value: function, Attribute.VERSION.value: version})

    def reload_refused(self, refused: bool) -> None:
        self._reload_refused.set(int(refused))

    def function_gone(self, function: str, version: str) -> None:
        # OpenTelemetry has no way to end a series. That of a version which failed would alarm for ever.
        self.function_healthy(function, version, True)


def _histogram(meter: Meter, metric: Metric) -> Histogram:
    return meter.create_histogram(
        metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
    )


def _counter(meter: Meter, metric: Metric) -> Counter:
    return meter.create_counter(metric.name, metric.unit, metric.description)
