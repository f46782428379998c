"""The end of a runtime sends what OpenTelemetry's providers hold back, and does not wait for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from apps import config, settings
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from starlette_wasm import EdgeRequest, WasmRuntime
from starlette_wasm.telemetry import Telemetry
from starlette_wasm.telemetry.flush import flush

HOUR_MS = 3_600_000


class KeptMetrics(MetricExporter):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: Any) -> MetricExportResult:
        scopes = [scope for each in metrics_data.resource_metrics for scope in each.scope_metrics]
        self.names |= {metric.name for scope in scopes for metric in scope.metrics}
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        pass


class Stuck(TracerProvider):
    """Does not return from a flush before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return self.gate.wait(60)


class Broken(TracerProvider):
    def force_flush(self, timeout_millis: int = 0) -> bool:
        raise OSError("no collector")


def held_back(spans: InMemorySpanExporter, figures: MetricExporter) -> Telemetry:
    """Providers that send nothing of their own accord."""
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(spans, schedule_delay_millis=HOUR_MS))
    return Telemetry(
        tracer_provider=tracers,
        meter_provider=MeterProvider([PeriodicExportingMetricReader(figures, HOUR_MS)]),
    )


@pytest.mark.parametrize("limit_ms", [0, 2000])
def test_close_flushes_unless_it_is_told_not_to(tmp_path: Path, limit_ms: int) -> None:
    spans, figures = InMemorySpanExporter(), KeptMetrics()

    async def main() -> None:
        runtime = WasmRuntime(config(tmp_path, functions=["echo"]), settings(flush_timeout_ms=limit_ms))
        runtime.telemetry = held_back(spans, figures)
        async with runtime:
            await runtime.invoke("echo", EdgeRequest())
            assert not spans.get_finished_spans()

    asyncio.run(main())
    assert bool(spans.get_finished_spans()) is ("faas.invocations" in figures.names) is bool(limit_ms)


def test_a_provider_that_does_not_return_is_left(caplog: pytest.LogCaptureFixture) -> None:
    provider = Stuck()
    begin = time.monotonic()
    asyncio.run(flush([provider], 100))
    assert time.monotonic() - begin < 30
    provider.gate.set()
    assert "telemetry is lost: Stuck did not take all within 100 ms" in caplog.text


def test_one_that_fails_does_not_keep_the_others(caplog: pytest.LogCaptureFixture) -> None:
    spans = InMemorySpanExporter()
    whole = TracerProvider()
    whole.add_span_processor(BatchSpanProcessor(spans, schedule_delay_millis=HOUR_MS))
    whole.get_tracer("t").start_span("s").end()
    asyncio.run(flush([Broken(), whole], 2000))
    assert [span.name for span in spans.get_finished_spans()] == ["s"]
    assert "Broken failed to flush: OSError: no collector" in caplog.text


def test_providers_that_cannot_flush_are_passed_over() -> None:
    asyncio.run(flush([object(), MeterProvider([InMemoryMetricReader()])], 1000))
