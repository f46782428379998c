"""Requests that somebody watches on the slow path: what C writes for their guests is what Python would write."""

from __future__ import annotations

import json
from typing import Any

import pytest
from apps import client, run
from collecting import Make
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from test_guest_capabilities import ok, upstream

from starlette_wasm import Call, WasmMiddleware, WasmRuntime, wasm_route
from starlette_wasm.engine.fast_path import NOT_TAKEN, FastPath
from starlette_wasm.invocation.fast_path import FastPathRunner
from starlette_wasm.telemetry import Telemetry
from starlette_wasm.telemetry.observation import Observation

pytestmark = pytest.mark.native
CLIENT = f"00-{'c' * 32}-{'d' * 16}-01"
RULES: dict[str, Any] = {"/echo": "echo", "/environ": {"functionName": "environ", "policy": "granted"}}
POLICIES = {"granted": {"allowedEnvVars": ["TRACEPARENT"]}}
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {"headers": {"x-request-id": "r"}},
    "traced": {"headers": {"x-request-id": "r", "traceparent": CLIENT, "tracestate": "of=client"}, "content": b"body"},
    "odd": {"headers": {b"x-request-id": b"r", b"x-a": b"\xff"}, "content": b"\xff\x00"},
    "without an id": {"params": {"a": ["1", "2"]}},
}


@wasm_route("/handled", function="echo")
async def handled(request: Request, call: Call) -> Response:
    return await call(request)


class Watched:
    """One runtime and what it records."""

    def __init__(self, make: Make, sampler: Sampler | None) -> None:
        self.exporter = InMemorySpanExporter()
        provider = None
        if sampler is not None:
            provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
            provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        telemetry = Telemetry(tracer_provider=provider)
        self.seen: list[Observation] = []
        telemetry.listen(self.seen.append)
        self.runtime: WasmRuntime = make(RULES, policies=POLICIES, telemetry=telemetry)

    async def ask(self, path: str, **request: Any) -> tuple[dict[str, str], Any]:
        async with self.runtime, client(WasmMiddleware(Starlette(routes=[handled]), runtime=self.runtime)) as http:
            response = await http.post(path, **request)
        return dict(response.headers), response.json()


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the fast path closed."""
    for name in ("answer", "run"):
        monkeypatch.setattr(FastPathRunner, name, lambda *given, **named: NOT_TAKEN)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What C was given for a request: traceparent, tracestate, and the id if it had one."""
    given: list[Any] = []
    encode = FastPath.encode

    def kept(self: FastPath, *arguments: Any) -> Any:
        given.append(arguments[5:])
        return encode(self, *arguments)

    monkeypatch.setattr(FastPath, "encode", kept)
    return given


def alike(answer: Any, ids: list[str]) -> str:
    """The text of an answer, without ids that are different in each request."""
    text = json.dumps(answer, sort_keys=True)
    for number, each in enumerate(ids):
        text = text.replace(each, f"<{number}>")
    return text


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("path", ["/echo", "/environ", "/handled"])
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF, None])
def test_c_writes_what_python_does(
    make: Make, encoded: list[Any], monkeypatch: pytest.MonkeyPatch, sampler: Sampler | None, path: str, name: str
) -> None:
    monkeypatch.setenv("TRACEPARENT", "granted")

    async def answer() -> str:
        watched = Watched(make, sampler)
        headers, body = await watched.ask(path, **REQUESTS[name])
        (seen,) = watched.seen
        assert seen.request_id == headers["x-request-id"]
        assert (seen.error, seen.status, seen.ran, seen.attempt) == (None, 200, True, 1)
        spans = {span.name: span for span in watched.exporter.get_finished_spans()}
        assert ("wasm execute" in spans) == (sampler is ALWAYS_ON)
        trace = f"{seen.trace_id}-{seen.span_id}"
        if sampler is ALWAYS_ON:
            context = spans["wasm execute"].context
            assert context is not None
            assert trace == f"{context.trace_id:032x}-{context.span_id:016x}"
        assert (trace in json.dumps(body)) == (seen.trace_id is not None)
        function = {"/environ": "environ"}.get(path, "echo")
        if sampler is ALWAYS_ON:
            assert (spans[function].attributes or {})["faas.invocation_id"] == seen.request_id
        ids = [f"{seen.trace_id}-{seen.span_id}", str(seen.request_id)]
        return alike([sorted(spans), headers, body], ids)

    async def main() -> None:
        by_c = await answer()
        assert encoded
        monkeypatch.setattr(FastPath, "encode", lambda *given: None)
        assert await answer() == by_c

    run(main())


def test_the_guest_gets_the_execute_span_and_keeps_its_id(make: Make, encoded: list[Any]) -> None:
    async def main() -> None:
        watched = Watched(make, ALWAYS_ON)
        headers, body = await watched.ask("/echo")
        first, second = encoded
        assert first == (None, None)
        assert second == (body["context"]["traceparent"], None, headers["x-request-id"])
        assert body["context"]["request_id"] == headers["x-request-id"]

    run(main())


def test_large_bodies_are_not_written_twice(make: Make, encoded: list[Any]) -> None:
    async def main() -> None:
        watched = Watched(make, ALWAYS_ON)
        assert (await watched.ask("/echo", content=b"x" * 70_000))[1]["body"] == "x" * 70_000
        assert encoded == []

    run(main())


def test_memory_that_is_missing_for_it_is_a_fault(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = FastPath.encode

    def once(self: FastPath, *given: Any) -> Any:
        return encode(self, *given) if len(given) == 7 else None

    monkeypatch.setattr(FastPath, "encode", once)

    async def main() -> None:
        watched = Watched(make, ALWAYS_ON)
        headers, body = await watched.ask("/echo", headers={"x-request-id": "r"})
        assert (headers["x-request-id"], body["status"]) == ("r", 503)
        assert [seen.status for seen in watched.seen] == [503]

    run(main())


def test_outbound_requests_belong_to_the_execute_span(make: Make, encoded: list[Any]) -> None:
    async def main() -> None:
        async with upstream(ok("hello")) as server:
            exporter = InMemorySpanExporter()
            provider = TracerProvider(shutdown_on_exit=False)
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            rules = {"/edge": {"functionName": "edge_c", "policy": "web"}}
            runtime = make(rules, policies={"web": server.policy()}, telemetry=Telemetry(tracer_provider=provider))
            async with runtime, client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
                body = json.dumps({"op": "http.fetch", "url": server.url})
                assert (await http.post("/edge", content=body)).json()["ok"]
            spans = {span.name: span for span in exporter.get_finished_spans()}
            assert len(encoded) == 2
            parent = spans["GET"].parent
            assert parent == spans["wasm execute"].context

    run(main())
