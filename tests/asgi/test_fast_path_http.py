"""Through the middleware, with the short way of fast_path.c and without: the same answers, counts and remains."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import JSON, add_constant, client, config, eventually, run, settings
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute

from starlette_wasm import EdgeRequest, WasmError, WasmMiddleware, WasmRoute, WasmRuntime
from starlette_wasm.asgi import scope
from starlette_wasm.canary.state import CanaryState
from starlette_wasm.engine import instance
from starlette_wasm.engine.fast_path import NOT_TAKEN, FastPath
from starlette_wasm.engine.loop_time import LoopTime
from starlette_wasm.invocation.fast_path import FastPathRunner
from starlette_wasm.messages import is_request_id
from starlette_wasm.telemetry import Telemetry, access
from starlette_wasm.telemetry.metrics import Metrics
from starlette_wasm.telemetry.observation import Observation
from starlette_wasm.telemetry.prometheus import Recorder

pytestmark = pytest.mark.native
POLICIES: dict[str, JSON] = {
    "tight": {"executionTimeoutMs": 10_000, "maxResponseBytes": 20_000, "maxMemoryPages": 64},
    "brief": {"executionTimeoutMs": 300},
}
TIGHT = ("hello", "echo", "environ", "trap", "log", "flood_stderr", "flood_stdout", "garbage", "exit0", "exit3",
         "alloc", "alloc_soft", "partial", "recurse", "binary", "crash_after", "edge_c")  # fmt: skip
CONSTANTS = {
    "none": b'{"status_code":204,"headers":{"x-a":"b"},"body":"left out"}',
    "reset": b'{"status_code":205,"body":"left out"}',
    "unchanged": b'{"status_code":304,"headers":{"etag":"b"}}',
    "base64": b'{"status_code":200,"body":"AP8=","is_base64_encoded":true}',
    "long": b'{"status_code":200,"body":"%s"}' % (b"x" * 9000),
    "cookies": b'{"status_code":302,"headers":{"Set-Cookie":["a=b","c=d"],"Location":"/","X-Request-Id":"theirs"}}',
    "hop": b'{"status_code":200,"headers":{"connection":"x-a","x-a":"b","te":"c"}}',
    "broken": b'{"status_code":200,"headers":{"x-a":"b\\r\\nc"}}',
    "short": b'{"status_code":200,"body":"ok"}',
}
ROUTES = (WasmRoute("/route/{x}", function="hello"), WasmRoute("/trapped", function="trap"))
GAUGES = ("running", "live", "busy", "waiting", "stuck")
Kinds = Counter[str]


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> Kinds:
    """What came of each request: ``Completed``, ``Started`` or ``NotTaken``."""
    seen, ask, ask_alone = Kinds(), FastPath.dispatch, FastPathRunner.answer

    def watched(self: FastPath, *given: Any) -> Any:
        found = ask(self, *given)
        seen[type(found).__name__] += 1
        return found

    def watched_alone(self: FastPathRunner, *given: Any) -> Any:
        found = ask_alone(self, *given)
        if found is not NOT_TAKEN:  # else dispatch() is asked
            seen["Completed" if type(found) is tuple else type(found).__name__] += 1
        return found

    monkeypatch.setattr(FastPath, "dispatch", watched)
    monkeypatch.setattr(FastPathRunner, "answer", watched_alone)
    # If the machine was busy elsewhere, a guest seems to have used up its function's time on the loop.
    monkeypatch.setattr(LoopTime, "add", lambda self, seconds: None)
    return seen


def in_steps(patch: pytest.MonkeyPatch) -> None:
    """Let C encode, run and decode each request in a step of its own."""
    for each, name in ((FastPath, "dispatch"), (FastPathRunner, "answer")):
        patch.setattr(each, name, lambda *given: NOT_TAKEN)


def without(patch: pytest.MonkeyPatch) -> None:
    """Take away all that is compiled."""
    in_steps(patch)
    patch.setattr(FastPath, "call", lambda *given: NOT_TAKEN)
    for step in ("encode", "run", "decode"):
        patch.setattr(FastPath, step, lambda *given: None)
    patch.setattr(instance, "native", None)
    patch.setattr(scope, "native", None)


def rules(folder: Path) -> JSON:
    for name, stdout in CONSTANTS.items():
        add_constant(folder, name, stdout)
    tight = {f"/{name}/{{x}}": {"functionName": name, "policy": "tight"} for name in (*TIGHT, *CONSTANTS)}
    brief = {f"/{name}/{{x}}": {"functionName": name, "policy": "brief"} for name in ("spin",)}
    return config(folder, tight | brief, policies=POLICIES, functions=["hello", "trap"])


def served(runtime: WasmRuntime, *routes: BaseRoute) -> httpx.AsyncClient:
    return client(Starlette(routes=list(routes), middleware=[Middleware(WasmMiddleware, runtime=runtime)]))


def seen(response: httpx.Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    return response.status_code, response.headers.raw, response.content


async def answers(wasm: JSON, **given: Any) -> tuple[dict[str, Any], dict[str, int]]:
    """What each function answers to each request, and the counters after them."""
    found: dict[str, Any] = {}
    scratches = 0
    async with WasmRuntime(wasm, settings(**given)) as runtime, served(runtime, *ROUTES) as http:
        paths = [f"/{name}/a?mode=unreachable&mib=5" for name in (*TIGHT, *CONSTANTS)]
        paths += ["/route/a", "/trapped", "/echo/é", "/echo/a?x=%41", "/echo/a?y=%C3%A9+b&x=1&x=%zz", "/echo/a?x=%FF"]
        engine = runtime.engine
        for _ in range(2):
            for path in paths:
                for method, body in (
                    ("GET", b""),
                    ("HEAD", b""),
                    ("PUT", b"a"),
                    ("POST", b"\xc3\xa9" * 6000),
                    ("POST", b"\xff"),
                ):
                    headers = {"x-request-id": "r-1", "x-a": "b"}
                    answer = await http.request(method, path, content=body, headers=headers)
                    found[f"{method} {path} {body[:1]!r}"] = seen(answer)
            found["spin"] = seen(await http.get("/spin/a", headers={"x-request-id": "r-1"}))
            await eventually(lambda: not any(map(runtime.stats().get, GAUGES)))
            scratches = scratches or len(engine.scratches)
        assert len(engine.scratches) <= scratches + 1
        return found, {name: count for name, count in runtime.stats().items() if name != "prepared"}


async def responses(wasm: JSON) -> tuple[dict[str, Any], dict[str, int]]:
    """What each function answers to calls from Python, and the counters after them."""
    found: dict[str, Any] = {}
    async with WasmRuntime(wasm, settings()) as runtime:
        for name in (*TIGHT, *CONSTANTS):
            for headers in (
                {"x-request-id": "r-1"},
                {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": "a=b"},
            ):
                request = EdgeRequest(path="/é", body='"', headers=headers)
                try:
                    response: Any = await runtime.invoke(name, request, policy="tight")
                except WasmError as error:
                    response = str(error)
                context = request.context
                assert context is not None
                if "x-request-id" not in headers:
                    assert is_request_id(context.request_id)
                    context.request_id = ""
                    response = None if name in ("echo", "environ") else response  # which show the id
                found[f"{name} {headers}"] = response, getattr(response, "_length", None), context
        await eventually(lambda: not any(map(runtime.stats().get, GAUGES)))
        return found, {name: count for name, count in runtime.stats().items() if name != "prepared"}


def test_calls_from_python_are_the_same_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: Kinds, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "starlette_wasm")
    wasm = rules(tmp_path)
    taken: list[str] = []
    call = FastPath.call

    def watched(self: FastPath, *given: Any) -> Any:
        found = call(self, *given)
        taken.append(type(found).__name__)
        return found

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(FastPath, "call", watched)
            in_c, counted = await responses(wasm)
        with monkeypatch.context() as patch:
            without(patch)
            in_python, counted_then = await responses(wasm)
        assert taken.count("Called") + taken.count("Started") >= len(TIGHT), taken
        assert in_c == in_python
        assert counted == counted_then

    run(main(), 240)


def test_all_answers_are_the_same_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: Kinds, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "starlette_wasm")
    wasm = rules(tmp_path)

    async def main() -> None:
        short, counted = await answers(wasm, debug=True)
        assert min(kinds["Completed"], kinds["Started"]) > 40, kinds
        assert kinds["NotTaken"] > 0
        for change in (in_steps, without):
            with monkeypatch.context() as patch:
                change(patch)
                long, counted_then = await answers(wasm, debug=True)
            for request, answer in long.items():
                assert short[request] == answer, (request, change)
            assert counted == counted_then
        assert {answer[0] for answer in long.values()} >= {200, 204, 205, 302, 304, 500, 502, 504}

    run(main(), 240)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/short/a", "Completed"),
        ("POST", "/echo/a", "Completed"),
        ("GET", "/environ/a", "Completed"),
        ("GET", "/cookies/a", "Completed"),
        ("GET", "/route/a", "Completed"),
        ("HEAD", "/short/a", "Completed"),
        ("GET", "/short/%C3%A9", "Completed"),
        ("GET", "/short/a?q=a%20b+c&q=d", "Completed"),
        ("POST", "/echo/a?q=a&q=%22b%22", "Completed"),
        ("GET", "/short/a%20b+c", "Completed"),
        ("GET", "/short/a?q=%FF", "NotTaken"),
        ("GET", "/none/a", "Completed"),
        ("GET", "/reset/a", "Completed"),
        ("GET", "/unchanged/a", "Completed"),
        ("GET", "/base64/a", "Completed"),
        ("GET", "/long/a", "Completed"),
        ("GET", "/hop/a", "Started"),
        ("GET", "/broken/a", "Started"),
        ("GET", "/trap/a?mode=unreachable", "Started"),
        ("GET", "/exit3/a", "Started"),
        ("GET", "/flood_stdout/a", "Started"),
    ],
)
def test_which_way_a_request_goes(tmp_path: Path, kinds: Kinds, method: str, path: str, kind: str) -> None:
    wasm = rules(tmp_path)

    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime, served(runtime, *ROUTES) as http:
            for _ in range(20):
                kinds.clear()
                await http.request(method, path)
                if kinds[kind]:  # else the machine was busy elsewhere for two milliseconds
                    break
            assert kinds == {kind: 1}
            assert runtime.stats()["live"] == 0

    run(main())


def test_a_guest_that_never_ends_meets_its_deadline_and_others_are_served(tmp_path: Path, kinds: Kinds) -> None:
    wasm = rules(tmp_path)

    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime, served(runtime) as http:
            busy, others = asyncio.create_task(http.get("/spin/a")), 0
            await eventually(lambda: runtime.stats()["live"])
            assert kinds == {"Started": 1}
            while not busy.done():
                assert (await http.get("/short/a")).text == "ok"
                others += 1
                await asyncio.sleep(0)
            answer = await busy
            assert answer.status_code == 504
            assert answer.json()["type"] == "execution-timeout"
            assert others
            await eventually(lambda: runtime.stats()["live"] == 0)

    run(main())


@pytest.mark.parametrize("end", ["module", "runtime", "client"])
def test_what_ends_meanwhile(tmp_path: Path, kinds: Kinds, end: str) -> None:
    wasm = rules(tmp_path)

    async def main() -> None:
        async with WasmRuntime(wasm, settings(drain_timeout_ms=100)) as runtime, served(runtime) as http:
            engine = runtime.engine
            busy = asyncio.create_task(http.get("/spin/a"))
            await eventually(lambda: runtime.stats()["live"])
            assert kinds == {"Started": 1}
            if end == "module":
                runtime.target("spin").function.module.close()
                assert (await busy).status_code == 504
                assert (await http.get("/spin/a")).json()["type"] == "wasm-trap"
                assert kinds == {"Started": 1, "NotTaken": 1}
            elif end == "runtime":
                await runtime.close()
                assert (await busy).status_code == 503
            else:
                busy.cancel()
                await asyncio.wait([busy])
            await eventually(lambda: engine.state.live == 0)

    run(main())


def test_a_canary_is_counted(tmp_path: Path, kinds: Kinds) -> None:
    add_constant(tmp_path, "f", CONSTANTS["short"])
    add_constant(tmp_path, "f", b'{"status_code":201,"body":"ok"}', version="2")
    canary = {"functionName": "f", "stableVersion": "1", "canaryVersion": "2", "stepSeconds": 3600}
    wasm = config(tmp_path, {"/f": "f"}, canaries=[canary])

    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime, served(runtime) as http:
            statuses = Counter([(await http.get("/f")).status_code for _ in range(100)])
            # Where the machine is busy elsewhere, a guest may have begun there, and gone on on the slow path.
            assert "NotTaken" not in kinds
            assert kinds.total() == 100
            await runtime.canaries._look_at_all(10)
            live: CanaryState = runtime.canaries.all["f"]
            assert (live.stable.samples, live.canary.samples) == (statuses[200], statuses[201])
            assert statuses[201] > 0
            assert runtime.stats()["ok"] == 100

    run(main())


@pytest.mark.parametrize("listener", ["tracer", "meter", "prometheus", "access log", "nobody"])
def test_nobody_who_listens_turns_it_off(
    tmp_path: Path, kinds: Kinds, listener: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each is told of a call on the fast path is what it is told of one on the slow path."""
    add_constant(tmp_path, "short", CONSTANTS["short"])
    wasm = config(tmp_path, {"/short": "short"}, exposeEndpoints=listener == "prometheus")
    told: list[Observation] = []
    monkeypatch.setattr(Metrics, "record_alone", lambda self, seen: told.append(seen))
    monkeypatch.setattr(Recorder, "record_alone", lambda self, seen: told.append(seen))
    monkeypatch.setattr(access, "log", told.append)

    async def main() -> None:
        runtime = WasmRuntime(wasm, settings(access_log=listener == "access log"))
        tracers, meters = TracerProvider(), MeterProvider()
        runtime.telemetry = Telemetry(
            tracer_provider=tracers if listener == "tracer" else None,
            meter_provider=meters if listener == "meter" else None,
        )
        async with runtime, served(runtime) as http:
            for _ in range(2):
                assert (await http.get("/short", headers={"x-request-id": "r-1"})).text == "ok"
                with monkeypatch.context() as patch:
                    without(patch)
                    assert (await http.get("/short", headers={"x-request-id": "r-1"})).text == "ok"
        tracers.shutdown()
        meters.shutdown()

    run(main())
    assert "NotTaken" not in kinds  # on a slow machine a guest may have begun there, and gone on on the slow path
    assert kinds.total() == 2
    # Nothing of a series is in bulk before an observation is recorded alone, which is not done here.
    assert len(told) == {"nobody": 0, "tracer": 0}.get(listener, 4)
    for seen in told:
        assert seen.duration > 0
        assert seen.cpu > 0
        seen.duration = seen.cpu = 0
        seen.trace_id = seen.span_id = None
    assert all(seen == told[0] for seen in told)


def scope_of(path: str, **given: Any) -> JSON:
    return {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"a.org")],
        **given,
    }


async def nothing() -> JSON:
    return {"type": "http.request", "body": b"", "more_body": False}


def test_a_guest_that_has_begun_is_dropped_where_the_long_way_cannot_be_gone(
    tmp_path: Path, kinds: Kinds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> EdgeRequest:
        raise AttributeError("decode")

    monkeypatch.setattr(EdgeRequest, "from_scope", broken)

    async def go() -> None:
        async with WasmRuntime(rules(tmp_path), settings()) as runtime:
            app = WasmMiddleware(Starlette(), runtime=runtime)
            for name in ("broken", "garbage", "hop"):
                with pytest.raises(AttributeError, match="decode"):
                    await app(scope_of(f"/{name}/a"), nothing, sent([]))
            assert kinds == {"Started": 3}
            assert runtime.stats()["live"] == 0

    run(go())


def test_an_answer_begins_once_though_the_client_leaves(tmp_path: Path, kinds: Kinds) -> None:
    messages: list[str] = []

    async def leaves(message: Any) -> None:
        messages.append(message["type"])
        raise ClientDisconnect

    async def go() -> None:
        async with WasmRuntime(rules(tmp_path), settings()) as runtime:
            with pytest.raises(ClientDisconnect):
                await WasmMiddleware(Starlette(), runtime=runtime)(scope_of("/short/a"), nothing, leaves)
            assert runtime.stats()["ok"] == 1

    run(go())
    assert (messages, dict(kinds)) == (["http.response.start"], {"Completed": 1})


def sent(into: list[Any]) -> Any:
    async def send(message: Any) -> None:
        into.append(message)

    return send


def test_a_guest_that_has_begun_is_dropped_where_the_runtime_closes_before_it_goes_on(
    tmp_path: Path, kinds: Kinds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closing(ask: Any) -> Any:
        def run(self: FastPathRunner, *given: Any) -> Any:
            found = ask(self, *given)
            if found is not NOT_TAKEN:
                self._runtime._enter("closed")  # by another thread's event loop
            return found

        return run

    for name in ("run", "answer"):
        monkeypatch.setattr(FastPathRunner, name, closing(getattr(FastPathRunner, name)))

    async def go() -> None:
        async with WasmRuntime(rules(tmp_path), settings()) as runtime, served(runtime, *ROUTES) as http:
            assert (await http.get("/hop/a")).status_code == 503
            assert kinds == {"Started": 1}
            assert runtime.stats()["live"] == 0

    run(go())


def test_a_granted_traceparent_gives_way_to_the_client(
    tmp_path: Path, kinds: Kinds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEPARENT", "granted")
    policies: dict[str, JSON] = {"granted": {"allowedEnvVars": ["TRACEPARENT"]}, "bare": {}}
    rules = {f"/{name}": {"functionName": "environ", "policy": name} for name in policies}
    wasm = config(tmp_path, rules, policies=policies)
    sent = f"00-{'1' * 32}-{'2' * 16}-01"

    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime, served(runtime) as http:
            for name, count in (("granted", 0), ("bare", 1)):
                answer = await http.get(f"/{name}", headers={"traceparent": sent})
                assert answer.text.count("TRACEPARENT") == 1
                assert f"TRACEPARENT={sent}" in answer.json()["environ"]
                assert kinds["Completed"] == count
            assert "TRACEPARENT=granted" in (await http.get("/granted")).json()["environ"]

    run(main())
