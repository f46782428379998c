"""What somebody took out of tracing has no spans of ours, and keeps its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import client, config, settings
from collecting import Collector
from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.util.http import parse_excluded_urls
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from starlette_wasm import EdgeRequest, WasmMiddleware, WasmRoute, WasmRuntime, WasmSettings, wasm_endpoint
from starlette_wasm.telemetry import Exclusions

URLS = parse_excluded_urls("greet,quiet")
HIDDEN = ["/greet/x", "/quiet/route", "/quiet/end", "/quiet/line"]
SHOWN = ["/items/1"]
ROUTES = [WasmRoute("/quiet/route", function="echo"), Route("/quiet/end", wasm_endpoint("echo"))]
LINE = {"path": "/quiet/line", "steps": [{"function": "missing", "fallback": {"response": {"statusCode": 200}}}]}


class Passing(BaseHTTPMiddleware):
    """Calls the app in a task of its own."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


Wrap = Callable[[Starlette, Collector], ASGIApp]


def around(app: ASGIApp, collector: Collector) -> ASGIApp:
    return OpenTelemetryMiddleware(
        app, excluded_urls=URLS, exclude_spans=["receive", "send"], tracer_provider=collector.tracers
    )


def behind_a_task(app: ASGIApp, collector: Collector) -> ASGIApp:
    return around(Passing(app), collector)


def deep_inside(app: Starlette, collector: Collector) -> ASGIApp:
    app.user_middleware.append(Middleware(around, collector=collector))
    return app


def suppressed(app: Starlette, collector: Collector) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in HIDDEN:
            way = suppress_instrumentation if scope["path"] == HIDDEN[0] else suppress_http_instrumentation
            with way():
                await app(scope, receive, send)
        else:
            await app(scope, receive, send)

    return call


@pytest.fixture
def runtime(tmp_path: Path, collector: Collector) -> WasmRuntime:
    return make_runtime(tmp_path, collector)


def make_runtime(folder: Path, collector: Collector, **given: Any) -> WasmRuntime:
    line = {**LINE, "steps": [{"function": "echo"}]}
    wasm = config(folder, {"/items/{id}": "echo", "/greet/{name}": "echo"}, pipelines=[line], exposeEndpoints=True)
    runtime = WasmRuntime(wasm, settings(**given))
    runtime.telemetry = collector.telemetry()
    return runtime


def app_of(runtime: WasmRuntime) -> Starlette:
    return Starlette(routes=ROUTES, middleware=[Middleware(WasmMiddleware, runtime=runtime)])


def ask(app: ASGIApp, collector: Collector) -> None:
    """The excluded paths leave no span, the others a server span and a function's, and all are counted."""
    with TestClient(app) as http:
        for path in HIDDEN:
            assert http.get(path).status_code == 200
        assert collector.spans == []
        for path in SHOWN:
            http.get(path)
    assert {span.name for span in collector.spans} >= {"GET /items/{id}", "echo"}
    points = collector.metrics()["faas.invocations"].data.data_points
    assert sum(point.value for point in points) == len(HIDDEN) + len(SHOWN)


@pytest.mark.parametrize("wrap", [around, behind_a_task, deep_inside, suppressed])
def test_excluded_requests_have_no_spans(wrap: Wrap, runtime: WasmRuntime, collector: Collector) -> None:
    ask(wrap(app_of(runtime), collector), collector)


def test_what_an_instrumented_app_excludes_has_no_spans(runtime: WasmRuntime, collector: Collector) -> None:
    app = FastAPI(routes=ROUTES, telemetry={"tracing": False, "metrics": False})
    app.add_middleware(WasmMiddleware, runtime=runtime)
    FastAPIInstrumentor.instrument_app(app, excluded_urls="greet,quiet", tracer_provider=collector.tracers)
    ask(app, collector)


def test_an_instrumentation_inside_of_us_is_asked(runtime: WasmRuntime, collector: Collector) -> None:
    app = FastAPI(routes=ROUTES, telemetry={"tracing": False, "metrics": False})
    FastAPIInstrumentor.instrument_app(app, excluded_urls="greet,quiet", tracer_provider=collector.tracers)
    ask(WasmMiddleware(app, runtime=runtime), collector)


def test_what_fastapi_excludes_has_no_spans(runtime: WasmRuntime, collector: Collector) -> None:
    exclude = {"exclude": lambda scope: scope["path"] in HIDDEN, "tracer_provider": collector.tracers}
    app = FastAPI(routes=ROUTES, telemetry=exclude)  # type: ignore[arg-type]
    app.add_middleware(WasmMiddleware, runtime=runtime)
    ask(app, collector)


def test_the_setting_keeps_paths_out_of_tracing(tmp_path: Path, collector: Collector) -> None:
    runtime = make_runtime(tmp_path, collector, untraced_paths="/greet/{name}, /quiet,/quiet")
    ask(app_of(runtime), collector)


def test_the_setting_counts_paths_from_the_outermost_app(tmp_path: Path, collector: Collector) -> None:
    runtime = make_runtime(tmp_path, collector, untraced_paths="/sub/greet")
    with TestClient(Starlette(routes=[Mount("/sub", app_of(runtime))]), root_path="/api") as http:
        http.get("/api/sub/greet/x")
        assert collector.spans == []
        http.get("/api/sub/quiet/route")
    assert [span.name for span in collector.spans if span.parent is None] == ["GET /api/sub/quiet/route"]


@pytest.mark.parametrize("variable", ["OTEL_PYTHON_EXCLUDED_URLS", "OTEL_PYTHON_STARLETTE_WASM_EXCLUDED_URLS"])
def test_the_variables_of_opentelemetry_are_heard(
    variable: str, tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "greet, /quiet/.*,")
    ask(app_of(make_runtime(tmp_path, collector)), collector)


def test_a_variable_that_is_no_expression_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "a(")
    Exclusions()
    assert "OTEL_PYTHON_EXCLUDED_URLS excludes nothing" in caplog.text


def test_a_setting_that_is_no_path_is_refused() -> None:
    with pytest.raises(ValidationError, match="does not start with /"):
        WasmSettings(untraced_paths="/a, health")


def test_without_lifespan_exclusions_are_honoured_too(runtime: WasmRuntime, collector: Collector) -> None:
    async def main() -> None:
        async with client(around(app_of(runtime), collector)) as http:
            await http.get("/greet/x")
            assert collector.spans == []
            await http.get("/items/1")
        await runtime.close()

    asyncio.run(main())
    assert collector.spans


def test_an_unsampled_server_span_has_no_children(tmp_path: Path, collector: Collector) -> None:
    dropping = Collector(ALWAYS_OFF)
    app = around(app_of(make_runtime(tmp_path, collector)), dropping)
    with TestClient(app) as http:
        http.get("/items/1")
    assert collector.spans == dropping.spans == []


def test_suppressed_calls_from_python_have_no_spans(runtime: WasmRuntime, collector: Collector) -> None:
    async def main() -> None:
        async with runtime:
            with suppress_instrumentation():
                await runtime.invoke("echo", EdgeRequest())
                await runtime.run_pipeline("/quiet/line", EdgeRequest())
            assert collector.spans == []
            await runtime.invoke("echo", EdgeRequest())

    asyncio.run(main())
    assert [span.name for span in collector.spans if span.parent is None] == ["echo"]


def test_the_callers_trace_reaches_the_guest_untraced(runtime: WasmRuntime, collector: Collector) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with TestClient(around(app_of(runtime), collector)) as http:
        response: httpx.Response = http.get("/greet/x", headers={"traceparent": trace})
    assert trace in response.text
