"""The instruments of OpenTelemetry, made once, and what one invocation adds to them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, MeterProvider
from opentelemetry.metrics import Observation as Observed
from opentelemetry.util.types import Attributes

from . import conventions as names
from .bulk import MOST_SERIES, Bulk, InBulk, Series
from .conventions import Attribute, ErrorType, Metric
from .observation import Key, Observation
from .sdk import histogram_points

_of_providers: WeakKeyDictionary[MeterProvider, Metrics] = WeakKeyDictionary()


class Metrics:
    """Records observations on the instruments of one meter.

    Exemplars are the SDK's: it takes the span that is current when an observation is recorded. What invocations that
    succeed have to say comes to it when a reader collects: see bulk.py.
    """

    @classmethod
    def of(cls, provider: MeterProvider, scope: str) -> Metrics:
        """Return the instruments of a provider, one set for all runtimes: none is lost with its runtime."""
        found = _of_providers.get(provider)
        if found is None:
            found = _of_providers[provider] = cls(provider.get_meter(scope))
        return found

    def __init__(self, meter: Meter) -> None:
        self.bulk = InBulk()
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
        self._attributes: dict[Key, Attributes] = {}

    def record(self, seen: Observation) -> None:
        if not (seen.is_ordinary and self.bulk.add(seen.key, seen.sampled, seen.duration, seen.cpu, seen.memory)):
            self.record_alone(seen)

    def record_alone(self, seen: Observation) -> None:
        """Record what does not go with others, by the API."""
        key, error = seen.key, seen.error
        attributes = self._attributes.get(key)
        if attributes is None:
            attributes = self._remember(key)
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
            if error is None:
                self.bulk.begin(key, partial(self._series, attributes))
        if seen.cold:
            self._coldstarts.add(1, attributes)
            self._init_duration.record(seen.init, attributes)
        if seen.waited is not None:
            self._queue_wait.record(seen.waited, attributes)

    def _series(self, attributes: Attributes) -> Series:
        """Make the series of an invocation that has just been recorded on all of its instruments."""

        def bulk(histogram: Histogram, metric: Metric) -> Bulk:
            return Bulk(metric.buckets, histogram_points(histogram, attributes, metric.buckets))

        return Series(
            partial(self._invocations.add, attributes=attributes),
            bulk(self._invoke_duration, names.INVOKE_DURATION),
            bulk(self._cpu_usage, names.CPU_USAGE),
            bulk(self._mem_usage, names.MEM_USAGE),
        )

    def _hand_over(self, options: CallbackOptions) -> Iterable[Observed]:
        self.bulk.hand_over()
        return ()

    def _remember(self, key: Key) -> Attributes:
        if len(self._attributes) >= MOST_SERIES:
            self._attributes.clear()
        attributes: Attributes = {name.value: value for name, value in zip(names.INVOCATION, key, strict=True) if value}
        self._attributes[key] = attributes
        return attributes

    def violation(self, function: str, kind: str, count: int) -> None:
        self._violations.add(count, {Attribute.NAME.value: function, Attribute.VIOLATION.value: kind})

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
