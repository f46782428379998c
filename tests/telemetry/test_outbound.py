"""CLIENT spans of what guests request."""

from __future__ import annotations

import pytest
from collecting import Collector, traceparent
from opentelemetry import baggage, context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from starlette_wasm.capabilities.http import Attempt, Url
from starlette_wasm.telemetry.outbound import observer

URL = Url.parse("https://api.example:8443/v1/rates?key=secret")


def test_each_attempt_is_a_client_span_and_its_id_is_sent(collector: Collector) -> None:
    tracer = collector.tracers.get_tracer("test")
    token = context.attach(baggage.set_baggage("user", "1"))
    with tracer.start_as_current_span("wasm execute"):
        sent = []
        for hop in range(2):
            attempt = Attempt("GET", URL, hop)
            with observer(tracer)(attempt) as headers:
                sent.append(dict(headers))
                attempt.status = 200
    context.detach(token)
    assert collector.tree() == ["wasm execute", ["GET"], ["GET"]]
    first, second = collector.spans[:2]
    assert [first.kind, second.kind] == [SpanKind.CLIENT, SpanKind.CLIENT]
    assert sent == [{"traceparent": traceparent(first)}, {"traceparent": traceparent(second)}]
    assert dict(first.attributes or {}) == {
        "http.request.method": "GET",
        "url.full": "https://api.example:8443/v1/rates?REDACTED",
        "server.address": "api.example",
        "server.port": 8443,
        "http.response.status_code": 200,
    }
    assert (second.attributes or {})["http.request.resend_count"] == 1


@pytest.mark.parametrize(
    ("status", "error", "found"), [(404, None, "404"), (None, "connect-failed", "connect-failed"), (302, None, None)]
)
def test_4xx_and_failures_are_errors(
    collector: Collector, status: int | None, error: str | None, found: str | None
) -> None:
    tracer = collector.tracers.get_tracer("test")
    attempt = Attempt("GET", URL, 0)
    with tracer.start_as_current_span("wasm execute"), observer(tracer)(attempt):
        attempt.status, attempt.error = status, error
    span = collector.span("GET")
    assert (span.attributes or {}).get("error.type") == found
    assert span.status.status_code is (StatusCode.UNSET if found is None else StatusCode.ERROR)


def test_under_a_dropped_span_only_the_trace_is_passed_on() -> None:
    off = Collector(ALWAYS_OFF)
    tracer = off.tracers.get_tracer("test")
    with tracer.start_as_current_span("dropped") as span, observer(tracer)(Attempt("GET", URL, 0)) as headers:
        assert headers["traceparent"][36:52] == f"{span.get_span_context().span_id:016x}"
        assert not int(headers["traceparent"][-2:], 16) & 1
    assert off.spans == []
