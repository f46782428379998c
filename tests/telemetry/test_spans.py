"""The tree of spans, with and without the ASGI instrumentation, in either order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apps import add_constant, client, eventually, run
from collecting import Collector, Make, traceparent
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.starlette import StarletteInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from starlette_wasm import (
    Call,
    EdgeRequest,
    ExecutionTimeout,
    WasmError,
    WasmMiddleware,
    WasmRoute,
    WasmRuntime,
    wasm_endpoint,
    wasm_route,
)
from starlette_wasm.functions.target import Target
from starlette_wasm.telemetry.spans import ApiSpan, CallSpans

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SHORT = {"short": {"executionTimeoutMs": 50}, "narrow": {"maxConcurrency": 1}}

Wrap = Callable[[Starlette, WasmRuntime, Collector], None]


def instrument(app: Starlette, collector: Collector) -> None:
    kind = FastAPIInstrumentor if isinstance(app, FastAPI) else StarletteInstrumentor
    kind.instrument_app(app, tracer_provider=collector.tracers, meter_provider=collector.meters)


def outside(app: Starlette, runtime: WasmRuntime, collector: Collector) -> None:
    app.add_middleware(WasmMiddleware, runtime=runtime)
    instrument(app, collector)


def inside(app: Starlette, runtime: WasmRuntime, collector: Collector) -> None:
    instrument(app, collector)
    app.add_middleware(WasmMiddleware, runtime=runtime)


def absent(app: Starlette, runtime: WasmRuntime, collector: Collector) -> None:
    app.add_middleware(WasmMiddleware, runtime=runtime)


every_order = pytest.mark.parametrize("wrap", [outside, inside, absent])
every_app = pytest.mark.parametrize("kind", [Starlette, FastAPI])


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def get(app: Any, path: str, method: str = "GET", **headers: str) -> Any:
    async with client(app) as http:
        return await http.request(
            method, path, headers={name.replace("_", "-"): each for name, each in headers.items()}
        )


@every_order
@every_app
def test_a_rule_gives_one_tree_whatever_the_order(
    make: Make, collector: Collector, wrap: Wrap, kind: type[Starlette]
) -> None:
    async def main() -> None:
        async with make({"/echo/{key}": "echo"}) as runtime:
            app = kind()
            wrap(app, runtime, collector)
            response = await get(app, "/echo/7", "POST", traceparent=CALLER, tracestate="a=b", x_request_id="r-1")
        assert collector.tree() == ["POST /echo/{key}", ["echo"]]
        server, function = (collector.span(name) for name in ("POST /echo/{key}", "echo"))
        assert server.kind is SpanKind.SERVER
        assert server.parent is not None
        assert (server.parent.trace_id, server.parent.span_id) == (int(CALLER[3:35], 16), int(CALLER[36:52], 16))
        assert (
            attributes(server).items()
            >= {
                "http.route": "/echo/{key}",
                "faas.trigger": "http",
                "faas.name": "echo",
                "faas.coldstart": False,
                "starlette_wasm.route.variant": "stable",
                "starlette_wasm.route.weight": 100,
                "starlette_wasm.route.reason": "weight",
            }.items()
        )
        told = dict(attributes(function))
        assert told.pop("starlette_wasm.guest.cpu_s") > 0
        assert told.pop("starlette_wasm.guest.memory_peak") % 65536 == 0
        assert told == {
            "faas.version": "1",
            "faas.invocation_id": "r-1",
            "starlette_wasm.attempt": 1,
            "starlette_wasm.host_calls": 0,
        }
        assert {span.status.status_code for span in collector.spans} == {StatusCode.UNSET}
        seen = response.json()
        assert seen["context"]["traceparent"] == seen["headers"]["traceparent"] == traceparent(function)
        assert seen["context"]["tracestate"] == seen["headers"]["tracestate"] == "a=b"

    run(main())


def test_our_own_server_span_says_what_the_instrumentation_would(make: Make, collector: Collector) -> None:
    async def main() -> None:
        async with make({"/echo": "echo"}) as runtime:
            app = WasmMiddleware(Starlette(), runtime=runtime)
            assert (await get(app, "/echo", "BREW", user_agent="ua")).status_code == 200
        server = collector.span("HTTP /echo")
        assert (
            attributes(server).items()
            >= {
                "http.request.method": "_OTHER",
                "http.request.method_original": "BREW",
                "url.scheme": "http",
                "url.path": "/echo",
                "server.address": "test",
                "user_agent.original": "ua",
                "http.response.status_code": 200,
            }.items()
        )

    run(main())


@every_order
@every_app
def test_the_environment_names_the_span_of_the_guest(
    make: Make, collector: Collector, wrap: Wrap, kind: type[Starlette]
) -> None:
    async def main() -> None:
        async with make({"/environ": "environ"}) as runtime:
            app = kind()
            wrap(app, runtime, collector)
            environ = (await get(app, "/environ")).json()["environ"]
        assert f"TRACEPARENT={traceparent(collector.span('environ'))}" in environ

    run(main())


def around(kind: str) -> Any:
    if kind == "route":
        return WasmRoute("/greet/{name}", function="echo")
    if kind == "endpoint":
        return Route("/greet/{name}", wasm_endpoint("echo"))

    @wasm_route("/greet/{name}", function="echo")
    async def greet(request: Request, call: Call) -> Response:
        return await call(request)

    return greet


@every_order
@every_app
@pytest.mark.parametrize("route", ["handler", "route", "endpoint"])
@pytest.mark.parametrize("mounted", [False, True])
def test_routes_and_mounts_have_the_whole_template(
    make: Make, collector: Collector, wrap: Wrap, kind: type[Starlette], route: str, mounted: bool
) -> None:
    async def main() -> None:
        async with make(functions=["echo"]) as runtime:
            routes = [around(route)]
            app = kind(routes=[Mount("/shops/{shop}", routes=routes)] if mounted else [])
            if isinstance(app, FastAPI) and route == "endpoint" and not mounted:
                app.add_api_route("/greet/{name}", wasm_endpoint("echo"))
            elif not mounted:
                app.router.routes += routes
            wrap(app, runtime, collector)
            assert (await get(app, "/shops/7/greet/Ada" if mounted else "/greet/Ada")).status_code == 200
        whole = "/shops/{shop}/greet/{name}" if mounted else "/greet/{name}"
        assert collector.tree() == [f"GET {whole}", ["echo"]]
        server = attributes(collector.span(f"GET {whole}"))
        assert server["http.route"] == whole
        assert server["starlette_wasm.route.reason"] == "route"
        assert server["faas.name"] == "echo"

    run(main())


def test_a_middleware_inside_a_mount_knows_the_prefix(make: Make, collector: Collector) -> None:
    async def main() -> None:
        async with make({"/echo": "echo"}) as runtime:
            inner = Starlette()
            inner.add_middleware(WasmMiddleware, runtime=runtime)
            app = Starlette(routes=[Mount("/inner", inner)])
            instrument(app, collector)
            assert (await get(app, "/inner/echo")).status_code == 200
        assert collector.tree() == ["GET /inner/echo", ["echo"]]

    run(main())


def test_two_runtimes_share_a_tree_of_their_own_request_each(
    make: Make, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def main() -> None:
        async with make({"/echo": "echo"}) as one, make({"/hello": "hello"}) as two:
            app = WasmMiddleware(WasmMiddleware(Starlette(), runtime=one), runtime=two)
            traced = OpenTelemetryMiddleware(app, tracer_provider=collector.tracers)
            await get(traced, "/echo")
            await get(traced, "/hello")
        names = [span.name for span in collector.spans if span.parent is None]
        assert names == ["GET /echo", "GET /hello"]
        assert len(collector.spans) == 4

    run(main())


@every_order
def test_what_we_do_not_serve_is_left_alone(make: Make, collector: Collector, wrap: Wrap) -> None:
    async def native(request: Request) -> Response:
        return PlainTextResponse("native")

    async def main() -> None:
        async with make({"/echo": "echo"}) as runtime:
            app = Starlette(routes=[Route("/native", native)])
            wrap(app, runtime, collector)
            assert (await get(app, "/native")).text == "native"
        assert [span.name for span in collector.spans] == ([] if wrap is absent else ["GET /native"])

    run(main())


@every_order
@pytest.mark.parametrize(
    ("guest", "status", "error"),
    [
        ("spin", 504, "execution-timeout"),
        ("trap", 500, "wasm-trap"),
        ("exit3", 500, "function-exit"),
        ("garbage", 502, "invalid-function-response"),
    ],
)
def test_a_fault_marks_the_spans_with_one_error_type(
    make: Make, collector: Collector, wrap: Wrap, guest: str, status: int, error: str
) -> None:
    async def main() -> None:
        async with make({"/x": {"functionName": guest, "policy": "short"}}, policies=SHORT) as runtime:
            app = Starlette()
            wrap(app, runtime, collector)
            assert (await get(app, "/x?mode=unreachable")).status_code == status
        bad = [span.name for span in collector.spans if span.status.status_code is StatusCode.ERROR]
        assert bad == [guest, "GET /x"]
        assert {attributes(collector.span(name))["error.type"] for name in bad} == {error}
        assert collector.span(guest).status.description

    run(main())


@every_order
def test_a_function_that_answers_5xx_itself_did_not_fail(make: Make, collector: Collector, wrap: Wrap) -> None:
    async def main() -> None:
        async with make({"/alloc_soft": "alloc_soft"}) as runtime:
            app = Starlette()
            wrap(app, runtime, collector)
            status = (await get(app, "/alloc_soft?pages=100000")).status_code
        server = collector.span("GET /alloc_soft")
        if status >= 500:
            assert attributes(server)["error.type"] == str(status)
        assert collector.span("alloc_soft").status.status_code is StatusCode.UNSET

    run(main())


@every_order
def test_4xx_is_no_error_and_has_no_function_span(make: Make, collector: Collector, wrap: Wrap) -> None:
    async def main() -> None:
        rule = {"functionName": "echo", "methods": ["POST"]}
        async with make({"/echo": rule}) as runtime:
            app = Starlette()
            wrap(app, runtime, collector)
            assert (await get(app, "/echo")).status_code == 405
        (server,) = collector.spans
        assert (server.name, server.status.status_code) == ("GET /echo", StatusCode.UNSET)
        assert "error.type" not in attributes(server)

    run(main())


@every_order
def test_a_retry_is_a_second_span_and_no_error_of_the_request(make: Make, collector: Collector, wrap: Wrap) -> None:
    @wasm_route("/twice", function="spin", policy="short")
    async def twice(request: Request, call: Call) -> Response:
        with pytest.raises(ExecutionTimeout):
            await call(request)
        try:
            return await call(request)
        except WasmError:
            return PlainTextResponse("never mind")

    async def main() -> None:
        async with make(functions=["spin"], policies=SHORT) as runtime:
            app = Starlette(routes=[twice])
            wrap(app, runtime, collector)
            assert (await get(app, "/twice")).text == "never mind"
        assert collector.tree() == ["GET /twice", ["spin"], ["spin", ["wasm execute"]]]
        attempts = [span for span in collector.spans if span.name == "spin"]
        assert [attributes(span)["starlette_wasm.attempt"] for span in attempts] == [1, 2]
        assert collector.span("GET /twice").status.status_code is not StatusCode.ERROR
        assert "error.type" not in attributes(collector.span("GET /twice"))

    run(main())


@every_order
def test_a_cold_start_shows_the_wait_and_the_compilation(make: Make, collector: Collector, wrap: Wrap) -> None:
    async def main() -> None:
        runtime = make({"/echo": "echo"})
        runtime._given_settings = runtime._given_settings.model_copy(update={"aot_cache": False})
        app = Starlette()
        wrap(app, runtime, collector)
        await get(app, "/echo")
        assert collector.tree() == ["GET /echo", ["echo", ["wasm acquire", ["wasm compile"]], ["wasm execute"]]]
        assert attributes(collector.span("GET /echo"))["faas.coldstart"] is True
        for child in collector.spans:
            for parent in collector.spans:
                if child.parent and parent.context and child.parent.span_id == parent.context.span_id:
                    assert parent.start_time <= child.start_time <= child.end_time <= parent.end_time
        await get(app, "/echo")
        assert len(collector.spans) == 5 + 2
        await runtime.close()

    run(main())


def test_a_wait_in_the_queue_is_a_span(make: Make, collector: Collector) -> None:
    async def main() -> None:
        rule = {"functionName": "sleep_ms", "policy": "narrow"}
        async with make({"/sleep": rule}, policies=SHORT) as runtime:
            app = WasmMiddleware(Starlette(), runtime=runtime)
            await asyncio.gather(*(get(app, "/sleep?ms=20") for _ in range(2)))
        waits = [span for span in collector.spans if span.name == "wasm acquire"]
        assert len(waits) == 1
        assert (waits[0].end_time or 0) - (waits[0].start_time or 0) > 5e6

    run(main())


def test_an_invocation_from_python_has_a_root_of_its_own_or_the_callers(make: Make, collector: Collector) -> None:
    async def main() -> None:
        async with make(functions=["echo"]) as runtime:
            request = EdgeRequest()
            await runtime.invoke("echo", request)
            assert collector.tree() == ["echo", ["wasm execute"]]
            assert (
                attributes(collector.span("echo")).items()
                >= {
                    "faas.trigger": "other",
                    "faas.name": "echo",
                    "faas.coldstart": False,
                }.items()
            )
            assert "traceparent" not in request.headers
            collector._exporter.clear()
            with collector.tracers.get_tracer("app").start_as_current_span("job"):
                await runtime.invoke("echo", request)
            assert collector.tree() == ["job", ["echo", ["wasm execute"]]]

    run(main())


@every_order
@pytest.mark.parametrize("flags", ["00", "01"])
def test_what_the_sampler_dropped_is_not_built_and_the_guest_still_hears_of_the_trace(
    make: Make, wrap: Wrap, flags: str
) -> None:
    off = Collector(ParentBased(ALWAYS_OFF) if flags == "00" else ALWAYS_OFF)

    async def main() -> None:
        async with make({"/echo": "echo"}, telemetry=off.telemetry()) as runtime:
            app = Starlette()
            wrap(app, runtime, off)
            seen = (await get(app, "/echo", traceparent=CALLER[:-2] + flags)).json()
        assert off.spans == []
        given = seen["headers"]["traceparent"]
        assert given[3:35] == CALLER[3:35]
        assert given[36:52] != CALLER[36:52]
        assert given[-2:] == "00"

    run(main())


def test_without_an_sdk_the_callers_trace_is_passed_on(make: Make) -> None:
    from starlette_wasm.telemetry import Telemetry

    async def main() -> None:
        async with make({"/echo": "echo"}, telemetry=Telemetry()) as runtime:
            assert not runtime.telemetry.active
            app = WasmMiddleware(Starlette(), runtime=runtime)
            seen = (await get(app, "/echo", traceparent=CALLER)).json()
        assert seen["context"]["traceparent"] == seen["headers"]["traceparent"] == CALLER

    run(main())


def test_a_guest_gets_one_traceparent_where_the_client_sent_two(make: Make, collector: Collector) -> None:
    async def main() -> None:
        async with make({"/echo": "echo"}) as runtime, client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
            response = await http.get("/echo", headers=[("traceparent", CALLER), ("traceparent", "x")])
        seen = response.json()
        assert seen["headers"]["traceparent"] == traceparent(collector.span("echo"))
        assert "traceparent" not in seen.get("multi_value_headers", {})

    run(main())


def test_a_client_that_goes_away_cancels_the_spans(make: Make, collector: Collector) -> None:
    async def main() -> None:
        async with make({"/sleep": "sleep60"}) as runtime:
            app = WasmMiddleware(Starlette(), runtime=runtime)
            on_disconnect = asyncio.Event()
            first = True

            async def receive() -> dict[str, Any]:
                nonlocal first
                if first:
                    first = False
                    return {"type": "http.request"}
                await on_disconnect.wait()
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                pass

            scope = {"type": "http", "method": "GET", "path": "/sleep", "headers": [], "query_string": b""}
            task = asyncio.create_task(app(scope, receive, send))
            await eventually(lambda: runtime.stats()["running"])
            on_disconnect.set()
            await task
        assert collector.tree() == ["GET /sleep", ["sleep60", ["wasm execute"]]]
        assert attributes(collector.span("sleep60"))["error.type"] == "cancelled"
        assert attributes(collector.span("wasm execute"))["error.type"] == "cancelled"
        assert collector.span("GET /sleep").status.status_code is StatusCode.UNSET

    run(main())


def test_records_belong_to_the_span_in_which_they_were_made(
    make: Make, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[tuple[str, str]] = []

    class Context(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            context = trace.get_current_span().get_span_context()
            found.append((record.name, f"{context.span_id:016x}"))
            return True

    async def main() -> None:
        rules = {"/trap": "trap"}
        async with make(rules) as runtime:
            caplog.handler.addFilter(Context())
            app = WasmMiddleware(Starlette(), runtime=runtime)
            await get(app, "/trap?mode=unreachable")
        assert ("starlette_wasm", traceparent(collector.span("trap"))[36:52]) in found

    with caplog.at_level(logging.INFO, "starlette_wasm"):
        run(main())
    (record,) = [record for record in caplog.records if record.name == "starlette_wasm" and record.levelname == "ERROR"]
    assert record.__dict__["exception.type"] == "starlette_wasm.exceptions.FunctionTrapped"
    assert record.__dict__["error.type"] == "wasm-trap"
    assert record.getMessage() == f"trap (wasm-trap): {record.__dict__['exception.message']}"


def test_what_a_policy_refused_is_on_the_span_and_counted(make: Make, collector: Collector, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    grant = {"hostPath": str(tmp_path / "data"), "guestPath": "/data", "readonly": True}

    async def main() -> None:
        rule = {"functionName": "files", "policy": "reader"}
        async with (
            make({"/files": rule}, policies={"reader": {"allowedDirs": [grant]}}) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            await http.post("/files", json={"op": "write", "path": "/data/new", "data": "x"})
        (refused,) = attributes(collector.span("wasm execute"))["starlette_wasm.policy.violations"]
        assert refused.startswith("fs-write ")
        (point,) = collector.metrics()["starlette_wasm.policy.violations"].data.data_points
        assert dict(point.attributes) == {"faas.name": "files", "starlette_wasm.policy.violation": "fs-write"}
        assert point.value == 1

    run(main())


def test_a_canarys_share_is_on_the_server_span(make: Make, collector: Collector, tmp_path: Path) -> None:
    for version in ("1", "2"):
        add_constant(tmp_path, "f", b'{"status_code": 200}', version)
    canary = {"functionName": "f", "stableVersion": "1", "canaryVersion": "2", "canaryWeightPercent": 20}

    async def main() -> None:
        async with make({"/f": "f"}, canaries=[canary]) as runtime:
            app = Starlette()
            absent(app, runtime, collector)
            for _ in range(5):
                await get(app, "/f")
        seen = [attributes(span) for span in collector.spans if span.name == "GET /f"]
        by = {(each["starlette_wasm.route.variant"], each["starlette_wasm.route.weight"]) for each in seen}
        assert by == {("stable", 80), ("canary", 20)}
        assert {each["starlette_wasm.route.reason"] for each in seen} == {"step"}
        [point] = collector.metrics()["starlette_wasm.canary.weight"].data.data_points
        assert point.value == 20

    run(main())


@every_order
def test_a_request_left_to_the_slow_path_has_one_function_span(make: Make, collector: Collector, wrap: Wrap) -> None:
    async def main() -> None:
        async with make({"/echo": "echo"}) as runtime:
            app = Starlette()
            wrap(app, runtime, collector)
            seen = (await get(app, "/echo?a=%FF", x_request_id="r-1")).json()
        assert collector.tree() == ["GET /echo", ["echo", ["wasm execute"]]]
        assert attributes(collector.span("echo"))["faas.invocation_id"] == "r-1"
        assert seen["headers"]["traceparent"] == traceparent(collector.span("wasm execute"))

    run(main())


@pytest.mark.parametrize("path", ["/sleep?ms=0", "/edge"])
def test_guests_that_may_call_have_an_execute_span(make: Make, collector: Collector, path: str) -> None:
    """What they ask of the host belongs under it."""
    name = {"/sleep?ms=0": "sleep_ms", "/edge": "edge_c"}[path]

    async def main() -> None:
        async with make({"/sleep": "sleep_ms", "/edge": "edge_c"}) as runtime:
            app = WasmMiddleware(Starlette(), runtime=runtime)
            for _ in range(2):
                await get(app, path, "POST")
        spans = [span.name for span in collector.spans]
        assert spans.count(name) == spans.count("wasm execute") == 2

    run(main())


def test_a_span_that_was_begun_ends_whatever_is_current() -> None:
    """Even if what is current at the call would have let none begin, such as a span that is not sampled."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    span = tracer.start_span("f")
    here = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    with trace.use_span(here):
        calls = CallSpans(tracer, Target.__new__(Target), EdgeRequest(), 0, {}, {}, ApiSpan(span))
        calls.executing()
        calls.end(None, "")
        assert trace.get_current_span() is here
    assert "f" in [each.name for each in exporter.get_finished_spans()]
