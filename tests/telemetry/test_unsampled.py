"""Requests under a span that the sampler has refused, if nobody takes figures: guests get what they get otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from apps import client, run
from collecting import Make
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, use_span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from test_guest_capabilities import ok, upstream

from starlette_wasm import Call, WasmMiddleware, WasmRuntime, wasm_route
from starlette_wasm.engine.fast_path import FastPath
from starlette_wasm.telemetry import Telemetry
from starlette_wasm.telemetry.request_telemetry import ActiveRequestTelemetry, UnsampledRequestTelemetry

REFUSED = SpanContext(0xA << 120, 0xB, is_remote=False, trace_flags=TraceFlags(2), trace_state=TraceState([("a", "b")]))
TRACEPARENT = f"00-0a{'0' * 30}-{'0' * 15}b-02"
HEADERS = {"x-request-id": "r", "traceparent": f"00-{'c' * 32}-{'d' * 16}-01", "tracestate": "of=client"}


@wasm_route("/handled", function="echo")
async def handled(request: Request, call: Call) -> Response:
    return await call(request)


def under_refused(app: ASGIApp) -> ASGIApp:
    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        with use_span(NonRecordingSpan(REFUSED)):
            await app(scope, receive, send)

    return around


def telemetry(*, figured: bool) -> Telemetry:
    made = Telemetry(tracer_provider=TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    if figured:
        made.listen(lambda seen: None)
    return made


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The classes of the exchanges that were made."""
    made: list[type] = []
    exchange = Telemetry._exchange

    def kept(self: Telemetry, *given: Any) -> Any:
        found = exchange(self, *given)
        made.append(type(found))
        return found

    monkeypatch.setattr(Telemetry, "_exchange", kept)
    return made


RULES: dict[str, Any] = {"/echo": "echo", "/environ": {"functionName": "environ", "policy": "granted"}}


def no_change(runtime: WasmRuntime) -> None:
    """Leave the fast path open."""


def slow(runtime: WasmRuntime) -> None:
    for target in runtime.deployment.bound:
        if target.fast_path is not None:
            target.fast_path.dispatches = False


@pytest.mark.parametrize("path", ["/echo", "/environ", "/handled"])
@pytest.mark.parametrize("way", [no_change, slow])
def test_guests_get_the_trace_and_nothing_else_changes(
    make: Make, kinds: list[type], monkeypatch: pytest.MonkeyPatch, path: str, way: Callable[[WasmRuntime], None]
) -> None:
    monkeypatch.setenv("TRACEPARENT", "granted")

    async def seen(*, figured: bool) -> tuple[dict[str, str], Any]:
        policies = {"granted": {"allowedEnvVars": ["TRACEPARENT"]}}
        runtime = make(RULES, policies=policies, telemetry=telemetry(figured=figured))
        app = under_refused(WasmMiddleware(Starlette(routes=[handled]), runtime=runtime))
        async with runtime, client(app) as http:
            await http.get(path)
            way(runtime)
            response = await http.post(path, headers=HEADERS, content=b"body")
        return dict(response.headers), response.json()

    async def main() -> None:
        light = await seen(figured=False)
        assert light == await seen(figured=True)
        assert set(kinds) == {UnsampledRequestTelemetry, ActiveRequestTelemetry}
        headers, answer = light
        assert headers["x-request-id"] == "r"
        if path == "/environ":
            assert f"TRACEPARENT={TRACEPARENT}" in answer["environ"]
        else:
            assert answer["headers"]["traceparent"] == answer["context"]["traceparent"] == TRACEPARENT
            assert answer["headers"]["tracestate"] == answer["context"]["tracestate"] == "a=b"

    run(main())


@pytest.mark.native
def test_the_slow_path_writes_the_trace_in_c(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    encode = FastPath.encode

    def encoded(self: FastPath, *arguments: Any) -> Any:
        given.append(arguments[-2:])
        return encode(self, *arguments)

    monkeypatch.setattr(FastPath, "encode", encoded)

    async def main() -> None:
        runtime = make(RULES, telemetry=telemetry(figured=False), policies={"granted": {}})
        async with runtime, client(under_refused(WasmMiddleware(Starlette(), runtime=runtime))) as http:
            slow(runtime)
            await http.get("/echo")
        assert given == [(TRACEPARENT, "a=b")]

    run(main())


def test_hosts_that_a_guest_calls_get_the_trace(make: Make, kinds: list[type]) -> None:
    async def main() -> None:
        async with upstream(ok("hello")) as server:
            rules = {"/edge": {"functionName": "edge_c", "policy": "web"}}
            runtime = make(rules, policies={"web": server.policy()}, telemetry=telemetry(figured=False))
            async with runtime, client(under_refused(WasmMiddleware(Starlette(), runtime=runtime))) as http:
                body = json.dumps({"op": "http.fetch", "url": server.url})
                assert (await http.post("/edge", content=body)).json()["ok"]
            assert kinds == [UnsampledRequestTelemetry]
            assert f"traceparent: {TRACEPARENT}" in server.requests[0]

    run(main())
