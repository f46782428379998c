"""FastSpanExporter sends what OpenTelemetry's exporter would."""

from __future__ import annotations

import gzip
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from starlette_wasm.telemetry import otlp
from starlette_wasm.telemetry.otlp import FastSpanExporter, encode

REMOTE = SpanContext(5 << 100, 7, is_remote=True, trace_flags=TraceFlags(1))
WITH_STATE = SpanContext(5 << 100, 7, is_remote=True, trace_state=TraceState([("a", "b")]))


def provider(**resource: str) -> tuple[TracerProvider, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    made = TracerProvider(
        ALWAYS_ON, Resource(dict(resource)), shutdown_on_exit=False, span_limits=SpanLimits(max_span_attributes=8)
    )
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made, exporter


def spans(attributes: Any = None, change: Callable[[Span], object] = str, **start: Any) -> Sequence[ReadableSpan]:
    made, exporter = provider(name="s")
    span = made.get_tracer("scope", "1", "https://schema").start_span("name", attributes=attributes, **start)
    change(span)
    span.end()
    return exporter.get_finished_spans()


def parsed(data: bytes) -> Any:
    return ExportTraceServiceRequest.FromString(data)


def assert_same(found: Sequence[ReadableSpan]) -> None:
    assert parsed(encode(found)) == parsed(encode_spans(found).SerializeToString())


PLAIN = st.one_of(
    st.text(st.characters(exclude_categories=())),  # with surrogates, which no encoder takes
    st.booleans(),
    st.integers(-(1 << 65), 1 << 65),
    st.floats(allow_nan=False),
    st.sampled_from(["a" * 300, "", 0, 0.0, -0.0, 1, 1.0, True, math.inf, (1 << 63) - 1, -(1 << 63)]),
)


@given(st.dictionaries(st.text(min_size=1), st.one_of(PLAIN, st.lists(st.text(), max_size=2)), max_size=9))
def test_any_attributes_are_encoded_as_by_the_library(attributes: dict[str, Any]) -> None:
    assert_same(spans(attributes))


@given(st.dictionaries(st.text(), st.one_of(PLAIN, st.integers(-300, 300)), max_size=9))
def test_python_encodes_what_c_encodes(attributes: dict[str, Any]) -> None:
    found = spans()
    found[0]._attributes = attributes  # the API would drop some
    with pytest.MonkeyPatch.context() as patched:
        taken = outcome(found)
        patched.setattr(otlp, "native", None)
        assert outcome(found) == taken


def outcome(found: Sequence[ReadableSpan]) -> bytes | str:
    try:
        return encode(found)
    except Exception as error:
        return repr(error)


UNUSUAL: dict[str, tuple[Callable[[Span], object], dict[str, Any]]] = {
    "event": (lambda span: span.add_event("e", {"a": 1}), {}),
    "link": (str, {"links": [Link(REMOTE, {"a": 1})]}),
    "error": (lambda span: span.set_status(Status(StatusCode.ERROR, "why")), {}),
    "ok": (lambda span: span.set_status(Status(StatusCode.OK)), {}),
    "remote": (str, {"context": set_span_in_context(NonRecordingSpan(REMOTE))}),
    "state": (str, {"context": set_span_in_context(NonRecordingSpan(WITH_STATE))}),
    "dropped": (str, {"attributes": {str(number): number for number in range(9)}}),
    "mapping": (str, {"attributes": {"a": {"b": [1, "c"]}}}),
    "not named": (lambda span: span.update_name(""), {}),
    **{kind.name: (str, {"kind": kind, "attributes": {"a": "b"}}) for kind in SpanKind},
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_any_span_is_encoded_as_by_the_library(name: str) -> None:
    change, start = UNUSUAL[name]
    assert_same(spans(change=change, **start))


def test_what_was_dropped_by_a_limit_of_0_is_counted() -> None:
    made, exporter = provider(name="s")
    made._span_limits = SpanLimits(max_events=0, max_links=0)
    for change in (lambda span: span.add_event("e"), lambda span: span.add_link(REMOTE)):
        with made.get_tracer("scope").start_as_current_span("name") as span:
            change(span)
    found = exporter.get_finished_spans()
    assert [(each.dropped_events, each.dropped_links) for each in found] == [(1, 0), (0, 1)]
    assert_same(found)


def test_spans_are_grouped_by_resource_and_scope() -> None:
    found: list[ReadableSpan] = []
    for name in ("a", "b"):
        made, exporter = provider(name=name)
        for scope in ("x", "y", "x"):
            made.get_tracer(scope).start_span(scope).end()
        found += exporter.get_finished_spans()
    assert_same(found)
    assert [len(each.scope_spans) for each in parsed(encode(found)).resource_spans] == [2, 2]
    assert encode([]) == b""


def test_plain_spans_are_not_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    found = spans({"a": 1, "b": "c", "d": True, "e": 0.5}, kind=SpanKind.SERVER)
    expected = encode_spans(found)
    asked: list[int] = []

    def counted(given: Sequence[ReadableSpan]) -> Any:
        asked.append(len(given))
        return encode_spans(given)

    monkeypatch.setattr(otlp, "encode_spans", counted)
    assert (
        parsed(encode(found * 10)).resource_spans[0].scope_spans[0].spans[9]
        == (expected.resource_spans[0].scope_spans[0].spans[0])
    )
    assert asked == [1, 1]  # for the resource, and for the scope


class Sink(ThreadingHTTPServer):
    """A collector that keeps what it is sent."""

    daemon_threads = True

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Sink)
        self.server.bodies.append(gzip.decompress(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *given: object) -> None:
        """Keep it out of the output."""


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def exporter_to(sink: Sink, **given: Any) -> FastSpanExporter:
    url = f"http://127.0.0.1:{sink.server_port}/v1/traces"
    return FastSpanExporter(url, compression=Compression.Gzip, timeout=60, **given)


def test_what_is_sent_is_what_the_library_sends(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    found = spans({"a": 1})
    exporter = exporter_to(sink)
    encoded: list[int] = []
    monkeypatch.setattr(otlp, "encode", lambda spans: encoded.append(len(spans)) or encode(spans))  # type: ignore[func-returns-value]
    assert exporter.export(found) is SpanExportResult.SUCCESS
    assert encoded == [1, 1]  # the second time to compare it
    sink.status = 400
    assert exporter.export(found) is SpanExportResult.FAILURE
    exporter.shutdown()
    assert exporter.export(found) is SpanExportResult.FAILURE
    assert [parsed(body) for body in sink.bodies] == [encode_spans(found)] * 2


@pytest.mark.parametrize("missing", ["_client", "_metrics", "_max_request_size"])
def test_another_version_of_the_library_encodes_itself(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(otlp, "encode", lambda spans: pytest.fail("it was to be left to the library"))
    exporter = exporter_to(sink)
    kept = getattr(exporter, missing)
    asked: list[object] = []

    def export(self: object, given: object) -> SpanExportResult:
        asked.append(given)
        return SpanExportResult.SUCCESS

    monkeypatch.setattr(otlp.OTLPSpanExporter, "export", export)
    delattr(exporter, missing)
    assert exporter.export(found := spans()) is SpanExportResult.SUCCESS
    assert asked == [found]
    setattr(exporter, missing, kept)
    exporter.shutdown()


def test_a_difference_leaves_all_spans_to_the_library(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []

    def wrong(given: Sequence[ReadableSpan]) -> bytes:
        encoded.append(given)
        return encode(given) + encode(given)

    monkeypatch.setattr(otlp, "encode", wrong)
    exporter = exporter_to(sink)
    found = spans({"a": 1})
    for _ in range(2):
        assert exporter.export(found) is SpanExportResult.SUCCESS
    assert encoded == [found, list(found)]
    assert [parsed(body) for body in sink.bodies] == [encode_spans(found)] * 2
    exporter.shutdown()


def batch_of(count: int, kind: SpanKind = SpanKind.INTERNAL, **attributes: Any) -> list[ReadableSpan]:
    made, exporter = provider(name="s")
    tracer = made.get_tracer("scope")
    for _ in range(count):
        tracer.start_span("name", kind=kind, attributes=attributes).end()
    return list(exporter.get_finished_spans())


@pytest.mark.parametrize(
    "change",
    [
        lambda made, value: made if value != 0.5 else made.replace(b"a", b"b"),
        lambda made, value: made if value is not True else made[:-1] + b"\0",
    ],
)
def test_a_kind_of_value_that_comes_later_is_compared(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes, object], bytes]
) -> None:
    """As with a later version of the library that encodes only that in another way."""
    plain, odd = batch_of(2, a=1), batch_of(2, a=1) + batch_of(1, a=0.5) + batch_of(1, a=True) + batch_of(1, a=1)
    real = otlp._plain

    def wrong(span: ReadableSpan, attributes: Any) -> bytes:
        return change(real(span, attributes), attributes["a"])

    monkeypatch.setattr(otlp, "_plain", wrong)
    exporter = exporter_to(sink)
    for batch in (plain, odd, plain):
        assert exporter.export(batch) is SpanExportResult.SUCCESS
    assert not exporter._is_same
    assert [parsed(body) for body in sink.bodies] == [encode_spans(batch) for batch in (plain, odd, plain)]
    exporter.shutdown()


def test_a_kind_of_span_that_comes_later_is_compared(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = exporter_to(sink)
    assert exporter.export(batch_of(2)) is SpanExportResult.SUCCESS
    monkeypatch.setattr(
        otlp, "_KIND", [b"" if number == SpanKind.CLIENT.value else b"\x30%c" % (number + 1) for number in range(5)]
    )
    otlp._named.cache_clear()
    odd = [*batch_of(1), *batch_of(1, SpanKind.CLIENT), *batch_of(1)]
    assert exporter.export(odd) is SpanExportResult.SUCCESS
    assert not exporter._is_same
    assert parsed(sink.bodies[1]) == encode_spans(odd)
    otlp._named.cache_clear()
    exporter.shutdown()


def test_one_span_of_each_batch_is_compared_in_turn(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    batch = batch_of(3)
    exporter = exporter_to(sink)
    exporter.export(batch)

    def counted(given: Sequence[ReadableSpan]) -> bytes:
        compared.extend(batch.index(each) for each in given if len(given) == 1)
        return encode(given)

    monkeypatch.setattr(otlp, "encode", counted)
    for _ in range(4):
        exporter.export(batch)
    assert set(compared) == {0, 1, 2}
    assert len(compared) == 4
    exporter.shutdown()


def test_what_is_too_large_is_refused_as_by_the_library(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    exporter = exporter_to(sink, max_request_size=100)
    assert exporter.export(spans({"a": "b" * 200})) is SpanExportResult.FAILURE
    assert "exceeds max_request_size" in caplog.text
    assert sink.bodies == []
    exporter.shutdown()
