"""What watches an answer, if the answer is written without messages: it notes the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.instrumentation import propagators
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.propagators import TraceResponsePropagator, get_global_response_propagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import Message, Receive, Scope, Send

from starlette_wasm.asgi.direct_write import write_at_once
from starlette_wasm.engine.native.library import native
from starlette_wasm.telemetry import send_watchers
from starlette_wasm.telemetry.request_telemetry import ActiveRequestTelemetry
from starlette_wasm.telemetry.send_watchers import watcher_of
from starlette_wasm.telemetry.spans import ServerSpan
from tests.asgi.test_direct_write import TEXT, cycle_of, send_both, state

needs_c = pytest.mark.skipif(native is None, reason="only C writes at once")
TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0%d"
Figures = list[tuple[str, list[tuple[dict[str, Any], Any]]]]


def figures_of(reader: InMemoryMetricReader) -> Figures:
    """Return the attributes of each figure, and sums but of durations."""
    data: Any = reader.get_metrics_data()
    found: Figures = []
    for figure in data.resource_metrics[0].scope_metrics[0].metrics:
        points = figure.data.data_points
        timed = "duration" in figure.name
        found.append((figure.name, [(dict(each.attributes), timed or vars(each).get("sum")) for each in points]))
    return sorted(found, key=lambda each: each[0])


def spans_of(exporter: InMemorySpanExporter) -> list[tuple[Any, ...]]:
    return [
        (each.name, each.kind, dict(each.attributes or {}), each.status.status_code, each.parent is None)
        for each in exporter.get_finished_spans()
    ]


def answered(at_once: bool, status: int, parent: int | None, **options: Any) -> tuple[object, ...]:
    """Answer a request inside of the instrumentation, in one of both ways. Return all that can be seen of it."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if at_once:
            assert write_at_once(cycle.receive, send, status, TEXT, b"hello")
        else:
            await send_both(send, status, TEXT, b"hello")

    headers = [] if parent is None else [(b"traceparent", TRACEPARENT % parent)]
    scope = {"type": "http", "method": "GET", "path": "/", "http_version": "1.1", "headers": headers}
    cycle = cycle_of(scope=scope)
    around = OpenTelemetryMiddleware(
        app, tracer_provider=provider, meter_provider=MeterProvider([reader]), **options
    )  # fmt: skip
    asyncio.run(ServerErrorMiddleware(around)(scope, cycle.receive, cycle.send))
    held = {name: value for name, value in state(cycle).items() if name != "scope"}
    return held, spans_of(exporter), figures_of(reader), around.content_length_header


@needs_c
@pytest.mark.parametrize("parent", [None, 0, 1])
@pytest.mark.parametrize("status", [200, 404, 503])
@pytest.mark.parametrize("excluded", [None, ["receive", "send"]])
def test_the_instrumentation_notes_what_it_notes_of_messages(
    status: int, parent: int | None, excluded: list[str] | None
) -> None:
    found = answered(True, status, parent, exclude_spans=excluded)
    assert found == answered(False, status, parent, exclude_spans=excluded)
    assert found[3] == 5
    assert len(found[1]) == (0 if parent == 0 else 1 if excluded else 3)  # type: ignore[arg-type]


@needs_c
def test_headers_that_are_captured_are_the_same() -> None:
    options: dict[str, Any] = {"http_capture_headers_server_response": [".*"], "exclude_spans": ["send"]}
    found = answered(True, 200, None, **options)
    assert found == answered(False, 200, None, **options)
    assert "http.response.header.content_type" in str(found[1])


@needs_c
def test_two_instrumentations_note_it_both() -> None:
    seen: list[str] = []

    class Around(OpenTelemetryMiddleware):
        def _set_server_span(self, *given: Any) -> None:
            seen.append(self.default_span_details({"method": "GET", "path": "/", "type": "http"})[0])
            super()._set_server_span(*given)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert write_at_once(cycle.receive, send, 200, TEXT, b"hello")

    cycle = cycle_of()
    both = Around(
        Around(app, default_span_details=lambda scope: ("inner", {}), exclude_spans=["send"]),
        default_span_details=lambda scope: ("outer", {}),
        exclude_spans=["send"],
    )
    asyncio.run(both(cycle.scope, cycle.receive, cycle.send))
    assert seen == ["inner", "outer", "inner", "outer"]


async def nowhere(message: Message) -> None:
    pass


def instrumented(**options: Any) -> Send:
    """Return the instrumentation's function around ``nowhere``."""
    around: Any = OpenTelemetryMiddleware(None, exclude_spans=["send"], **options)
    sending: Send = around._get_otel_send(None, "GET /", {"type": "http"}, nowhere, {})
    return sending


def test_hooks_and_propagators_get_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may change them."""
    assert watcher_of(instrumented()) is not None
    assert watcher_of(instrumented(client_response_hook=lambda *given: None)) is None
    monkeypatch.setattr(send_watchers, "_known", {})
    monkeypatch.setattr(propagators, "_RESPONSE_PROPAGATOR", TraceResponsePropagator())
    assert watcher_of(instrumented()) is None
    monkeypatch.setattr(propagators, "_RESPONSE_PROPAGATOR", None)
    assert watcher_of(instrumented()) is not None


def test_names_that_are_not_known_are_not_looked_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_watchers, "_known", {})
    monkeypatch.setattr(send_watchers, "_USED", frozenset({"end"}))
    assert watcher_of(instrumented()) is None
    assert watcher_of(nowhere) is None
    assert watcher_of(nowhere.__code__) is None


class Other:
    """Another version of the instrumentation, which notes the length times ``FACTOR``."""

    def _get_otel_send(
        self: Any, server_span: Any, server_span_name: str, scope: Scope, send: Send, duration_attrs: Any
    ) -> Send:
        expecting_trailers = False

        async def otel_send(message: Message) -> None:
            nonlocal expecting_trailers
            if not self.exclude_send_span:
                given = server_span_name, scope, send, message, message.get("status"), expecting_trailers
                expecting_trailers = self._set_send_span(*given)
            self._set_server_span(server_span, message, message.get("status"), duration_attrs)
            if get_global_response_propagator() is not None:
                return
            for name, value in message.get("headers", ()):
                if name == b"content-length":
                    self.content_length_header = int(value) * FACTOR
            await send(message)
            if message["type"] == "http.response.body":
                server_span.end()

        return otel_send


FACTOR = 1


@pytest.mark.parametrize("factor", [1, 2])
def test_another_instrumentation_is_tried(factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_watchers, "_known", {})
    monkeypatch.setattr(send_watchers, "_USED", send_watchers._USED | {"FACTOR"})
    monkeypatch.setattr(f"{__name__}.FACTOR", factor)
    monkeypatch.setattr(OpenTelemetryMiddleware, "_get_otel_send", Other._get_otel_send)
    found = watcher_of(instrumented())
    assert (found is not None) is (factor == 1)


@needs_c
def test_a_server_span_gets_the_status() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    found = []
    for at_once in (True, False):
        cycle = cycle_of()
        span = ServerSpan(provider.get_tracer("a").start_span("GET /"), ours=True)
        with ActiveRequestTelemetry("GET", "/", span=span) as request:
            send = request.send(cycle.send)
            if at_once:
                assert write_at_once(cycle.receive, send, 503, TEXT, b"hello")
            else:
                asyncio.run(send_both(send, 503, TEXT, b"hello"))
        found.append((state(cycle), spans_of(exporter)))
        exporter.clear()
    assert found[0] == found[1]
    assert found[0][1][0][2] == {"http.response.status_code": 503, "error.type": "503"}
