"""``GET /metrics``: the same figures for Prometheus, with the extra ``prometheus``.

They are kept in the registry of prometheus-client, and so served together with those of the app. Under several
workers each has figures of its own, unless ``PROMETHEUS_MULTIPROC_DIR`` is set before the process starts: then all
workers answer for all.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from ..sync.delayed_call import DelayedCall
from . import conventions as names
from .bulk import MOST_SERIES, Bulk, InBulk, Series
from .conventions import ErrorType, Metric
from .observation import Key, Observation

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_UNITS = {"s": "seconds", "By": "bytes", "%": "percent"}
_SECONDS = 0.5
_LIVE = re.compile(r"gauge_live[a-z]*_(\d+)\.db").fullmatch
_LONGEST_ACCEPT = 1024
_VERSION = re.compile(r"version[^=;,]*=([^;,]*)", re.IGNORECASE).findall
_VERSIONS = ("0.0.1", "0.0.4", "1.0.0")
_INVOCATION = tuple(attribute.value.replace(".", "_") for attribute in names.INVOCATION)


def name_of(metric: Metric) -> str:
    """Return the name in Prometheus: with the unit, and ``_total`` for a counter."""
    parts = [metric.name.replace(".", "_"), _UNITS.get(metric.unit, "")]
    return "_".join(filter(None, [*parts, "total" if metric.kind == "counter" else ""]))


@cache
def recorder() -> Recorder | None:
    """Return the collector of the process, as is the registry; None without prometheus-client."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        return None
    return Recorder()


class _SharedFigures(InBulk):
    """Figures that other processes read from files, so that they are handed over a moment later."""

    def __init__(self) -> None:
        super().__init__()
        self.later = DelayedCall(_SECONDS, self.hand_over)

    def forget(self) -> None:
        super().forget()
        self.later.forget()

    def add(self, key: Key, sampled: bool, duration: float, cpu: float, memory: int) -> bool:
        added = super().add(key, sampled, duration, cpu, memory)
        if added:
            self.later.schedule()
        return added


class Recorder:
    """Adds observations to the metrics of prometheus-client."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        if directory := os.environ.get(_DIRECTORY):
            os.makedirs(directory, exist_ok=True)

        self.bulk = bulk = _SharedFigures() if directory else InBulk()

        class CompleteHistogram(Histogram):
            """One that is read with all that was added in bulk."""

            def collect(self) -> Any:
                bulk.hand_over()
                return super().collect()

        class CompleteCounter(Counter):
            def collect(self) -> Any:
                bulk.hand_over()
                return super().collect()

        def histogram(metric: Metric) -> Any:
            return CompleteHistogram(name_of(metric), metric.description, _INVOCATION, buckets=metric.buckets)

        def counter(metric: Metric) -> Any:
            labels = [str(attribute).replace(".", "_") for attribute in metric.attributes]
            return CompleteCounter(name_of(metric), metric.description, labels)

        self._durations = histogram(names.INVOKE_DURATION)
        self._inits = histogram(names.INIT_DURATION)
        self._cpu = histogram(names.CPU_USAGE)
        self._memory = histogram(names.MEM_USAGE)
        self._waits = histogram(names.QUEUE_WAIT)
        self._invocations = counter(names.INVOCATIONS)
        self._coldstarts = counter(names.COLDSTARTS)
        self._errors = counter(names.ERRORS)
        self._timeouts = counter(names.TIMEOUTS)
        self._violations = counter(names.POLICY_VIOLATIONS)
        self._tenant_requests = counter(names.TENANT_REQUESTS)
        self._tenant_cpu = counter(names.TENANT_CPU)
        self._of_pipelines = {metric: counter(metric) for metric in names.PIPELINES}
        self._running = Gauge(
            "starlette_wasm_running", "Invocations under way, queued ones included.", ["faas_name"],
            multiprocess_mode="livesum",
        )  # fmt: skip
        self._canary = Gauge(
            name_of(names.CANARY_WEIGHT), names.CANARY_WEIGHT.description, ["faas_name", "faas_version"],
            multiprocess_mode="mostrecent",
        )  # fmt: skip
        self._overdue = Gauge(
            name_of(names.CANARY_OVERDUE), names.CANARY_OVERDUE.description, ["faas_name", "faas_version"],
            multiprocess_mode="mostrecent",
        )  # fmt: skip
        self._healthy = Gauge(
            name_of(names.FUNCTION_HEALTHY), names.FUNCTION_HEALTHY.description, ["faas_name", "faas_version"],
            multiprocess_mode="livemin",
        )  # fmt: skip
        self._refused = Gauge(
            name_of(names.RELOAD_REFUSED), names.RELOAD_REFUSED.description, multiprocess_mode="livemax"
        )
        self._series: dict[Key, _Series] = {}
        self._gauges: dict[str, Any] = {}

    def hand_over(self, *, delay: bool) -> None:
        """Let others see what was added in bulk; without ``delay`` also what will be, and at once."""
        if isinstance(self.bulk, _SharedFigures):
            self.bulk.later.delays = delay
            self.bulk.hand_over()

    def enter(self, function: str) -> None:
        self._gauge(function).inc()

    def _gauge(self, function: str) -> Any:
        gauge = self._gauges.get(function)
        if gauge is None:
            gauge = self._gauges[function] = self._running.labels(function)
        return gauge

    def leave(self, function: str) -> None:
        self._gauges[function].dec()

    def record(self, seen: Observation) -> None:
        if not (seen.is_ordinary and self.bulk.add(seen.key, seen.sampled, seen.duration, seen.cpu, seen.memory)):
            self.record_alone(seen)

    def record_alone(self, seen: Observation) -> None:
        """Record what does not go with others."""
        labels = seen.key
        series = self._series.get(labels)
        if series is None:
            if len(self._series) >= MOST_SERIES:
                self._series.clear()
            series = self._series[labels] = _Series(self, labels)
            self._gauge(seen.function)  # 0 for a function of which no invocation lasts
        exemplar = None
        if seen.sampled and seen.trace_id and seen.span_id:
            exemplar = {"trace_id": seen.trace_id, "span_id": seen.span_id}
        series.duration.observe(seen.duration, exemplar)
        if seen.error is None:
            series.invocations.inc()
        else:
            self._errors.labels(*labels, seen.error.value).inc()
            if seen.error is ErrorType.EXECUTION_TIMEOUT:
                self._timeouts.labels(*labels).inc()
        if seen.ran:
            series.cpu.observe(seen.cpu)
            series.memory.observe(seen.memory)
            if seen.error is None:
                self.bulk.begin(labels, series.in_bulk)
        if seen.cold:
            self._coldstarts.labels(*labels).inc()
            self._inits.labels(*labels).observe(seen.init)
        if seen.waited is not None:
            self._waits.labels(*labels).observe(seen.waited)

    def violation(self, function: str, kind: str, count: int) -> None:
        self._violations.labels(function, kind).inc(count)

    def of_pipeline(self, metric: Metric, function: str, version: str) -> None:
        self._of_pipelines[metric].labels(function, version).inc()

    def tenant_request(self, tenant: str, outcome: str) -> None:
        self._tenant_requests.labels(tenant, outcome).inc()

    def tenant_cpu(self, tenant: str, seconds: float) -> None:
        self._tenant_cpu.labels(tenant).inc(seconds)

    def canary_weight(self, function: str, version: str, percent: float) -> None:
        self._canary.labels(function, version).set(percent)

    def canary_overdue(self, function: str, version: str, overdue: bool) -> None:
        self._overdue.labels(function, version).set(int(overdue))

    def function_healthy(self, function: str, version: str, healthy: bool) -> None:
        self._healthy.labels(function, version).set(int(healthy))

    def reload_refused(self, refused: bool) -> None:
        self._refused.set(int(refused))

    def function_gone(self, function: str, version: str) -> None:
        if _DIRECTORY in os.environ:  # the files of several workers cannot lose a series
            self.function_healthy(function, version, True)
        else:
            self._healthy.remove(function, version)


class _Series:
    """What nearly every invocation adds to, looked up once."""

    __slots__ = ("cpu", "duration", "invocations", "memory")

    def __init__(self, recorder: Recorder, labels: Key) -> None:
        self.duration = recorder._durations.labels(*labels)
        self.invocations = recorder._invocations.labels(*labels)
        self.cpu = recorder._cpu.labels(*labels)
        self.memory = recorder._memory.labels(*labels)

    def in_bulk(self) -> Series:
        """Return the same for many invocations at once; raises LookupError with another prometheus-client."""
        return Series(
            self.invocations.inc,
            Bulk(names.INVOKE_DURATION.buckets, [_Point(self.duration, names.INVOKE_DURATION)]),
            Bulk(names.CPU_USAGE.buckets, [_Point(self.cpu, names.CPU_USAGE)]),
            Bulk(names.MEM_USAGE.buckets, [_Point(self.memory, names.MEM_USAGE)]),
        )


class _Point:
    """A histogram of prometheus-client with its labels, to which observations are added by what it is made of."""

    def __init__(self, histogram: Any, metric: Metric) -> None:
        if not {"_upper_bounds", "_buckets", "_sum"} <= vars(histogram).keys():
            raise LookupError("another prometheus-client")
        if list(histogram._upper_bounds) != [*metric.buckets, math.inf]:
            raise LookupError("other buckets")
        self._buckets, self._sum = histogram._buckets, histogram._sum

    def add(self, counts: Sequence[int], total: float, low: float, high: float) -> None:
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


def readable(accept: str) -> str:
    """Return what a client accepts, or an empty text, which means all, if it names a version that there is not.

    prometheus-client raises TypeError for such as 1.x, and gives others back as its own.
    """
    known = len(accept) <= _LONGEST_ACCEPT and all(each.strip() in _VERSIONS for each in _VERSION(accept))
    return accept if known else ""


def form(accept: str) -> str:
    """Return the content type of an answer; there are a few. Raises ImportError without prometheus-client."""
    from prometheus_client.exposition import choose_encoder

    return choose_encoder(accept)[1]


def text(accept: str) -> tuple[bytes, str]:
    """Return the body and the content type of an answer: OpenMetrics, with exemplars, if ``accept`` asks for it.

    Reads files under several workers. Raises ImportError without prometheus-client.
    """
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = REGISTRY
    if directory := os.environ.get(_DIRECTORY):
        _bury(directory)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _bury(directory: str) -> None:
    """Take away what dead workers were running; uvicorn has no hook for their end."""
    from prometheus_client.multiprocess import mark_process_dead

    for name in os.listdir(directory):
        if live := _LIVE(name):
            try:
                os.kill(int(live[1]), 0)
            except ProcessLookupError:
                mark_process_dead(int(live[1]), directory)  # type: ignore[no-untyped-call]
            except OSError:
                continue
