"""Spans that are handed to the SDK once they have ended are, in every field, what its API would have made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from apps import add_constant, client, config, run, settings
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ConcurrentMultiSpanProcessor,
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanKind, TraceState
from starlette.applications import Starlette

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.telemetry import Telemetry, sdk, spans
from starlette_wasm.telemetry.sdk import SdkSpan, SdkTracer

pytestmark = pytest.mark.native
FLAGS = ("00", "01", "03")


class Decides(Sampler):
    """Gives a decision for spans under another one, with more attributes and another state."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.asked: list[Any] = []

    def should_sample(self, *given: Any, **named: Any) -> SamplingResult:
        asked = dict(zip(("parent_context", "trace_id", "name", "kind", "attributes", "links"), given, strict=False))
        asked |= named
        if asked["kind"] is SpanKind.SERVER:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, asked["attributes"], TraceState([("a", "b")]))
        self.asked.append((asked["name"], dict(asked["attributes"]), asked["links"], asked["parent_context"]))
        return SamplingResult(self.decision, {**asked["attributes"], "of.sampler": 1}, TraceState([("c", "d")]))

    def get_description(self) -> str:
        return "decides"


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "default": lambda: ParentBased(ALWAYS_ON),
    "all": lambda: ALWAYS_ON,
    "a share": lambda: ParentBased(TraceIdRatioBased(1.0), local_parent_sampled=TraceIdRatioBased(1.0)),
    **{decision.name: (lambda decision=decision: Decides(decision)) for decision in Decision},  # type: ignore[misc]
}


def fields(span: ReadableSpan, root: ReadableSpan | None) -> dict[str, Any]:
    """All that a span has, but for ids and times."""
    assert span.context is not None
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time <= span.end_time
    attributes = dict(span.attributes or {})
    if "starlette_wasm.guest.cpu_s" in attributes:
        assert 0 < attributes.pop("starlette_wasm.guest.cpu_s") < 60
    if root is not None and root.context is not None and span is not root:
        assert span.parent == root.context
        assert span.context.trace_id == root.context.trace_id
        assert root.start_time is not None
        assert root.start_time <= span.start_time
    with pytest.warns(DeprecationWarning, match="instrumentation_scope"):
        info = span.instrumentation_info
    return {
        "name": span.name,
        "kind": span.kind,
        "attributes": attributes,
        "events": span.events,
        "links": span.links,
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "status": (span.status.status_code, span.status.description),
        "resource": span.resource,
        "scope": (span.instrumentation_scope, info),
        "context": (span.context.trace_flags, span.context.trace_state, span.context.is_remote),
        "class": type(span),
    }


def encoded(span: ReadableSpan) -> bytes:
    """The span as OTLP, but for ids and times."""
    request = encode_spans([span])
    (found,) = request.resource_spans[0].scope_spans[0].spans
    for name in ("trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano"):
        found.ClearField(name)
    for attribute in found.attributes:
        if attribute.key == "starlette_wasm.guest.cpu_s":
            attribute.value.double_value = 0
    found.attributes.sort(key=lambda each: each.key)
    return request.SerializeToString(deterministic=True)


def provider_of(sampler: Sampler, **given: Any) -> tuple[TracerProvider, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    resource = Resource({"service.name": "s"})
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False, **given)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


async def ask(runtime: WasmRuntime, provider: TracerProvider, instrumented: bool) -> None:
    app: Any = WasmMiddleware(Starlette(), runtime=runtime)
    if instrumented:
        app = OpenTelemetryMiddleware(app, tracer_provider=provider, exclude_spans=["receive", "send"])
    async with client(app) as http:
        for path in ("/ok/a", "/ok/b", "/broken", "/garbage"):
            for flags in FLAGS:
                headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-{flags}", "x-request-id": "r"}
                await http.get(path, headers=headers)
            await http.post(path, headers={"x-request-id": "r"}, content=b"body")


def recorded(folder: Path, sampler: Sampler, instrumented: bool) -> list[Any]:
    """What comes of some requests, of which some are sampled, some fail, and some leave the fast path."""
    provider, exporter = provider_of(sampler)

    async def main() -> None:
        folder.mkdir()
        add_constant(folder, "ok", b'{"status_code":200,"body":"ok"}')
        add_constant(folder, "broken", b'{"status_code":200,"headers":{"x-a":"b\\r\\nc"}}')
        wasm = config(folder, {"/ok/{x}": "ok", "/broken": "broken", "/garbage": "garbage"})
        runtime = WasmRuntime(wasm, settings())
        runtime.telemetry = Telemetry(tracer_provider=provider)
        async with runtime:
            await ask(runtime, provider, instrumented)

    run(main())
    found = exporter.get_finished_spans()
    roots = {span.context.span_id: span for span in found if span.kind is SpanKind.SERVER and span.context}
    return [(fields(span, span.parent and roots.get(span.parent.span_id)), encoded(span)) for span in found]


@pytest.mark.parametrize("instrumented", [True, False])
@pytest.mark.parametrize("name", SAMPLERS)
def test_finished_spans_equal_those_of_the_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, instrumented: bool
) -> None:
    begun: list[type] = []
    start = SdkTracer.start

    def started(self: SdkTracer, *given: Any) -> Any:
        span = start(self, *given)
        begun.append(type(span))
        return span

    monkeypatch.setattr(SdkTracer, "start", started)
    finished_by, api_by = SAMPLERS[name](), SAMPLERS[name]()
    finished = recorded(tmp_path / "a", finished_by, instrumented)
    assert set(begun) == {NonRecordingSpan if name == "DROP" else SdkSpan}
    monkeypatch.setattr(spans, "sdk_tracer", lambda tracer: None)
    monkeypatch.setattr(spans, "set_plain", lambda span, attributes: span.set_attributes(dict(attributes)))
    count = len(begun)
    by_api = recorded(tmp_path / "b", api_by, instrumented)
    assert len(begun) == count
    assert [each for each, _ in finished] == [each for each, _ in by_api]
    assert [each for _, each in finished] == [each for _, each in by_api]
    if isinstance(finished_by, Decides) and isinstance(api_by, Decides):
        assert [each[:3] for each in finished_by.asked] == [each[:3] for each in api_by.asked]


class Own(SpanProcessor):
    """Keeps what the SDK does not have."""


class OwnBatch(BatchSpanProcessor):
    """Could do something at a start."""


def test_only_the_sdks_own_parts_get_finished_spans() -> None:
    def of(provider: TracerProvider) -> bool:
        return sdk.sdk_tracer(provider.get_tracer("test")) is not None

    assert of(provider_of(ALWAYS_ON)[0])
    for limits in (SpanLimits(max_span_attributes=4), SpanLimits(max_span_attribute_length=3)):
        assert not of(provider_of(ALWAYS_ON, span_limits=limits)[0])
    assert not of(provider_of(ALWAYS_ON, active_span_processor=ConcurrentMultiSpanProcessor())[0])
    for more in (Own(), own := OwnBatch(InMemorySpanExporter())):
        provider, _ = provider_of(ALWAYS_ON)
        provider.add_span_processor(more)
        assert not of(provider)
    own.shutdown()
    provider, _ = provider_of(ALWAYS_ON)
    simple = SimpleSpanProcessor(InMemorySpanExporter())
    simple.on_start = lambda *given, **named: None  # type: ignore[method-assign]
    provider.add_span_processor(simple)
    assert not of(provider)
    provider, _ = provider_of(ALWAYS_ON)
    tracer = provider.get_tracer("test")
    tracer.start_span = tracer.start_span  # type: ignore[method-assign]
    assert not of(provider)


def asked_with(tmp_path: Path, provider: TracerProvider, between: Callable[[], object]) -> None:
    """Two requests, and something between them."""

    async def main() -> None:
        add_constant(tmp_path, "ok", b'{"status_code":200,"body":"ok"}')
        runtime = WasmRuntime(config(tmp_path, {"/ok": "ok"}), settings())
        runtime.telemetry = Telemetry(tracer_provider=provider)
        async with runtime, client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
            await http.get("/ok")
            between()
            await http.get("/ok")

    run(main())


def names(found: Sequence[ReadableSpan]) -> list[str]:
    return sorted(span.name for span in found)


def test_a_processor_that_comes_later_sees_starts(tmp_path: Path) -> None:
    provider, exporter = provider_of(ALWAYS_ON)
    started: list[str] = []

    class Starts(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            started.append(span.name)

    asked_with(tmp_path, provider, lambda: provider.add_span_processor(Starts()))
    assert names(exporter.get_finished_spans()) == ["GET /ok", "GET /ok", "ok", "ok"]
    assert started == ["GET /ok", "ok"]


def test_another_exporter_that_comes_later_gets_spans(tmp_path: Path) -> None:
    provider, exporter = provider_of(ALWAYS_ON)
    more = InMemorySpanExporter()
    asked_with(tmp_path, provider, lambda: provider.add_span_processor(SimpleSpanProcessor(more)))
    assert len(exporter.get_finished_spans()) == 4
    assert names(more.get_finished_spans()) == ["GET /ok", "ok"]


def test_a_tracer_that_is_turned_off_makes_no_spans(tmp_path: Path) -> None:
    provider, exporter = provider_of(ALWAYS_ON)

    def off() -> None:
        tracer: Any = provider.get_tracer("starlette_wasm")
        tracer._tracer_config = type(tracer._tracer_config)(is_enabled=False)

    asked_with(tmp_path, provider, off)
    assert names(exporter.get_finished_spans()) == ["GET /ok", "ok"]


def test_plain_attributes_respect_limits() -> None:
    provider, _ = provider_of(ALWAYS_ON, span_limits=SpanLimits(max_span_attributes=2, max_span_attribute_length=3))
    for attributes in ({"a": "long text"}, {"a": 1, "b": 2, "c": 3}):
        plain, api = (provider.get_tracer("test").start_span("s") for _ in range(2))
        sdk.set_plain(plain, attributes)
        api.set_attributes(attributes)
        assert dict(plain.attributes) == dict(api.attributes)  # type: ignore[attr-defined]
        plain.end()
        sdk.set_plain(plain, {"late": 1})
        assert "late" not in plain.attributes  # type: ignore[attr-defined]
