"""What starlette_wasm/_compat.py assumes of Starlette, FastAPI, uvicorn and OpenTelemetry, and what it does without."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry import metrics, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpHistogram
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette import _utils
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from starlette_wasm import _compat
from starlette_wasm.telemetry import sdk

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}


def request_of(body: bytes) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(dict(SCOPE), receive)


@pytest.mark.parametrize(
    ("path", "root"),
    [("/a/b", ""), ("/a/b", "/a"), ("/a", "/a"), ("/ab", "/a"), ("/b", "/a"), ("/a//b", "/a"), ("/", "/"), ("", "")],
)
def test_route_paths_are_those_of_starlette(path: str, root: str) -> None:
    scope = {"path": path, "root_path": root}
    assert _compat.get_route_path(scope) == _utils.get_route_path(scope)


def test_starlette_keeps_a_body_that_was_read() -> None:
    async def main() -> None:
        request = request_of(b"x")
        assert _compat.read_body(request) is None
        assert not _compat.is_stream_consumed(request)
        assert await request.body() == b"x"
        assert _compat.read_body(request) == b"x"

    asyncio.run(main())


def test_starlette_finds_a_body_that_was_kept() -> None:
    async def main() -> None:
        request = request_of(b"never read")
        _compat.keep_body(request, b"kept")
        assert await request.body() == b"kept"

    asyncio.run(main())


def test_starlette_notes_a_consumed_stream_and_a_form() -> None:
    async def main() -> None:
        request = request_of(b"x")
        assert [part async for part in request.stream()] == [b"x", b""]
        assert _compat.is_stream_consumed(request)
        form = request_of(b"a=1")
        form.scope["headers"] = [(b"content-type", b"application/x-www-form-urlencoded")]
        assert _compat.read_form(form) is None
        assert (await form.form())["a"] == "1"
        assert _compat.read_form(form) is not None

    asyncio.run(main())


@pytest.mark.parametrize("name", ["httptools_impl", "h11_impl"])
def test_uvicorn_cycles_have_what_is_replaced(name: str) -> None:
    kind: Any = importlib.import_module(f"uvicorn.protocols.http.{name}").RequestResponseCycle
    assert {"transport", "on_response"} <= set(inspect.signature(kind.__init__).parameters)
    cycle = kind.__new__(kind)
    cycle.transport = cycle.on_response = None
    assert _compat.uvicorn_cycle(cycle.receive) is cycle


def test_wrappers_of_starlette_are_looked_behind() -> None:
    seen: list[tuple[Any, int]] = []

    async def send(message: Message) -> None:
        pass

    class Seen(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            innermost, notes = _compat.behind_starlette(send)
            seen.append((innermost, len(notes)))
            for note in notes:
                assert note.cell_contents is False

    async def endpoint(request: Request) -> Response:
        return Seen()

    scope = {**SCOPE, "method": "GET"}
    asyncio.run(Starlette(routes=[Route("/", endpoint)])(scope, request_of(b"").receive, send))
    assert seen == [(send, 3)]  # those of ServerErrorMiddleware, ExceptionMiddleware and the route


def test_functions_that_do_more_are_not_looked_behind() -> None:
    def wrapped(send: Send) -> Send:
        response_started = False

        async def counting(message: Message) -> None:
            nonlocal response_started
            if message["type"] == "http.response.start":
                response_started = True
                await send(message)
            await send(message)

        return counting

    async def send(message: Message) -> None:
        pass

    counting = wrapped(send)
    assert _compat.behind_starlette(counting) == (counting, [])
    assert _compat.behind_starlette(send) == (send, [])


def test_another_server_has_no_cycle() -> None:
    class Server:
        transport = on_response = None

        async def receive(self) -> Message:
            return {}

    async def receive() -> Message:
        return {}

    assert _compat.uvicorn_cycle(Server().receive) is None
    assert _compat.uvicorn_cycle(receive) is None


def test_opentelemetry_keeps_its_providers_where_they_are_read() -> None:
    assert "_TRACER_PROVIDER" in _compat.TRACE_GLOBALS
    assert "_METER_PROVIDER" in _compat.METRICS_GLOBALS
    assert _compat.TRACE_GLOBALS is vars(trace)


def test_a_context_has_its_span_under_the_key() -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    assert trace.set_span_in_context(span).get(_compat.SPAN_KEY) is span


def test_a_context_takes_a_span_as_in_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    before = Context({"kept": 1, _compat.SPAN_KEY: trace.INVALID_SPAN})
    expected = trace.set_span_in_context(span, before)
    for key in (_compat.SPAN_KEY, ""):
        monkeypatch.setattr(_compat, "SPAN_KEY", key)
        made = _compat.context_with(before, span)
        assert type(made) is Context
        assert made == expected
        assert trace.get_current_span(made) is span
    assert trace.get_current_span(before) is trace.INVALID_SPAN


def test_a_meter_that_nobody_configured_is_a_placeholder() -> None:
    assert _compat.is_placeholder(metrics.NoOpMeter("x"))
    assert _compat.is_placeholder(metrics.get_meter_provider().get_meter("x"))
    assert not _compat.is_placeholder(MeterProvider().get_meter("x"))


def test_fastapi_asks_for_a_signature_with_the_path_at_hand() -> None:
    paths: list[str | None] = []

    class Signature(inspect.Signature):
        @property
        def parameters(self) -> Any:
            paths.append(_compat.fastapi_path())
            return super().parameters

    async def endpoint() -> Response:
        return PlainTextResponse("")

    endpoint.__signature__ = Signature()  # type: ignore[attr-defined]
    FastAPI().add_api_route("/shops/{shop}", endpoint, response_model=None)
    assert "/shops/{shop}" in paths
    assert _compat.fastapi_path() is None


def test_the_apps_around_a_call_are_found_nearest_first() -> None:
    seen: list[object] = []

    class Outer:
        def __init__(self, app: Any) -> None:
            self.app = app
            self.mark = True

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app(scope, receive, send)

    class Plain:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app(scope, receive, send)

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(_compat.calling_apps(50, "mark"))
        await PlainTextResponse("")(scope, receive, send)

    near, far = Outer(inner), None
    far = Outer(Plain(near))
    for _ in range(2):
        TestClient(far).get("/")
        assert seen == [near, far]
        seen.clear()
    assert len(list(_compat.calling_apps(0, "mark"))) == 0


def test_apps_of_another_task_have_not_called_this_one() -> None:
    """A coroutine that is driven by a function, as by an event loop within another one, is not part of its caller."""
    found: list[object] = []

    class Marked:
        mark = True

        async def __call__(self) -> None:
            def drive() -> None:
                with pytest.raises(StopIteration):
                    inner().send(None)

            drive()

    async def inner() -> None:
        found.extend(_compat.calling_apps(50, "mark"))

    with pytest.raises(StopIteration):
        Marked()().send(None)
    assert found == []


def test_only_the_default_propagator_is_known() -> None:
    assert _compat.is_w3c(propagate.get_global_textmap())
    w3c = TraceContextTextMapPropagator()
    assert _compat.is_w3c(CompositePropagator([w3c, W3CBaggagePropagator()]))
    assert not _compat.is_w3c(w3c)
    assert not _compat.is_w3c(CompositePropagator([W3CBaggagePropagator(), w3c]))


def test_histograms_of_the_sdk_take_observations_in_bulk() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    histogram = provider.get_meter("test").create_histogram("h", explicit_bucket_boundaries_advisory=[1.0, 2.0])
    with pytest.raises(LookupError):
        sdk.histogram_points(histogram, {"a": "b"}, (1.0, 2.0))
    histogram.record(0.5, {"a": "b"})
    with pytest.raises(LookupError):
        sdk.histogram_points(histogram, {"a": "b"}, (1.0, 3.0))
    (point,) = sdk.histogram_points(histogram, {"a": "b"}, (1.0, 2.0))
    point.add([0, 2, 1], 7.0, 1.5, 4.0)
    data = reader.get_metrics_data()
    assert data is not None
    (found,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert isinstance(found, HistogramDataPoint)
    assert (found.count, found.sum, found.min, found.max) == (4, 7.5, 0.5, 4.0)
    assert found.bucket_counts == (1, 2, 1)
    with pytest.raises(LookupError):
        sdk.histogram_points(NoOpHistogram("h"), {"a": "b"}, (1.0, 2.0))
    provider.shutdown()


def test_no_other_module_uses_private_parts() -> None:
    package = Path(_compat.__file__).parent
    private = (" starlette._", "sys._getframe", "._stream_consumed", "metrics import _internal", "._span_limits")
    users = {file.name for file in package.rglob("*.py") if any(each in file.read_text() for each in private)}
    assert users <= {"_compat.py", "sdk.py"}


def test_a_marked_function_is_awaited_by_starlette_and_fastapi() -> None:
    async def answered(request: Request) -> Response:
        return PlainTextResponse("x")

    def endpoint(request: Request) -> Any:
        return answered(request)

    marked = _compat.marked_as_coroutine(endpoint)
    assert _utils.is_async_callable(marked)
    app = FastAPI()
    app.add_api_route("/", marked, response_model=None)
    with TestClient(app) as http:
        assert http.get("/").text == "x"
