"""A server span that the SDK gets once somebody uses it is, in every field, what the API would have made."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from apps import add_constant, client, config, run, settings
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
    use_span,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from starlette_wasm import Call, WasmMiddleware, WasmRuntime, wasm_route
from starlette_wasm.telemetry import Telemetry, spans
from starlette_wasm.telemetry.deferred_span import DeferredSpan
from starlette_wasm.telemetry.spans import WarmTracer

GIVEN = {"url.path": "/a", "server.port": 80}
OTHER = SpanContext(3 << 90, 4, is_remote=True, trace_flags=TraceFlags(3), trace_state=TraceState([("a", "b")]))
UNSAMPLED = SpanContext(3 << 90, 4, is_remote=True, trace_flags=TraceFlags(0))


def of(sampler: Sampler = ALWAYS_ON, **given: Any) -> tuple[WarmTracer, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False, **given)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return WarmTracer(provider.get_tracer("test")), exporter


def begun(tracer: WarmTracer, context: Context, *, deferred: bool) -> Span:
    if deferred:
        span = tracer.begin_server(context, "GET /a", GIVEN, 5)
        assert type(span) is DeferredSpan
        return span
    return tracer.tracer.start_span("GET /a", context, SpanKind.SERVER, GIVEN, start_time=5)


def fields(span: ReadableSpan) -> dict[str, Any]:
    assert span.context is not None
    assert span.start_time == 5
    assert span.end_time is not None
    assert span.end_time > 5
    flags = span.context.trace_flags, span.context.trace_state, span.context.is_remote
    events = [(event.name, dict(event.attributes or {})) for event in span.events]
    links = [(link.context, dict(link.attributes or {})) for link in span.links]
    status = span.status.status_code, span.status.description
    return {
        "class": type(span),
        "name": span.name,
        "kind": span.kind,
        "attributes": dict(span.attributes or {}),
        "parent": span.parent,
        "others": (flags, events, links, status, span.resource, span.instrumentation_scope),
    }


def within(span: Span) -> None:
    with use_span(span, record_exception=False, set_status_on_exception=False):
        trace.get_current_span().set_attribute("within", True)


def read(span: Any) -> None:
    assert isinstance(span, SdkSpan)
    assert isinstance(span, ReadableSpan)
    assert (span.name, span.kind, span.start_time, dict(span.attributes)) == ("GET /a", SpanKind.SERVER, 5, GIVEN)
    assert "GET /a" in repr(span)


def fail(span: Any) -> None:
    assert span.__exit__(ValueError, ValueError("v"), None) is None


USES: dict[str, Callable[[Any], object]] = {
    "nothing": lambda span: None,
    "id": lambda span: (span.get_span_context(), span.is_recording()),
    "attribute": lambda span: span.set_attribute("a", 1),
    "attributes": lambda span: span.set_attributes({"url.path": "/b", "b": ["c"]}),
    "event": lambda span: span.add_event("e", {"a": 1}),
    "link": lambda span: span.add_link(OTHER, {"a": 1}),
    "name": lambda span: span.update_name("other"),
    "status": lambda span: span.set_status(Status(StatusCode.ERROR, "why")),
    "read": read,
    "within": within,
}


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("context", [Context(), set_span_in_context(NonRecordingSpan(OTHER), Context())])
def test_any_use_gives_what_the_api_gives(name: str, context: Context) -> None:
    found = []
    for deferred in (True, False):
        tracer, exporter = of()
        span = begun(tracer, context, deferred=deferred)
        assert span.is_recording()
        USES[name](span)
        span.end()
        assert not span.is_recording()
        (finished,) = exporter.get_finished_spans()
        assert finished.context == span.get_span_context()
        found.append(fields(finished))
    assert found[0] == found[1]


@pytest.mark.parametrize("use", [fail, lambda span: span.record_exception(ValueError("v"))])
def test_exceptions_are_recorded_as_by_the_api(use: Callable[[Any], object]) -> None:
    found = []
    for deferred in (True, False):
        tracer, exporter = of()
        span = begun(tracer, Context(), deferred=deferred)
        use(span)
        span.end()
        (finished,) = exporter.get_finished_spans()
        (event,) = finished.events
        assert (event.attributes or {})["exception.message"] == "v"
        found.append((finished.status.status_code, finished.status.description))
    assert found[0] == found[1]


def test_what_comes_after_the_end_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    tracer, exporter = of()
    span: Any = begun(tracer, Context(), deferred=True)
    span.put({"a": 1})
    span.end()
    (finished,) = exporter.get_finished_spans()
    with caplog.at_level(logging.WARNING):
        span.set_attribute("late", 1)
        span.end()
    assert len(caplog.messages) == 2
    assert exporter.get_finished_spans() == (finished,)
    assert dict(finished.attributes or {}) == dict(span.attributes) == {**GIVEN, "a": 1}
    assert span.end_time == finished.end_time
    assert not span.is_recording()


def test_more_attributes_follow_a_use() -> None:
    tracer, exporter = of()
    span: Any = begun(tracer, Context(), deferred=True)
    span.put({"a": 1})
    span.set_attribute("b", 2)
    span.put({"c": 3})
    span.end(end_time=9)
    (finished,) = exporter.get_finished_spans()
    assert dict(finished.attributes or {}) == {**GIVEN, "a": 1, "b": 2, "c": 3}
    assert finished.end_time == 9


def test_a_given_end_is_kept() -> None:
    tracer, exporter = of()
    begun(tracer, Context(), deferred=True).end(9)
    (finished,) = exporter.get_finished_spans()
    assert finished.end_time == 9


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_ON)])
def test_the_sampler_is_asked_with_the_context(sampler: Sampler) -> None:
    tracer, exporter = of(sampler)
    context = set_span_in_context(NonRecordingSpan(UNSAMPLED), Context())
    span, api = tracer.begin_server(context, "a", GIVEN, 0), tracer.tracer.start_span("a", context, SpanKind.SERVER)
    for each in (span, api):
        assert not each.is_recording()
        assert each.get_span_context().trace_id == UNSAMPLED.trace_id
        assert each.get_span_context().trace_flags == api.get_span_context().trace_flags
        each.end()
    assert exporter.get_finished_spans() == ()


def test_a_forked_child_ends_spans_though_a_thread_held_the_lock() -> None:
    code = """
import os, threading
from starlette_wasm.telemetry import deferred_span
from starlette_wasm.telemetry.deferred_span import DeferredSpan
from starlette_wasm.telemetry.spans import WarmTracer
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
span = WarmTracer(TracerProvider(shutdown_on_exit=False).get_tracer("test")).begin_server(Context(), "a", {}, 0)
assert type(span) is DeferredSpan
deferred_span._turning.acquire()
child = os.fork()
if not child:
    span.put({"a": 1})
    span.end()
    os._exit(7)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 7


def test_limits_and_odd_values_leave_it_to_the_api() -> None:
    strict, _ = of(span_limits=SpanLimits(max_span_attributes=4))
    assert type(strict.begin_server(Context(), "a", GIVEN, 0)) is not DeferredSpan
    odd: dict[str, Any] = {"url.path": ["a"]}
    assert type(of()[0].begin_server(Context(), "a", odd, 0)) is not DeferredSpan


def test_a_handler_adds_to_the_span_of_its_request(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[type] = []
    begin = WarmTracer.begin_server

    def kept(self: WarmTracer, *given: Any) -> Span:
        span = begin(self, *given)
        kinds.append(type(span))
        return span

    monkeypatch.setattr(spans.WarmTracer, "begin_server", kept)

    @wasm_route("/handled", function="ok")
    async def handled(request: Request, call: Call) -> Response:
        trace.get_current_span().set_attribute("of.app", "x")
        return await call(request)

    async def main() -> None:
        add_constant(tmp_path, "ok", b'{"status_code":200,"body":"ok"}')
        runtime = WasmRuntime(config(tmp_path, {"/ok": "ok"}), settings())
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        runtime.telemetry = Telemetry(tracer_provider=provider)
        app = WasmMiddleware(Starlette(routes=[handled]), runtime=runtime)
        async with runtime, client(app) as http:
            assert (await http.get("/handled")).status_code == 200
        (server,) = [span for span in exporter.get_finished_spans() if span.kind is SpanKind.SERVER]
        attributes = dict(server.attributes or {})
        assert kinds == [DeferredSpan]
        assert attributes["of.app"] == "x"
        assert attributes["faas.name"] == "ok"
        assert attributes["http.response.status_code"] == 200

    run(main())
