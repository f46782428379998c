"""The same routes with functions and without, under the telemetry of a deployment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from starlette_wasm import Call, WasmMiddleware, wasm_route

from .ours import config


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _instrumented(kind: str) -> list[Middleware]:
    """The ASGI instrumentation, with an SDK that samples a share of the traces; ``metrics`` has figures as well."""
    if kind == "none":
        return []
    share = 1.0 if kind == "metrics" else float(kind)
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(share)))
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    trace.set_tracer_provider(provider)
    if kind == "metrics":
        metrics.set_meter_provider(MeterProvider(metric_readers=[InMemoryMetricReader()]))
    return [Middleware(OpenTelemetryMiddleware, exclude_spans=["receive", "send"])]


@wasm_route("/route/job", function="job", policy="bench")
async def job_route(request: Request, call: Call) -> Response:
    return await call(request)


@wasm_route("/route/body", function="body", policy="bench", methods=["GET", "POST"])
async def body_route(request: Request, call: Call) -> Response:
    return await call(request)


async def job(request: Request) -> Response:
    await request.body()
    return JSONResponse({"message": "hello"})


async def body(request: Request) -> Response:
    return Response(await request.body(), media_type="text/plain")


def make_app() -> Starlette:
    middleware = _instrumented(os.environ["BENCH_TELEMETRY"])
    if os.environ["BENCH_SIDE"] == "native":
        routes = [Route("/job", job, methods=["GET", "POST"]), Route("/body", body, methods=["GET", "POST"])]
        return Starlette(routes=routes, middleware=middleware)
    return Starlette(
        routes=[job_route, body_route], middleware=[*middleware, Middleware(WasmMiddleware, config=config())]
    )


def __getattr__(name: str) -> Any:
    if name == "app":
        return make_app()
    raise AttributeError(name)
