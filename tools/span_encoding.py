"""Measures what a span takes to be encoded for OTLP: ``python tools/span_encoding.py``, with the extra ``otel``.

A batch of server spans as a mapped function has them is encoded by OpenTelemetry's exporter, by ``FastSpanExporter``
with its comparison, and by that without the C library, in alternated rounds. Figures are CPU microseconds of a span.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind

from starlette_wasm.telemetry import otlp

_RESOURCE, _SCOPE = Resource.create({}), InstrumentationScope("starlette_wasm")


def span(number: int) -> ReadableSpan:
    """Make a span with the attributes of a request."""
    attributes = {
        "http.request.method": "POST",
        "url.scheme": "https",
        "url.path": f"/orders/{number}",
        "http.route": "/orders/{order}",
        "network.protocol.version": "1.1",
        "server.address": "shop.example.org",
        "server.port": 443,
        "client.address": "192.0.2.1",
        "faas.name": "orders",
        "faas.version": "3",
        "faas.invocation_id": f"{number:032x}",
        "http.response.status_code": 200,
        "duration": number / 1e6,
    }
    context = SpanContext((1 << 100) + number, 1 + number, is_remote=False)
    return ReadableSpan(
        "POST /orders/{order}", context, None, _RESOURCE, attributes, kind=SpanKind.SERVER, start_time=number,
        end_time=number + 1, instrumentation_scope=_SCOPE,
    )  # fmt: skip


def taken(encode: Callable[[list[ReadableSpan]], object], spans: list[ReadableSpan]) -> float:
    """Return the CPU microseconds of a span."""
    begin = time.thread_time_ns()
    encode(spans)
    return (time.thread_time_ns() - begin) / len(spans) / 1e3


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--batch", type=int, default=2048, help="spans that are encoded at once")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    spans, exporter, native = [span(number) for number in range(asked.batch)], otlp.FastSpanExporter(), otlp.native
    figures: dict[str, list[float]] = {"OTLPSpanExporter": [], "FastSpanExporter": [], "without C": []}
    for _ in range(asked.rounds):
        figures["OTLPSpanExporter"].append(taken(lambda given: encode_spans(given).SerializeToString(), spans))
        figures["FastSpanExporter"].append(taken(exporter._encode, spans))
        otlp.native = None
        figures["without C"].append(taken(exporter._encode, spans))
        otlp.native = native
    for name, found in figures.items():
        print(f"{name:20} {median(found):6.1f} µs a span")


if __name__ == "__main__":
    main()
