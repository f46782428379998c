"""A client's bytes: none of them holds the event loop, however they are put together.

A callback's CPU is what is measured, not its time, so that a busy machine changes nothing. The bound is wide: half of
what the work costs where it is done at once. Where the work runs is held exactly.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import logging
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import httpx
import pytest
from apps import client, config, settings
from opentelemetry import baggage, propagate
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from starlette_wasm import Call, EdgeRequest, WasmMiddleware, WasmRuntime, wasm_endpoint, wasm_route
from starlette_wasm.asgi import forms, serve
from starlette_wasm.asgi.forms import encode_form
from starlette_wasm.exceptions import RequestTooLarge
from starlette_wasm.invocation import request_execution
from starlette_wasm.invocation.fast_path import FastPathRunner
from starlette_wasm.invocation.off_loop import TooBusy, off_loop
from starlette_wasm.messages import pairs
from starlette_wasm.protocols.cgi import CgiProtocol
from starlette_wasm.protocols.edge import EdgeProtocol
from starlette_wasm.protocols.wws import WwsProtocol
from starlette_wasm.telemetry import Telemetry, propagation
from starlette_wasm.telemetry.propagation import extract

LEAST_BOUND = 0.01
"""Seconds of CPU that a callback may take anyway."""
BODY = 4 << 20
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
ASCII = "".join(map(chr, range(0x80)))
Headers = list[tuple[bytes, bytes]]


class Held:
    """The most thread CPU that one callback of the event loop took, while in use."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.longest = 0.0
        plain = asyncio.Handle._run

        def run(handle: asyncio.Handle) -> None:
            begin = time.thread_time()
            plain(handle)
            self.longest = max(self.longest, time.thread_time() - begin)

        monkeypatch.setattr(asyncio.Handle, "_run", run)


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """A pass of the collector over all that other tests hold is not the time of a callback."""
    gc.disable()
    yield
    gc.enable()


class Kind:
    """A request of one kind."""

    def __init__(
        self, *, raw: bytes = b"/echo", query: bytes = b"", headers: Headers | None = None, body: bytes = b""
    ) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "server": ("a", 80),
            "client": ("192.0.2.1", 1),
            "root_path": "",
            "path": unquote(quote(raw, safe=ASCII)),
            "raw_path": raw,
            "query_string": query,
            "headers": [(b"host", b"a"), (b"content-length", b"%d" % len(body)), *(headers or ())],
        }
        self.body = body

    def whole(self) -> EdgeRequest:
        return EdgeRequest.from_scope(self.scope, self.body, path=self.scope["path"], params={})


KINDS = {
    "30,720 pairs": Kind(query=b"a&" * 30720),
    "distinct pairs": Kind(query="&".join(f"{number:x}" for number in range(11000)).encode()),
    "escaped pairs": Kind(query=b"%41=+&" * 10200),
    "mixed escapes in a query": Kind(query=b"%41%c3x" * 8700),
    "bytes beyond ASCII in a query": Kind(query=b"\xe9" * 61000),
    "mixed escapes in a path": Kind(raw=b"/echo/" + b"%41%c3%a9x" * 6100),
    "broken escapes in a path": Kind(raw=b"/echo/" + b"%c3x" * 15000),
    "bytes beyond ASCII in a path": Kind(raw=b"/echo/" + b"\xe9" * 30000),
    "many headers": Kind(headers=[(b"a%d" % number, b"") for number in range(9000)]),
    "one header many times": Kind(headers=[(b"a", b"b")] * 30000),
    "a large body of UTF-8": Kind(body="é".encode() * (BODY // 2)),
    "a large body of no UTF-8": Kind(body=b"\xff" * BODY),
    "a large body of control characters": Kind(body=b"\x01" * BODY),
}
POLICY = {"maxRequestBytes": 2 * BODY, "maxResponseBytes": 64 << 20, "executionTimeoutMs": 29000}


WAYS = [("/echo", name) for name in KINDS] + [
    (way, name)
    for way in ("/handled", "/endpoint", "/cgi_env", "/wws")
    for name in ("30,720 pairs", "mixed escapes in a path", "many headers", "a large body of no UTF-8")
]


@wasm_route("/handled/{rest:path}", function="echo", policy="roomy")
async def handled(request: Request, call: Call) -> Response:
    return await call(request)


@pytest.fixture(scope="module")
def wasm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    names = ("echo", "cgi_env", "wws")
    rules = {f"/{name}": {"functionName": name, "policy": "roomy"} for name in names}
    policies = {"roomy": {**POLICY, "maxMemoryPages": 4096}}
    return config(tmp_path_factory.mktemp("client"), rules, policies=policies, exposeEndpoints=True)


@asynccontextmanager
async def serving(wasm: dict[str, Any]) -> AsyncIterator[Starlette]:
    async with WasmRuntime(wasm, settings()) as runtime:
        routes = [handled, Route("/endpoint/{rest:path}", wasm_endpoint("echo", policy="roomy"), methods=["POST"])]
        yield Starlette(routes=routes, middleware=[Middleware(WasmMiddleware, runtime=runtime)])


async def ask(app: Any, kind: Kind, way: str = "/echo") -> tuple[int, bytes]:
    scope = {**kind.scope, "headers": list(kind.scope["headers"])}
    scope["path"] = f"{way}/{scope['path'].removeprefix('/echo')}"
    scope["raw_path"] = way.encode() + b"/" + scope["raw_path"].removeprefix(b"/echo")
    given: list[Any] = [{"type": "http.request", "body": kind.body, "more_body": False}]
    status, parts = 0, []

    async def receive() -> Any:
        if not given:
            await asyncio.sleep(3600)
        return given.pop()

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return status, b"".join(parts)


@pytest.fixture
def on_loop(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What of a request and its answer was read or encoded in the thread of the event loop."""
    here = threading.get_ident()
    found: list[str] = []

    def watched(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **named: Any) -> Any:
            if threading.get_ident() == here:
                found.append(name)
            return plain(*args, **named)

        return run

    monkeypatch.setattr(EdgeRequest, "from_scope", watched("from_scope", EdgeRequest.from_scope))
    for protocol in (EdgeProtocol, CgiProtocol, WwsProtocol):
        monkeypatch.setattr(protocol, "encode", watched("encode", protocol.encode))
        monkeypatch.setattr(protocol, "environ", watched("environ", protocol.environ))
    return found


@pytest.mark.parametrize(("way", "name"), WAYS)
def test_a_large_request_is_read_in_a_thread(wasm: dict[str, Any], on_loop: list[str], way: str, name: str) -> None:
    async def main() -> int:
        async with serving(wasm) as app:
            return (await ask(app, KINDS[name], way))[0]

    assert asyncio.run(main()) in (200, 201)
    assert not on_loop


def test_a_small_request_is_read_on_the_loop(
    wasm: dict[str, Any], on_loop: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FastPathRunner, "encode", lambda *_, **__: None)  # C would write it

    async def main() -> int:
        async with serving(wasm) as app:
            return (await ask(app, Kind(query=b"a=%41&a=%42", body=b"\xff" * 1000)))[0]

    assert asyncio.run(main()) == 200
    assert on_loop == ["from_scope", "encode"]


@pytest.mark.parametrize("name", KINDS)
def test_no_callback_takes_long(wasm: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kind = KINDS[name]
    at_once = min(cpu(lambda: EdgeProtocol().encode(kind.whole())) for _ in range(2))

    async def main() -> float:
        async with serving(wasm) as app:
            await ask(app, Kind())
            held = Held(monkeypatch)
            for _ in range(2):
                await ask(app, kind)
            return held.longest

    assert asyncio.run(main()) < LEAST_BOUND + at_once / 2


def cpu(work: Callable[[], object]) -> float:
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def test_the_answer_to_a_large_request_is_right(wasm: dict[str, Any]) -> None:
    async def main() -> list[tuple[int, bytes]]:
        async with serving(wasm) as app:
            return [await ask(app, KINDS[name]) for name in ("escaped pairs", "a large body of UTF-8")]

    (_, escaped), (_, body) = asyncio.run(main())
    assert json.loads(escaped)["query"] == {"A": " "}
    assert json.loads(body)["body"] == "é" * (BODY // 2)


def test_pairs_are_those_of_the_standard_library() -> None:
    chosen = random.Random(1)
    parts = ["a", "b", "=", "&", "%41", "%", "%4", "%c3%a9", "%ff", "+", ";", "\xe9", " "]
    for _ in range(5000):
        query = "".join(chosen.choices(parts, k=chosen.randrange(16)))
        assert list(pairs(query)) == parse_qsl(query, keep_blank_values=True), query


def test_a_path_beyond_ascii_is_escaped_as_ever() -> None:
    raw = bytes(range(0x21, 0x100)).replace(b"?", b"").replace(b"%", b"")
    request = Kind(raw=b"/echo/" + raw).whole()
    assert request.raw_path == quote(b"/echo/" + raw, safe=ASCII)


@pytest.mark.parametrize("body", [b"", b"a", b"\xff", b"\xff\xff", b"\xff" * 3, "é😀".encode()])
def test_the_size_of_a_body_is_that_of_its_bytes(body: bytes) -> None:
    request = Kind(body=body).whole()
    assert request.size == len(request.content) == len(body)


def test_one_tenant_cannot_use_up_the_threads_for_requests() -> None:
    async def main() -> None:
        go_on = threading.Event()
        waiting = [asyncio.create_task(off_loop("a", go_on.wait)) for _ in range(64)]
        await asyncio.sleep(0)
        try:
            assert await asyncio.wait_for(off_loop("b", lambda: "b"), 30) == "b"
            with pytest.raises(TooBusy, match="were read for"):
                await off_loop("a", lambda: "late", 0.01)
        finally:
            go_on.set()
        await asyncio.gather(*waiting)

    asyncio.run(main())


def test_every_wait_for_these_threads_has_an_end(monkeypatch: pytest.MonkeyPatch, wasm: dict[str, Any]) -> None:
    """Of what has no time limit of its own yet: here a request that is to be read."""
    limits: list[float] = []
    off = serve.off_loop

    async def noted(tenant: object, work: Callable[[], object], limit: float = 0) -> object:
        limits.append(limit)
        return await off(tenant, work, limit)

    monkeypatch.setattr(serve, "off_loop", noted)

    async def main() -> int:
        async with serving(wasm) as app:
            return (await ask(app, KINDS["30,720 pairs"]))[0]

    assert asyncio.run(main()) == 200
    assert limits == [POLICY["executionTimeoutMs"] / 1000]
    assert inspect.signature(off_loop).parameters["limit"].default == 30


def test_a_large_form_is_escaped_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    form = FormData([("a", "é" * (1 << 20))])

    async def main() -> tuple[bytes, float]:
        held = Held(monkeypatch)
        return await encode_form(form, "application/x-www-form-urlencoded", 8 << 20), held.longest

    at_once = cpu(lambda: urlencode(form.multi_items()))
    body, longest = asyncio.run(main())
    assert body == b"a=" + b"%C3%A9" * (1 << 20)
    assert longest < LEAST_BOUND + at_once / 2


def test_a_form_above_the_bound_is_not_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "urlencode", lambda fields: pytest.fail("it was escaped"))
    with pytest.raises(RequestTooLarge):
        asyncio.run(encode_form(FormData([("a", "é" * 2000)]), "application/x-www-form-urlencoded", 1000))


def test_a_long_query_is_not_read_by_an_endpoint(wasm: dict[str, Any]) -> None:
    async def main() -> httpx.Response:
        async with serving(wasm) as app, client(app) as http:
            return await http.get("/metrics/canary?" + "a&" * 2000)

    answer = asyncio.run(main())
    assert (answer.status_code, answer.json()) == (414, {"error": "the query has more than 1024 bytes"})


TOO_MUCH = {
    "spaces": {"baggage": "a" + " " * 8190 + "a"},
    "a long header": {"baggage": "a=" + "b" * 60000},
    "malformed members": {"baggage": "(," * 4096},
    "many members": {"baggage": "a=b," * 2000},
    "a long traceparent": {"traceparent": f"{TRACEPARENT}-{'x' * 60000}".replace("00-", "01-", 1)},
    "a long tracestate": {"traceparent": TRACEPARENT, "tracestate": "a=" + "b" * 60000},
    "a long member": {"traceparent": TRACEPARENT, "tracestate": "a=" + "b" * 8000},
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_trace_headers_cost_little_and_are_not_logged(name: str, caplog: pytest.LogCaptureFixture) -> None:
    headers = TOO_MUCH[name]
    with caplog.at_level(logging.DEBUG):
        took = min(cpu(lambda: extract(headers)) for _ in range(5))
    assert took < 0.03
    assert len(caplog.records) <= 1
    assert sum(len(record.getMessage()) for record in caplog.records) < 300


def test_refused_trace_headers_leave_one_line_a_second(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = propagation._Log()
    monkeypatch.setattr(propagation, "_log", log)
    for _ in range(50):
        extract(TOO_MUCH["a long header"])
    assert len(caplog.records) == 1
    assert caplog.messages[0] == "of the header baggage of a request was not read: 60002 bytes, and 8192 may be"
    log._next = 0.0
    extract(TOO_MUCH["a long header"])
    assert caplog.messages[1].endswith("(49 more like it since the last line)")


def test_baggage_is_that_of_opentelemetry(caplog: pytest.LogCaptureFixture) -> None:
    chosen = random.Random(1)
    parts = ["a", "b", "=", "=", ",", ";", " ", "\t", "%41", "é", '"', "(", "k", "-"]
    with caplog.at_level(logging.CRITICAL):
        for _ in range(3000):
            header = {"baggage": "".join(chosen.choices(parts, k=chosen.randrange(30)))}
            assert baggage.get_all(extract(header)) == baggage.get_all(propagate.extract(header)), header


def test_a_trace_is_joined_beside_bad_baggage(wasm: dict[str, Any]) -> None:
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))

    async def main() -> None:
        runtime = WasmRuntime(wasm, settings())
        runtime.telemetry = Telemetry(tracer_provider=tracers)
        async with runtime:
            app = Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])
            await ask(app, Kind(headers=[(b"traceparent", TRACEPARENT.encode()), (b"baggage", b"x" * 9000)]))

    asyncio.run(main())
    assert {span.context.trace_id for span in exporter.get_finished_spans()} == {int("a" * 32, 16)}


def test_a_request_that_waits_too_long_to_be_read_is_refused(
    wasm: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(tenant: object, work: Callable[[], object], limit: float = 30) -> object:
        raise TooBusy("echo", limit)

    for module in (serve, request_execution):
        monkeypatch.setattr(module, "off_loop", busy)

    async def main() -> tuple[int, bytes]:
        async with serving(wasm) as app:
            return await ask(app, KINDS["30,720 pairs"])

    status, body = asyncio.run(main())
    assert (status, json.loads(body)["type"]) == (503, "function-overloaded")
