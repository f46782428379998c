"""The same routes with functions and without, under the telemetry of a deployment."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import Counter, Histogram
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from starlette_wasm import Call, WasmMiddleware, WasmSettings, wasm_route

from ..layout import GUESTS, add_function, work
from .ours import config


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class _Counted:
    """What an app without functions does for Prometheus or its log: a histogram and a counter, or a line, a request."""

    def __init__(self, app: ASGIApp, kind: str) -> None:
        self._app = app
        self._took = Histogram("bench_seconds", "", ["route"]) if kind == "prometheus" else None
        self._asked = Counter("bench_requests", "", ["route", "status"])
        self._log = logging.getLogger("bench")
        self._log.setLevel(logging.INFO)
        self._log.addHandler(logging.StreamHandler(sys.stdout))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin = time.perf_counter()
        await self._app(scope, receive, send)
        took = time.perf_counter() - begin
        if self._took is not None:
            self._took.labels(scope["path"]).observe(took)
            self._asked.labels(scope["path"], "200").inc()
        else:
            told = {"time": datetime.now(UTC).isoformat(), "path": scope["path"], "status": 200, "duration": took}
            self._log.info("%s", json.dumps(told))


def _instrumented(kind: str) -> list[Middleware]:
    """Make the ASGI instrumentation, with an SDK that samples a share of the traces; ``metrics`` has figures as well.

    For ``prometheus`` and ``access`` a native app has what the functions have of their own.
    """
    if kind in ("prometheus", "access"):
        return [Middleware(_Counted, kind=kind)] if os.environ["BENCH_SIDE"] == "native" else []
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


@wasm_route("/route/list", function="list", policy="bench")
async def list_route(request: Request, call: Call) -> Response:
    return await call(request)


async def job(request: Request) -> Response:
    await request.body()
    return JSONResponse({"message": "hello"})


async def body(request: Request) -> Response:
    return Response(await request.body(), media_type="text/plain")


async def items(request: Request) -> Response:
    await request.body()
    return JSONResponse([{"id": 1000 + i} for i in range(int(request.query_params["n"]))])


async def spanned_job(request: Request) -> Response:
    """Answer the same with one span of its own, as a mapped function has one."""
    attributes = {"a": "job", "b": "1", "c": "bench", "d": 65536, "e": 0.001, "f": True}
    with trace.get_tracer("bench").start_as_current_span("job", attributes=attributes):
        return await job(request)


def _versions(rules: str) -> dict[str, Any]:
    """Put two versions behind ``/job``: by weight, sticky to a cookie, or the second one as a canary."""
    functions = work() / "versions"
    for version in ("1", "2"):
        add_function(functions, "job", (GUESTS / "job.wasm").read_bytes(), version)
    rule = {"pathPattern": "/job", "functionName": "job", "policy": "bench"}
    of = {"functionsDir": str(functions), "policiesDir": str(work() / "policies")}
    if rules == "canary":
        canary = {"functionName": "job", "stableVersion": "1", "canaryVersion": "2", "stepSeconds": 3600}
        return {**of, "rules": [rule], "canaries": [canary | {"latencyP99ThresholdMs": None}]}
    weighted = [rule | {"version": version, "weight": 50} for version in ("1", "2")]
    return {**of, "rules": weighted, "stickiness": {"cookie": "session"}}


def make_app() -> Starlette:
    middleware = _instrumented(os.environ["BENCH_TELEMETRY"])
    rules = os.environ["BENCH_RULES"]
    both = ["GET", "POST"]
    if os.environ["BENCH_SIDE"] == "native":
        routes = [
            Route("/job", job, methods=both),
            Route("/spanned/job", spanned_job, methods=both),
            Route("/body", body, methods=both),
            Route("/list", items),
        ]
        return Starlette(routes=routes, middleware=middleware)
    if rules != "plain":
        settings = WasmSettings(canary_url="sqlite://")
        return Starlette(
            middleware=[*middleware, Middleware(WasmMiddleware, config=_versions(rules), settings=settings)]
        )
    kind = os.environ["BENCH_TELEMETRY"]
    all_rules = {**config(), "exposeEndpoints": kind == "prometheus"}
    told = WasmSettings(access_log=kind == "access")
    return Starlette(
        routes=[job_route, body_route, list_route],
        middleware=[*middleware, Middleware(WasmMiddleware, config=all_rules, settings=told)],
    )


def __getattr__(name: str) -> Any:
    if name == "app":
        return make_app()
    raise AttributeError(name)
