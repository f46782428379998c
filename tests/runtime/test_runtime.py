"""WasmRuntime without HTTP: invoke, its states, what ends an invocation early."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from apps import JSON, add_function, client, config, eventually, run, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import Message, Scope

from starlette_wasm import (
    ConfigError,
    EdgeContext,
    EdgeRequest,
    ExecutionTimeout,
    FunctionError,
    FunctionNotFound,
    FunctionTrapped,
    InvalidFunctionResponse,
    MemoryLimitExceeded,
    ModuleLoadError,
    PolicyViolation,
    RequestTooLarge,
    RuntimeClosed,
    WasmMiddleware,
    WasmRoute,
    WasmRuntime,
)
from starlette_wasm.engine.pages import pages_of
from starlette_wasm.functions.compile_backoff import CompileBackoff
from starlette_wasm.invocation.options import CallOptions
from starlette_wasm.runtime import runtime as runtime_module
from starlette_wasm.sync.backoff import Backoff

POLICIES: dict[str, JSON] = {
    "short": {"executionTimeoutMs": 100},
    "long": {"executionTimeoutMs": 600_000},
    "narrow": {"executionTimeoutMs": 600_000, "maxConcurrency": 1, "queueTimeoutMs": 600_000},
    "tiny": {"maxRequestBytes": 4},
    "small": {"maxMemoryPages": 1},
}
GUESTS_THREAD = re.compile(r"starlette-wasm-\d+").fullmatch
GUESTS = ["echo", "hello", "spin", "sleep_ms", "sleep60", "trap", "garbage", "alloc", "environ", "yield"]


@pytest.fixture
def wasm(tmp_path: Path) -> JSON:
    return config(tmp_path, functions=GUESTS, policies=POLICIES)


def test_invoke_runs_a_function(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings(region="here")) as runtime:
            request = EdgeRequest(path="/x", method="PUT", body="hi", params={"a": "1"})
            response = await runtime.invoke("echo", request)
            seen = json.loads(response.body)
            assert (response.status_code, response.headers) == (200, {"content-type": "application/json"})
            assert (seen["path"], seen["method"], seen["body"], seen["params"]) == ("/x", "PUT", "hi", {"a": "1"})
            assert seen["context"]["region"] == "here"
            assert seen["context"]["cold_start"] is False

    run(main())


def test_invoke_fills_the_context_in_itself(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            request = EdgeRequest(context=EdgeContext("forged", function="other"))
            context = json.loads((await runtime.invoke("echo", request)).body)["context"]
            assert (context["function"], context["request_id"] != "forged") == ("echo", True)

    run(main())


def test_one_request_may_be_shared_by_calls_that_wait_for_each_other(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            request = EdgeRequest()
            bulkhead = runtime.target("echo", policy="narrow", where="invoke").bulkhead
            bulkhead.active = bulkhead.limit
            waiting = asyncio.create_task(runtime.invoke("echo", request, policy="narrow"))
            await eventually(lambda: bulkhead.waiting)
            await runtime.invoke("hello", request)
            bulkhead.leave()
            assert json.loads((await waiting).body)["context"]["function"] == "echo"

    run(main())


def test_without_a_version_the_highest_runs(tmp_path: Path) -> None:
    for version in ("2", "10", "9.1"):
        add_function(tmp_path, "echo", version=version)

    async def main() -> None:
        async with WasmRuntime(config(tmp_path), settings()) as runtime:
            for given, ran in ((None, "10"), ("2", "2"), ("9.1", "9.1")):
                response = await runtime.invoke("echo", EdgeRequest(), version=given)
                assert json.loads(response.body)["context"]["version"] == ran

    run(main())


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"name": "nothing"}, FunctionNotFound, "invoke: function not found: nothing; known functions: alloc, echo"),
        ({"name": "../echo"}, FunctionNotFound, "function not found"),
        ({"name": "echo", "version": "2"}, FunctionNotFound, "invoke: function not found: echo v2; known versions: 1"),
        ({"name": "echo", "policy": "lax"}, ConfigError, "invoke: no policy is called 'lax'; known are edge-moderate"),
        ({"name": "echo", "policy": "small"}, MemoryLimitExceeded, "out of memory"),
        ({"name": "spin", "policy": "short"}, ExecutionTimeout, "time limit exceeded"),
        ({"name": "trap", "query": {"mode": "div0"}}, FunctionTrapped, "wasm trap: integer divide by zero"),
        ({"name": "garbage"}, InvalidFunctionResponse, "at byte 0"),
        ({"name": "echo", "policy": "tiny", "body": "12345"}, RequestTooLarge, "exceeds 4 bytes"),
        ({"name": "echo", "policy": "tiny", "body": "éé1"}, RequestTooLarge, "exceeds 4 bytes"),
    ],
)
def test_invoke_raises_what_is_wrong_and_goes_on(wasm: JSON, given: Any, kind: type[Exception], message: str) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            request = EdgeRequest(query=given.get("query", {}), body=given.get("body"))
            for _ in range(2):
                with pytest.raises(kind, match=message):
                    await runtime.invoke(
                        given["name"], request, version=given.get("version"), policy=given.get("policy")
                    )
            assert (await runtime.invoke("hello", EdgeRequest())).body == "hello"
            assert (await runtime.invoke("echo", EdgeRequest(body="éé"), policy="tiny")).status_code == 200

    run(main())


def test_invoke_raises_at_the_call_for_a_variable_that_is_not_granted(tmp_path: Path) -> None:
    add_function(tmp_path, "environ", envVars=["LOG_LEVEL"])

    async def main() -> None:
        async with WasmRuntime(config(tmp_path), settings()) as runtime:
            with pytest.raises(PolicyViolation, match="env var not allowed: LOG_LEVEL"):
                await runtime.invoke("environ", EdgeRequest())
            assert (await runtime.invoke("environ", EdgeRequest(), policy="edge-moderate")).status_code == 200

    run(main())


def test_a_declared_variable_that_is_not_set_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("LOG_LEVEL", raising=False)
    add_function(tmp_path, "environ", envVars=["LOG_LEVEL"])
    made = config(tmp_path, {"/e": {"functionName": "environ", "policy": "edge-moderate"}})

    async def main() -> None:
        async with WasmRuntime(made, settings()):
            (text,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
            assert text == "rules[0].functionName: environ v1 declares LOG_LEVEL, which is not set: it runs without"

    run(main())


def test_a_directory_that_is_not_there_is_warned_of_once_also_for_modules_that_use_no_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    granted = {"allowedDirs": [{"hostPath": "missing", "guestPath": "/data"}]}
    rules: dict[str, str | JSON] = {path: {"functionName": "hello", "policy": "p"} for path in ("/a", "/b")}
    run(WasmRuntime(config(tmp_path, rules, policies={"p": granted}), settings()).start())
    lines = [line for line in caplog.messages if "no such directory" in line]
    assert lines == [
        f"{tmp_path}/policies/p.yaml: allowedDirs[0].hostPath: no such directory: {tmp_path}/policies/missing; "
        "it is not granted: make it, or take it out of allowedDirs"
    ]


def test_only_granted_variables_that_are_set_reach_the_guest(wasm: JSON, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "debug=é")
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.delenv("APP_MODE", raising=False)
    monkeypatch.delenv("REGION", raising=False)

    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            for policy, granted in (("edge-moderate", {"LOG_LEVEL=debug=é"}), ("edge-none", set())):
                response = await runtime.invoke("environ", EdgeRequest(), policy=policy)
                got = {entry for entry in json.loads(response.body)["environ"] if not entry.startswith("EDGE_")}
                assert got == granted

    run(main())


@pytest.mark.native
@pytest.mark.skipif(pages_of(os.getpid()) is None, reason="the kernel does not say which pages were written")
def test_stats_count_compared_instances(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings(check_restored_every=1, max_instances=11)) as runtime:
            async with asyncio.timeout(60):
                while not runtime.stats()["restore_checks"]:
                    assert (await runtime.invoke("hello", EdgeRequest())).body == "hello"
                    await asyncio.sleep(0.01)
            assert runtime.stats()["restore_faults"] == 0

    run(main())


def test_the_state_goes_from_not_started_to_closed_and_back(wasm: JSON) -> None:
    async def main() -> None:
        runtime = WasmRuntime(wasm, settings())
        assert runtime.state == "not started"
        assert not any(runtime.stats().values())
        with pytest.raises(RuntimeClosed, match="not started"):
            await runtime.invoke("hello", EdgeRequest())
        await runtime.close()
        for _ in range(2):
            await runtime.start()
            await runtime.start()
            assert runtime.state == "open"
            assert (await runtime.invoke("hello", EdgeRequest())).body == "hello"
            await runtime.close()
            await runtime.close()
            assert runtime.state == "closed"
            with pytest.raises(RuntimeClosed, match="the Wasm runtime is closed"):
                await runtime.invoke("hello", EdgeRequest())

    run(main())


def test_two_runtimes_in_one_process_do_not_touch_each_other(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings(region="b")) as stays:
            async with WasmRuntime(wasm, settings(region="a")) as goes:
                spinning = asyncio.create_task(stays.invoke("sleep_ms", EdgeRequest(query={"ms": "300"})))
                region = json.loads((await goes.invoke("echo", EdgeRequest())).body)["context"]["region"]
                assert region == "a"
                await asyncio.sleep(0.05)
            assert (await spinning).status_code == 200
            assert (await stays.invoke("hello", EdgeRequest())).body == "hello"

    run(main())


def test_while_it_drains_what_runs_goes_on_and_more_is_taken(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings(drain_timeout_ms=60_000)) as runtime:
            running = asyncio.create_task(runtime.invoke("sleep_ms", EdgeRequest(query={"ms": "200"})))
            await asyncio.sleep(0.05)
            runtime.drain()
            runtime.drain()
            assert runtime.state == "draining"
            assert (await runtime.invoke("hello", EdgeRequest())).body == "hello"
            assert (await running).status_code == 200

    run(main())


@pytest.mark.parametrize("guest", ["spin", "sleep60"])
def test_after_the_drain_timeout_what_runs_is_ended(wasm: JSON, guest: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings(drain_timeout_ms=100)) as runtime:
            running = [asyncio.create_task(runtime.invoke(guest, EdgeRequest(), policy="narrow")) for _ in range(2)]
            await asyncio.sleep(0.05)
            begin = time.monotonic()
            runtime.drain()
            for each in running:
                with pytest.raises(RuntimeClosed):
                    await each
            assert 0.05 < time.monotonic() - begin < 30
            assert runtime.state == "closed"
            await eventually(lambda: runtime.stats()["live"] == 0)
            with pytest.raises(RuntimeClosed):
                await runtime.invoke("hello", EdgeRequest())
            assert "draining is over: 2 invocations are ended" in caplog.text

    run(main())


def test_close_ends_what_runs(wasm: JSON) -> None:
    async def main() -> None:
        runtime = WasmRuntime(wasm, settings())
        await runtime.start()
        running = [
            asyncio.create_task(runtime.invoke(guest, EdgeRequest(), policy="long"))
            for guest in ("spin", "sleep60", "spin")
        ]
        await asyncio.sleep(0.1)
        begin = time.monotonic()
        await runtime.close()
        assert time.monotonic() - begin < 30
        results = await asyncio.gather(*running, return_exceptions=True)
        assert [type(result) for result in results] == [RuntimeClosed] * 3

    run(main())


def test_close_does_not_wait_long_for_a_guest_that_is_stuck(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings=settings()) as runtime:
            stuck = runtime.target("hello").function.module
            stuck.live.add(0)  # as if one were in a long instruction
            begin = time.monotonic()
        assert time.monotonic() - begin < 30
        assert stuck._free.alive, "freed under a guest"
        stuck.live.discard(0)

    run(main())
    assert "hello v1 is not freed: a guest is stuck in it" in caplog.text


def test_a_closed_runtime_leaves_no_thread_of_low_priority_to_free_the_memory_of_the_process(wasm: JSON) -> None:
    lowest = min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + 17, 19)  # that of all threads, if the process has 19
    before = set(threading.enumerate())

    def niced() -> set[threading.Thread]:
        found = set()
        for thread in set(threading.enumerate()) - before:
            with suppress(ProcessLookupError):
                if GUESTS_THREAD(thread.name) and os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) == lowest:
                    found.add(thread)
        return found

    async def main() -> None:
        async with WasmRuntime(wasm, settings=settings(guest_nice=17)) as runtime:
            spinning = asyncio.create_task(runtime.invoke("spin", EdgeRequest(), policy="long"))
            await eventually(niced, 60)
        await eventually(lambda: not niced(), 60)
        with pytest.raises(RuntimeClosed):
            await spinning

    run(main())


@pytest.mark.parametrize("guest", ["spin", "sleep60"])
def test_a_cancelled_task_drops_its_guest_and_stays_cancelled(wasm: JSON, guest: str) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            task = asyncio.create_task(runtime.invoke(guest, EdgeRequest(), policy="long"))
            await eventually(lambda: runtime.stats()["live"] == 1)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: runtime.stats()["live"] == 0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await runtime.invoke(guest, EdgeRequest(), policy="long")

    run(main())


class Impatient:
    """An ASGI client that goes away when told to."""

    def __init__(self, app: Any, path: str) -> None:
        self.on_disconnect = asyncio.Event()
        self.sent: list[Message] = []
        self._asked = False
        scope: Scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        if self._asked:
            await self.on_disconnect.wait()
            return {"type": "http.disconnect"}
        self._asked = True
        return {"type": "http.request", "body": b""}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


@pytest.mark.parametrize("guest", ["spin", "sleep60"])
@pytest.mark.parametrize("how", ["rule", "route"])
def test_a_client_that_goes_away_ends_its_guest_and_leaves_the_queue(tmp_path: Path, guest: str, how: str) -> None:
    rule = {"functionName": guest, "policy": "narrow"}
    made = config(tmp_path, {"/rule": rule}, policies=POLICIES)

    async def main() -> None:
        async with WasmRuntime(made, settings()) as runtime:
            starlette = Starlette(routes=[WasmRoute("/route", function=guest, policy="narrow")])
            middleware = WasmMiddleware(starlette, runtime=runtime)
            first, second, third = (Impatient(middleware, f"/{how}") for _ in range(3))
            await eventually(lambda: runtime.stats()["running"] == 3)
            assert runtime.stats()["live"] == 1
            second.on_disconnect.set()
            await eventually(second.task.done)
            first.on_disconnect.set()
            await eventually(first.task.done)
            await eventually(lambda: runtime.stats()["live"] == 1)
            third.on_disconnect.set()
            await eventually(lambda: runtime.stats()["live"] == runtime.stats()["running"] == 0)
            for each in (first, second, third):
                await each.task
                assert each.sent[0]["status"] == 499
            assert runtime.stats()["gone"] == 3

    run(main())


def test_a_guest_that_sleeps_holds_no_thread(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings(workers=1)) as runtime:
            sleeping = [asyncio.create_task(runtime.invoke("sleep60", EdgeRequest(), policy="long")) for _ in range(50)]
            await eventually(lambda: runtime.stats()["live"] == 50)
            await eventually(lambda: runtime.stats()["busy"] == 0)
            for each in sleeping:
                each.cancel()
            await asyncio.wait(sleeping)

    run(main())


def test_spinning_guests_do_not_stop_a_quick_one(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings(workers=1)) as runtime:
            spinning = [asyncio.create_task(runtime.invoke("spin", EdgeRequest(), policy="long")) for _ in range(8)]
            await eventually(lambda: runtime.stats()["busy"] == 1)
            for _ in range(50):
                await runtime.invoke("hello", EdgeRequest())
            assert not any(each.done() for each in spinning)
            for each in spinning:
                each.cancel()
            await asyncio.gather(*spinning, return_exceptions=True)

    run(main())


def test_the_guests_log_is_in_the_log_with_the_request_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = tmp_path / "data"
    data.mkdir()
    policies = {"dirs": {"allowedDirs": [{"hostPath": str(data), "guestPath": "/data"}]}}
    made = config(tmp_path, functions=["files"], policies=policies)

    async def main() -> None:
        async with WasmRuntime(made, settings()) as runtime:
            for body in (
                {"op": "write", "path": "/data/x", "data": "y"},
                {"op": "read", "path": "/data/../../etc/passwd"},
            ):
                request = EdgeRequest(headers={"x-request-id": "r-1"}, body=json.dumps(body))
                await runtime.invoke("files", request, policy="dirs")

    with caplog.at_level(logging.INFO, "starlette_wasm.guest"):
        run(main())
    records = [record for record in caplog.records if record.name == "starlette_wasm.guest"]
    assert "sandbox violation: fs write" in records[0].getMessage()
    assert "permission denied" in records[1].getMessage()
    assert {record.__dict__["request_id"] for record in records} == {"r-1"}


@dataclass
class Counted:
    answers: list[int] = field(default_factory=list)
    failures: list[FunctionError] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def answered(self, seconds: float, status: int) -> None:
        self.seconds.append(seconds)
        self.answers.append(status)

    def failed(self, seconds: float, error: FunctionError) -> None:
        self.seconds.append(seconds)
        self.failures.append(error)


def test_a_call_may_have_less_time_than_its_policy_allows_but_not_more(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            spin = runtime.target("spin", policy="long")
            with pytest.raises(ExecutionTimeout, match=r"\(50 ms\)"):
                await runtime.invoker.call(spin, EdgeRequest(), CallOptions(timeout=0.05))
            with pytest.raises(ExecutionTimeout, match=r"\(100 ms\)"):
                await runtime.invoker.call(
                    runtime.target("spin", policy="short"), EdgeRequest(), CallOptions(timeout=600)
                )
            answer = await runtime.invoker.call(
                runtime.target("echo", policy="long"), EdgeRequest(), CallOptions(timeout=30)
            )
            assert json.loads(answer.body)["context"]["deadline_ms"] == 30_000

    run(main())


def test_who_counts_is_told_of_each_answer_and_fault_but_not_of_overload(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            tally = Counted()

            async def call(name: str, timeout: float | None = None) -> None:
                target = replace(runtime.target(name, policy="narrow"), tally=tally)
                with suppress(FunctionError, RuntimeClosed):
                    await runtime.invoker.call(
                        target, EdgeRequest(query={"mode": "div0"}), CallOptions(timeout=timeout)
                    )

            await call("hello")
            await call("trap")
            await call("garbage")
            await call("spin", timeout=0.05)
            assert tally.answers == [200]
            assert [type(error) for error in tally.failures] == [
                FunctionTrapped,
                InvalidFunctionResponse,
                ExecutionTimeout,
            ]
            assert all(0 < seconds < 60 for seconds in tally.seconds)
            assert tally.seconds[-1] >= 0.05
            waiting = [asyncio.create_task(call("sleep60")) for _ in range(2)]
            await eventually(lambda: runtime.stats()["running"] == 2)
            await runtime.close()
            await asyncio.gather(*waiting)
            assert len(tally.seconds) == 4

    run(main())


# Functions that cannot be loaded


def test_a_start_that_failed_for_a_request_is_not_tried_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are the other functions loaded again, which without an AOT cache would all be compiled."""
    made = config(tmp_path, {"/hello": "hello", "/echo": "echo"})
    module = tmp_path / "functions/echo/v1/echo.wasm"
    whole = module.read_bytes()
    module.write_bytes(whole[:-100])
    tries: list[object] = []
    deploy = runtime_module.deploy
    monkeypatch.setattr(runtime_module, "deploy", lambda *args: (tries.append(args), deploy(*args))[1])
    clock = [0.0]

    async def main() -> None:
        runtime = WasmRuntime(made, settings(aot_cache=False))
        runtime._start_backoff = Backoff(lambda: clock[0])
        runtime._compile_backoff = CompileBackoff(lambda: clock[0])
        starts = [runtime.start(for_request=True) for _ in range(8)]
        errors = await asyncio.gather(*starts, return_exceptions=True)
        assert {type(error) for error in errors} == {ModuleLoadError}
        assert len(tries) == 1
        assert runtime.stats()["failing"] == 1
        for now, tried in ((0.9, 1), (1, 2), (2.9, 2), (3, 3)):
            clock[0] = now
            with pytest.raises(ModuleLoadError, match=r"echo\.wasm"):
                await runtime.start(for_request=True)
            assert len(tries) == tried
        module.write_bytes(whole)
        with pytest.raises(ModuleLoadError):
            await runtime.start(for_request=True)
        await runtime.start()  # who asks for it is not held back
        assert runtime.stats()["failing"] == 0
        await runtime.close()

    run(main())


def test_an_app_without_lifespan_recovers_when_its_module_is_hinted(tmp_path: Path) -> None:
    made = config(tmp_path, {"/echo": "echo"})
    module = tmp_path / "functions/echo/v1/echo.wasm"
    whole = module.read_bytes()
    module.write_bytes(whole[:-100])
    runtime = WasmRuntime(made, settings())
    clock = [0.0]
    runtime._start_backoff = Backoff(lambda: clock[0])
    wrapped = Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])

    async def main() -> None:
        async with client(wrapped) as http:
            for _ in range(3):
                with pytest.raises(ModuleLoadError, match=r"echo\.wasm"):
                    await http.get("/echo")
            module.write_bytes(whole)
            with pytest.raises(ModuleLoadError):
                await http.get("/echo")
            clock[0] = 1
            assert (await http.get("/echo")).status_code == 200
        await runtime.close()

    run(main())
