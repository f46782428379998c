"""Copies of safe requests for a canary, over real guests."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from apps import add_constant, add_flaky, add_function, client, config, eventually, run, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.canary import shadow
from starlette_wasm.canary.record import Record, Status
from starlette_wasm.canary.state import CanaryState
from starlette_wasm.canary.tally import VersionTally
from starlette_wasm.canary.window import Window
from starlette_wasm.invocation.isolated import run as run_unheard
from starlette_wasm.messages import EdgeRequest

ANSWER = b'{"status_code": 200, "body": "v%d"}'
CANARY: dict[str, Any] = {
    "functionName": "f",
    "stableVersion": "1",
    "canaryVersion": "2",
    "latencyP99ThresholdMs": 5000,
    "shadow": True,
    "stepSeconds": 1,
}
SLOW = CANARY | {"stepSeconds": 3600}
GRANTING = {"kvNamespaces": ["a"], "allowedEnvVars": ["SECRET"]}


def constants(folder: Path, failing: int = 0) -> None:
    """``f`` in two versions, of which the second fails for ``failing`` of 256 requests."""
    add_constant(folder, "f", ANSWER % 1)
    add_flaky(folder, "f", ANSWER % 2, failing, version="2")


def serving(folder: Path, canary: dict[str, Any], **given: Any) -> tuple[WasmRuntime, httpx.AsyncClient]:
    wasm = config(folder, {"/f": {"functionName": "f"}}, canaries=[canary])
    runtime = WasmRuntime(wasm, settings(**given))
    return runtime, client(Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)]))


def live(runtime: WasmRuntime) -> CanaryState:
    return runtime.canaries.all["f"]


def record(runtime: WasmRuntime) -> Record:
    given = live(runtime).record
    assert given is not None
    return given


async def ask(http: httpx.AsyncClient, count: int, method: str = "GET", **kwargs: Any) -> Counter[str]:
    seen: Counter[str] = Counter()
    for _ in range(count):
        await asyncio.sleep(0)  # nothing else here waits for anything
        response = await http.request(method, "/f", **kwargs)
        seen[response.text if response.status_code == 200 else str(response.status_code)] += 1
    await asyncio.sleep(0.002)  # a loop that never waits keeps the GIL from the store's thread
    return seen


async def counted(runtime: WasmRuntime) -> tuple[int, int]:
    """Samples of stable and of the canary, once no copy runs."""
    await eventually(lambda: not runtime.shadows.tasks, within=30)
    await runtime.canaries._look_at_all(10)
    return live(runtime).stable.samples, live(runtime).canary.samples


def test_a_good_canary_goes_from_copies_to_its_first_step_and_on(tmp_path: Path) -> None:
    constants(tmp_path)

    async def main() -> None:
        runtime, http = serving(tmp_path, CANARY)
        async with runtime, http:
            percents = [record(runtime).percent]
            while record(runtime).status is not Status.PROMOTED:
                seen = await ask(http, 10)
                assert seen == {"v1": 10} or record(runtime).percent
                if record(runtime).percent != percents[-1]:
                    percents.append(record(runtime).percent)
            assert percents == [0, 10, 30, 50, 100]

    run(main())


def test_one_that_fails_is_rolled_back_and_no_client_has_seen_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    constants(tmp_path, failing=256)

    async def main() -> None:
        runtime, http = serving(tmp_path, CANARY)
        async with runtime, http:
            while record(runtime).status is not Status.ROLLED_BACK:
                assert await ask(http, 5) == {"v1": 5}
            assert "success rate 0 %" in record(runtime).reason
            assert live(runtime).canary.failed >= 50
            answered = runtime.stats()["ok"]
            assert await ask(http, 5) == {"v1": 5}
            assert runtime.stats()["ok"] == answered + 5
            assert "wasm-trap" not in runtime.stats()
            assert not runtime.shadows.tasks

    run(main())
    assert any(line.startswith("in the shadow: f v2") for line in caplog.messages)


def test_only_safe_requests_that_no_version_was_forced_for_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "MOST", 100)
    constants(tmp_path)

    async def main() -> None:
        runtime, http = serving(tmp_path, SLOW, allow_version_header=True)
        async with runtime, http:
            assert await ask(http, 4) == {"v1": 4}
            assert await counted(runtime) == (4, 4)
            await ask(http, 3, "HEAD")
            assert await counted(runtime) == (7, 7)
            for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                await ask(http, 1, method)
            assert await counted(runtime) == (12, 7)
            assert await ask(http, 2, headers={"x-wasm-version": "1"}) == {"v1": 2}
            assert await counted(runtime) == (12, 7)
            await runtime.canaries.promote("f")
            await runtime.canaries._look_at_all(10)
            assert await ask(http, 10) == {"v1": 9, "v2": 1}  # from the first step on there are no copies
            assert await counted(runtime) == (9, 1)
            await runtime.canaries.abort("f")
            await runtime.canaries.start("f")
            await runtime.canaries._look_at_all(10)
            assert record(runtime).percent == 0

    run(main())


def test_without_auto_promote_the_first_step_waits_for_a_hand(tmp_path: Path) -> None:
    constants(tmp_path)

    async def main() -> None:
        runtime, http = serving(tmp_path, CANARY | {"autoPromote": False})
        async with runtime, http:
            while live(runtime).held_by is None:
                assert await ask(http, 5) == {"v1": 5}
            assert record(runtime).percent == 0

    run(main())


def test_a_request_that_stable_fails_for_is_copied_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "MOST", 100)
    add_flaky(tmp_path, "f", ANSWER % 1, 256)
    add_constant(tmp_path, "f", ANSWER % 2, version="2")

    async def main() -> None:
        runtime, http = serving(tmp_path, SLOW)
        async with runtime, http:
            assert await ask(http, 3) == {"500": 3}
            assert await counted(runtime) == (3, 3)
            assert (live(runtime).stable.failed, live(runtime).canary.failed) == (3, 0)

    run(main())


def test_a_copy_has_the_request_and_nothing_that_the_policy_grants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the host")
    policy = GRANTING | {"allowedDirs": [{"hostPath": str(tmp_path), "guestPath": "/data"}]}
    wasm = config(tmp_path, functions=["edge_c", "environ", "files"], policies={"granting": policy})

    def stored(value: str) -> EdgeRequest:
        command = {"op": "kv.set", "namespace": "a", "key": "k", "value": value}
        return EdgeRequest(body=json.dumps(command))

    async def main() -> None:
        async with WasmRuntime(wasm, settings(kv_url=f"sqlite:///{tmp_path}/kv.db")) as runtime:
            target = runtime.target("edge_c", policy="granting")
            invoker = runtime.invoker
            await invoker.call(target, stored("by stable"))
            answer = await run_unheard(
                runtime.invoker, target.isolated(), stored("by a copy"), lambda: runtime.invoker.guard(None)
            )
            assert json.loads(answer.body)["code"] == "kv-namespace-not-allowed"
            got = await invoker.call(
                target, EdgeRequest(body=json.dumps({"op": "kv.get", "namespace": "a", "key": "k"}))
            )
            assert json.loads(got.body)["value"] == "by stable"

            target = runtime.target("environ", policy="granting")
            environs = []
            for each in (target, target.isolated()):
                answer = await run_unheard(invoker, each, EdgeRequest(), lambda: invoker.guard(None))
                environs.append(json.loads(answer.body)["environ"])
            names = [{entry.partition("=")[0] for entry in environ} for environ in environs]
            assert names[0] - names[1] == {"SECRET"}
            assert "EDGE_FUNCTION=environ" in environs[1]

            target = runtime.target("files", policy="granting")
            assert target.plan.preopens
            assert target.isolated().plan.preopens == target.isolated().directories == ()

    run(main())


def test_what_stable_writes_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "MOST", 100)
    for version in ("1", "2"):
        add_function(tmp_path, "f", "edge_c", version=version)
    rule = {"functionName": "f", "policy": "granting"}
    wasm = config(tmp_path, {"/f": rule}, canaries=[SLOW], policies={"granting": GRANTING})
    increment = json.dumps({"op": "kv.increment", "namespace": "a", "key": "n", "by": 1})

    async def main() -> None:
        runtime = WasmRuntime(wasm, settings(kv_url=f"sqlite:///{tmp_path}/kv.db"))
        http = client(Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)]))
        async with runtime, http:
            for times in (1, 2, 3):
                answer = await http.request("GET", "/f", content=increment)
                assert answer.json()["value"] == times
                assert await counted(runtime) == (times, times)

    run(main())


@pytest.mark.parametrize("drains", [False, True])
def test_few_run_at_once_and_they_end_with_the_runtime(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, drains: bool
) -> None:
    add_constant(tmp_path, "f", ANSWER % 1)
    add_function(tmp_path, "f", "sleep60", version="2")
    long = {"executionTimeoutMs": 60_000}
    wasm = config(
        tmp_path,
        {"/f": {"functionName": "f", "policy": "long"}},
        policies={"long": long},
        canaries=[SLOW],
    )
    caplog.set_level(logging.ERROR)

    async def main() -> None:
        runtime = WasmRuntime(wasm, settings())
        http = client(Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)]))
        async with runtime, http:
            assert await ask(http, shadow.MOST + 3) == {"v1": shadow.MOST + 3}
            stats = runtime.stats()
            assert (stats["shadows"], stats["shadows_dropped"], stats["running"]) == (shadow.MOST, 3, 0)
            if drains:
                runtime.drain()
                await eventually(lambda: not runtime.shadows.tasks, within=30)
                assert await ask(http, 1) == {"v1": 1}
                assert not runtime.shadows.tasks
        assert not runtime.shadows.tasks

    run(main(), seconds=30)
    assert not caplog.messages


def test_an_answer_that_is_none_is_a_failure_and_too_large_a_request_is_no_sample(tmp_path: Path) -> None:
    small = {"maxRequestBytes": 10}
    wasm = config(tmp_path, functions=["garbage"], policies={"small": small})

    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            tally = VersionTally(5)
            target = replace(runtime.target("garbage", policy="small").isolated(), tally=tally)
            runtime.shadows.copy(target, EdgeRequest(body="x" * 11), None)
            runtime.shadows.copy(target, EdgeRequest(), None)
            await eventually(lambda: not runtime.shadows.tasks, within=30)
            window = Window.of(tally.take())
            assert (window.succeeded, window.failed, runtime.shadows.dropped) == (0, 1, 1)

    run(main())


def test_a_canary_takes_no_copy_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        end = asyncio.Event()

        async def wait(*_: object) -> None:
            await end.wait()

        monkeypatch.setattr(shadow.Shadows, "_run", wait)
        shadows = shadow.Shadows(SimpleNamespace(runtime=SimpleNamespace(state="open")))  # type: ignore[arg-type]

        def copy(function: str) -> None:
            target: Any = SimpleNamespace(name=function)
            shadows.copy(target, EdgeRequest("GET", "/"), None)

        for _ in range(5):
            copy("greedy")
        assert (len(shadows.tasks), shadows.dropped) == (shadow.MOST, 3)
        copy("modest")
        copy("modest")
        assert (len(shadows.tasks), shadows.dropped) == (shadow.MOST + 1, 4)
        end.set()
        await eventually(lambda: not shadows.tasks)
        copy("greedy")
        assert len(shadows.tasks) == 1
        await eventually(lambda: not shadows.tasks)

    run(main())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_shadowed_request_keeps_its_body(tmp_path: Path, method: str) -> None:
    """With a body the fast path is asked only where nothing is to be copied; without one, the copy comes after it."""
    for version in ("1", "2"):
        add_function(tmp_path, "f", "echo", version=version)

    async def main() -> None:
        runtime, http = serving(tmp_path, SLOW)
        async with runtime, http:
            assert (await http.request(method, "/f", content=b"abc")).json()["body"] == "abc"
            assert (await http.request(method, "/f")).json()["body"] is None
            stable, canary = await counted(runtime)
            assert (stable, canary) == (2, 2 if method == "GET" else 0)

    run(main())
