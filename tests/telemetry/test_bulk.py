"""What is added in bulk comes out of the SDK as what is recorded one by one."""

from __future__ import annotations

import random
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

from starlette_wasm.telemetry import sdk
from starlette_wasm.telemetry.bulk import Bulk, Series
from starlette_wasm.telemetry.conventions import ErrorType
from starlette_wasm.telemetry.metrics import Metrics
from starlette_wasm.telemetry.observation import Observation

_DELTA = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}


def seen(number: int) -> Observation:
    """Make one of several series; some failed, waited, were cold or did not run."""
    draw = random.Random(number)
    found = Observation(f"f{number % 2}", "1", "http", "GET", "/f", "stable")
    found.duration, found.cpu, found.memory = draw.expovariate(500), draw.expovariate(5000), 65536 * draw.randint(1, 99)
    found.ran = number % 11 != 0
    found.cold, found.init = number % 13 == 0, draw.random()
    found.waited = draw.random() if number % 7 == 0 else None
    found.error = ErrorType.EXECUTION_TIMEOUT if number % 5 == 0 else None
    found.sampled = number % 3 == 0
    return found


def readers() -> list[InMemoryMetricReader]:
    return [InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=_DELTA)]


def points(reader: InMemoryMetricReader) -> dict[Any, Any]:
    """All points by name and attributes, without times and exemplars."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    found = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            values: list[Any] = [
                getattr(point, name, None) for name in ("value", "count", "bucket_counts", "explicit_bounds")
            ]
            values += [pytest.approx(getattr(point, name, 0)) for name in ("sum", "min", "max")]
            found[metric.name, tuple(sorted((point.attributes or {}).items()))] = values
    return found


def collected(views: list[View]) -> list[dict[Any, Any]]:
    """What two readers have, each time after 100 observations."""
    kinds, found = readers(), []
    provider = MeterProvider(metric_readers=kinds, views=views)
    metrics = Metrics.of(provider, "test")
    assert Metrics.of(provider, "test") is metrics
    for turn in range(3):
        for number in range(100):
            metrics.record(seen(100 * turn + number))
        found += [points(reader) for reader in kinds]
    found += [points(reader) for reader in kinds]  # nothing came since
    provider.shutdown()
    return found


@pytest.mark.parametrize(
    "views",
    [
        [],
        [View(instrument_name="faas.cpu_usage", aggregation=ExplicitBucketHistogramAggregation([1.0]))],
        [View(instrument_name="faas.*", attribute_keys={"faas.name"})],
    ],
)
def test_figures_in_bulk_are_those_of_the_api(monkeypatch: pytest.MonkeyPatch, views: list[View]) -> None:
    in_bulk = collected(views)
    assert any("faas.invoke_duration" in name for each in in_bulk for name, _ in each)

    def missing(*args: object) -> list[sdk.HistogramPoint]:
        raise LookupError

    monkeypatch.setattr("starlette_wasm.telemetry.metrics.histogram_points", missing)
    assert collected(views) == in_bulk


def test_a_sampled_invocation_is_an_exemplar_and_most_are_plain_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    metrics, recorded = Metrics.of(provider, "test"), []
    record = metrics._invoke_duration.record
    monkeypatch.setattr(metrics._invoke_duration, "record", lambda *given: (recorded.append(given), record(*given)))
    found = seen(1)
    for _ in range(50):
        metrics.record(found)
    found.sampled = True
    for _ in range(50):
        metrics.record(found)
    assert len(recorded) == 2
    assert [each[1] for name, each in points(reader).items() if name[0] == "faas.invoke_duration"] == [100]
    provider.shutdown()


def test_a_series_that_two_threads_begin_loses_nothing() -> None:
    reader = InMemoryMetricReader()
    metrics = Metrics.of(MeterProvider(metric_readers=[reader]), "test")
    one = seen(1)
    one.error = one.waited = None
    one.sampled = one.cold = False
    one.ran = True
    for _ in range(3):
        metrics.record(one)
    series = metrics.bulk._series[one.key]
    assert series is not None

    def meanwhile() -> Series:
        """Make another one, while a thread has begun the first."""
        metrics.bulk._series[one.key] = series
        return Series(lambda count: None, *(Bulk((), ()) for _ in range(3)))

    del metrics.bulk._series[one.key]
    metrics.bulk.begin(one.key, meanwhile)
    counts = {name: values[0] for (name, _), values in points(reader).items()}
    assert counts["faas.invocations"] == 3
