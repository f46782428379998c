"""Providers of an SDK that keep what they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import format_span_id, format_trace_id

from starlette_wasm import WasmRuntime
from starlette_wasm.telemetry import Telemetry

Make = Callable[..., WasmRuntime]

_MESSAGES = (" http receive", " http send")


class Collector:
    """Providers of an SDK, and what came of them."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(sampler=sampler)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], exemplar_filter=AlwaysOnExemplarFilter())

    def telemetry(self) -> Telemetry:
        return Telemetry(tracer_provider=self.tracers, meter_provider=self.meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        """All but those that the ASGI instrumentation has for each message."""
        return [span for span in self._exporter.get_finished_spans() if not span.name.endswith(_MESSAGES)]

    def span(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def tree(self) -> list[Any]:
        """``[name, child, child...]`` of the only root, children in the order of their start."""
        spans = sorted(self.spans, key=lambda span: span.start_time or 0)
        local = {span.context.span_id for span in spans if span.context}
        roots = [span for span in spans if span.parent is None or span.parent.span_id not in local]
        assert len(roots) == 1, [span.name for span in roots]
        assert len({span.context.trace_id for span in spans if span.context}) == 1

        def branch(span: ReadableSpan) -> list[Any]:
            assert span.context is not None
            mine = [each for each in spans if each.parent and each.parent.span_id == span.context.span_id]
            return [span.name, *(branch(each) for each in mine)]

        return branch(roots[0])

    def metrics(self) -> dict[str, Any]:
        """The data points of each metric."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}


def traceparent(span: ReadableSpan) -> str:
    assert span.context is not None
    flags = span.context.trace_flags
    return f"00-{format_trace_id(span.context.trace_id)}-{format_span_id(span.context.span_id)}-{flags:02x}"
