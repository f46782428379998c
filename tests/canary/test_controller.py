"""A runtime with a canary, over real guests."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import add_constant, add_flaky, client, config, eventually, run, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.canary.backends import open_store
from starlette_wasm.canary.gates import Step
from starlette_wasm.canary.record import Record, Status
from starlette_wasm.exceptions import CanaryConflict, ConfigError, FunctionNotFound
from starlette_wasm.messages import EdgeRequest
from starlette_wasm.runtime import rule_router
from starlette_wasm.traffic.router import Router

ANSWER = b'{"status_code": 200, "body": "v%d"}'
CANARY = {"functionName": "f", "stableVersion": "1", "canaryVersion": "2", "latencyP99ThresholdMs": 5000}
QUICK: dict[str, Any] = CANARY | {"stepSeconds": 1}
SLOW: dict[str, Any] = CANARY | {"stepSeconds": 3600}


def functions(folder: Path, *, flaky: int = 0) -> None:
    """``f`` in three versions, of which the second fails for ``flaky`` of 256 requests."""
    add_constant(folder, "f", ANSWER % 1)
    add_flaky(folder, "f", ANSWER % 2, flaky, version="2")
    add_constant(folder, "f", ANSWER % 3, version="3")


@asynccontextmanager
async def serving(
    folder: Path,
    canary: dict[str, Any],
    *,
    url: str = "",
    rule: dict[str, Any] | None = None,
    request_settings: dict[str, bool] | None = None,
    **keys: Any,
) -> AsyncIterator[tuple[WasmRuntime, httpx.AsyncClient]]:
    wasm = config(folder, {"/f": {"functionName": "f"} | (rule or {})}, canaries=[canary], exposeEndpoints=True, **keys)
    runtime = WasmRuntime(
        wasm, settings(canary_url=url or f"sqlite:///{folder / 'canary.db'}", **(request_settings or {}))
    )
    app = Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])
    async with runtime, client(app) as http:
        yield runtime, http


async def versions(http: httpx.AsyncClient, count: int, path: str = "/f", **kwargs: Any) -> Counter[str]:
    seen: Counter[str] = Counter()
    for _ in range(count):
        await asyncio.sleep(0)  # nothing else here waits for anything
        response = await http.get(path, **kwargs)
        seen[response.text if response.status_code == 200 else str(response.status_code)] += 1
    await asyncio.sleep(0.002)  # a loop that never waits keeps the GIL from the store's thread
    return seen


def record(runtime: WasmRuntime, function: str = "f") -> Record:
    given = runtime.canaries.all[function].record
    assert given is not None
    return given


async def drive(http: httpx.AsyncClient, runtime: WasmRuntime, until: Status, within: float = 200) -> list[int]:
    """Requests until the rollout has that status; gives the steps on the way."""
    steps: list[int] = []
    async with asyncio.timeout(within):
        while record(runtime).status is not until:
            await versions(http, 20)
            if record(runtime).percent not in steps[-1:]:
                steps.append(record(runtime).percent)
    return steps


def test_a_healthy_canary_takes_all_steps_and_stays(tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture) -> None:
    functions(tmp_path)
    caplog.set_level(logging.INFO, "starlette_wasm")

    async def main() -> None:
        async with serving(tmp_path, QUICK, url=url) as (runtime, http):
            assert (await runtime.invoke("f", EdgeRequest())).body == "v1"
            assert await versions(http, 10) == {"v1": 9, "v2": 1}
            assert await drive(http, runtime, Status.PROMOTED) == [10, 30, 50, 100]
            assert await versions(http, 10) == {"v2": 10}
            assert (await runtime.invoke("f", EdgeRequest())).body == "v2"
            body = (await http.get("/metrics/canary")).json()
            assert body["canary_success_rate"] == 1.0
            assert body["canaries"][0]["status"] == "promoted"
        async with serving(tmp_path, QUICK, url=url) as (runtime, http):  # a restart
            assert await versions(http, 10) == {"v2": 10}
            assert record(runtime).status is Status.PROMOTED

    run(main())
    assert any("Stable: " in line and " | Canary: " in line for line in caplog.messages)


def test_one_that_fails_for_five_per_cent_is_rolled_back_and_stays_out(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    functions(tmp_path, flaky=13)

    async def main() -> None:
        async with serving(tmp_path, CANARY | {"stepSeconds": 1.0}, url=url) as (runtime, http):
            steps = await drive(http, runtime, Status.ROLLED_BACK)
            assert set(steps) <= {10, 30, 0}
            assert await versions(http, 20) == {"v1": 20}
            assert "fails clearly more often than stable" in record(runtime).reason
            assert any("rolled back" in each.message and each.levelname == "WARNING" for each in caplog.records)
        async with serving(tmp_path, QUICK, url=url) as (runtime, http):
            assert await versions(http, 20) == {"v1": 20}
            assert (await http.get("/metrics/canary")).json()["canary_success_rate"] < 1
            await runtime.canaries.start("f")
            await eventually(lambda: record(runtime).percent == 10)
            assert record(runtime).status is Status.RUNNING

    run(main())


def test_by_hand(tmp_path: Path, url: str) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with serving(tmp_path, CANARY | {"stepSeconds": 3600.0, "steps": [20, 60, 100]}, url=url) as (
            runtime,
            http,
        ):
            canaries = runtime.canaries
            canaries.all["f"].configure(canaries.all["f"].config.model_copy(update={"step_seconds": 1.0}))
            assert await versions(http, 10) == {"v1": 8, "v2": 2}
            await canaries.pause("f")
            await eventually(lambda: record(runtime).status is Status.PAUSED)
            assert await versions(http, 10) == {"v1": 8, "v2": 2}
            with pytest.raises(CanaryConflict, match="it runs already"):
                await canaries.start("f")
            epoch = record(runtime).epoch
            await canaries.resume("f")
            await eventually(lambda: record(runtime).status is Status.RUNNING)
            assert record(runtime).epoch == epoch  # what was counted while it was paused counts
            with pytest.raises(CanaryConflict, match="it is not paused"):
                await canaries.resume("f")
            await canaries.promote("f")
            await eventually(lambda: record(runtime).percent == 60)
            assert await versions(http, 10) == {"v1": 4, "v2": 6}
            await canaries.abort("f")
            await eventually(lambda: record(runtime).percent == 0)
            assert await versions(http, 10) == {"v1": 10}
            with pytest.raises(CanaryConflict, match="it does not run: it is aborted"):
                await canaries.promote("f")
            await canaries.start("f")
            await canaries.promote("f", full=True)
            await eventually(lambda: record(runtime).status is Status.PROMOTED)
            assert await versions(http, 10) == {"v2": 10}
            with pytest.raises(ConfigError, match="'g' has no canary"):
                await canaries.pause("g")

    run(main())


def test_without_auto_promote_each_step_waits_for_a_hand(tmp_path: Path) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with serving(tmp_path, QUICK | {"autoPromote": False}) as (runtime, http):
            held = ""
            async with asyncio.timeout(200):
                while "waits for a hand" not in held:
                    await versions(http, 20)
                    response = await http.get("/metrics/canary")
                    if response.status_code == 200:
                        [described] = response.json()["canaries"]
                        assert described["weight"] == 10
                        held = described["reason"] if described["verdict"] == "advance" else ""
            await runtime.canaries.promote("f")
            await eventually(lambda: record(runtime).percent == 30)

    run(main())


def test_a_newer_canary_takes_the_place_of_a_running_one(tmp_path: Path, url: str) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with serving(tmp_path, QUICK, url=url) as (old, old_http):
            assert await versions(old_http, 10) == {"v1": 9, "v2": 1}
            async with serving(tmp_path, QUICK | {"canaryVersion": "3"}, url=url) as (_, http):
                assert await versions(http, 10) == {"v1": 9, "v3": 1}
                await eventually(lambda: old.canaries.notes)
                assert await versions(old_http, 10) == {"v1": 10}
                assert "v3 has taken the place of v2" in (await old_http.get("/ready")).json()["notes"][0]
        async with serving(tmp_path, QUICK, url=url) as (old, http):  # an old replica that restarts changes nothing
            assert record(old).canary == "3"
            assert await versions(http, 10) == {"v1": 10}

    run(main())


def test_another_deployment_goes_on_with_a_rollout(tmp_path: Path) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with (
            serving(tmp_path, SLOW) as (runtime, http),
            serving(tmp_path, SLOW, url="sqlite://") as (other, other_http),
        ):
            await runtime.canaries.promote("f")
            await runtime.canaries._look_at_all(10)
            runtime.canaries.attach(other.deployment)
            assert record(runtime).percent == 30
            assert await versions(other_http, 10) == {"v1": 7, "v2": 3}
            await runtime.canaries._look_at_all(10)
            assert runtime.canaries.all["f"].canary.samples == 3
            runtime.canaries.attach(runtime.deployment)
            assert await versions(http, 10) == {"v1": 7, "v2": 3}

    run(main())


def test_a_gate_is_asked_before_each_step(tmp_path: Path) -> None:
    functions(tmp_path)
    asked: list[Step] = []
    open_to = 0

    async def gate(step: Step) -> bool:
        asked.append(step)
        return step.next_percent <= open_to

    async def main() -> None:
        nonlocal open_to
        wasm = config(tmp_path, {"/f": {"functionName": "f"}}, canaries=[QUICK], exposeEndpoints=True)
        runtime = WasmRuntime(wasm, settings(canary_url="sqlite://"))
        runtime.canaries.gate("f", gate)
        app = Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])
        async with runtime, client(app) as http:
            assert await versions(http, 10) == {"v1": 10}
            await eventually(lambda: asked, within=60)
            assert asked[0] == Step("f", "1", "2", 0, 10)
            open_to = 30
            async with asyncio.timeout(200):
                while asked[-1].next_percent != 50:
                    await versions(http, 20)
                while "is closed" not in (runtime.canaries.all["f"].held_by or ""):
                    await versions(http, 20)  # a look asks the gate, and a later one has its answer
            assert record(runtime).percent == 30

    run(main())


def test_only_what_competes_is_counted_and_a_forced_version_is_not(tmp_path: Path) -> None:
    functions(tmp_path)

    async def main() -> None:
        wasm = config(tmp_path, functions=["f"], canaries=[SLOW])
        wasm["rules"] = [
            {"pathPattern": "/f", "functionName": "f", "version": "1", "regions": ["a", "b"]},
            {"pathPattern": "/f", "functionName": "f", "version": "2", "weight": 0, "regions": ["a"]},
        ]
        given = settings(canary_url="sqlite://", region="a", trust_region_header=True, allow_version_header=True)
        runtime = WasmRuntime(wasm, given)
        app = Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])
        async with runtime, client(app) as http:
            assert await versions(http, 20) == {"v1": 18, "v2": 2}
            assert await versions(http, 10, headers={"x-region": "b"}) == {"v1": 10}
            assert await versions(http, 10, headers={"x-wasm-version": "2"}) == {"v2": 10}
            await runtime.invoke("f", EdgeRequest())
            await runtime.canaries._look_at_all(10)
            live = runtime.canaries.all["f"]
            assert (live.stable.samples, live.canary.samples) == (18, 2)

    run(main())


def test_a_lost_store_keeps_the_weights_and_is_told(tmp_path: Path) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with serving(tmp_path, QUICK) as (runtime, http):
            canaries = runtime.canaries
            store = canaries._store
            canaries._store = open_store("redis://127.0.0.1:1/0")
            await eventually(lambda: canaries.notes)
            ready = await http.get("/ready")
            assert ready.status_code == 200
            assert "canary store is not available, and the weights stay" in ready.json()["notes"][0]
            assert await versions(http, 20) == {"v1": 18, "v2": 2}
            canaries._store = store
            await eventually(lambda: not canaries.notes)
            await eventually(lambda: canaries.all["f"].canary.samples == 2)

    run(main())


def test_a_record_of_another_make_keeps_the_weights_and_is_told(tmp_path: Path) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with serving(tmp_path, QUICK) as (runtime, http):
            store = runtime.canaries._store
            assert store is not None
            while not await store.swap("f", (await store.read("f")).revision, '{"from": "the future"}', 1):
                pass
            await eventually(lambda: runtime.canaries.notes)
            assert "the record cannot be read, and the weights stay" in runtime.canaries.notes[0]
            assert await versions(http, 10) == {"v1": 9, "v2": 1}

    run(main())


def test_a_store_that_lost_its_data_gets_it_back(tmp_path: Path, flushed_redis: str) -> None:
    functions(tmp_path)

    async def main() -> None:
        import redis.asyncio

        async with serving(tmp_path, SLOW, url=flushed_redis) as (runtime, http):
            await runtime.canaries.promote("f")
            await runtime.canaries._look_at_all(10)
            async with redis.asyncio.Redis.from_url(flushed_redis) as emptied:
                await emptied.flushdb()
            await runtime.canaries._look_at_all(10)
            assert await versions(http, 10) == {"v1": 7, "v2": 3}
            await runtime.canaries._look_at_all(10)
            assert (record(runtime).percent, runtime.canaries.all["f"].canary.samples) == (30, 3)

    run(main())


def test_each_step_must_be_possible_and_the_router_is_built_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions(tmp_path)
    built: list[object] = []

    def build(*given: Any, **more: Any) -> Router[Any, Any]:
        built.append(given)
        return Router(*given, **more)

    monkeypatch.setattr(rule_router, "Router", build)

    async def main(*steps: int) -> None:
        # Of 1002 requests one is for f.
        rules = [{"pathPattern": "/f", "functionName": "f", "weight": 1},
                 {"pathPattern": "/f", "functionName": "hello", "weight": 1001}]  # fmt: skip
        wasm = config(tmp_path, functions=["hello"], canaries=[CANARY | {"steps": list(steps)}]) | {"rules": rules}
        async with WasmRuntime(wasm, settings(canary_url="sqlite://")):
            pass

    run(main(10, 20, 50, 100))
    assert len(built) == 1
    with pytest.raises(ConfigError, match="rules of /f: "):
        run(main(50, 51, 100))


def test_the_endpoint_waits_for_the_minimum_of_samples(tmp_path: Path) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with serving(tmp_path, SLOW | {"canaryWeightPercent": 50}) as (runtime, http):
            await versions(http, 20)
            await runtime.canaries._look_at_all(10)
            response = await http.get("/metrics/canary")
            assert (response.status_code, response.content) == (503, b"")
            assert response.headers["x-samples-missing"] == "90"
            await versions(http, 180)
            await runtime.canaries._look_at_all(10)
            body = (await http.get("/metrics/canary?function=f")).json()
            assert body["canary_success_rate"] == 1.0
            [canary] = body["canaries"]
            assert (canary["step"], canary["weight"], canary["verdict"]) == (1, 50, "hold")
            assert canary["samples_left"] == 0
            assert 0 < canary["seconds_left"] <= 3600
            assert canary["stable"]["requests"] == canary["canary"]["requests"] == 100
            assert 0 < canary["canary"]["p50_ms"] <= canary["canary"]["p99_ms"]
            assert canary["report"] == "Stable: 100/100 (100.0%) | Canary: 100/100 (100.0%)"
            assert (await http.get("/metrics/canary?function=g")).status_code == 404

    run(main())


def test_the_endpoint_tells_of_no_samples_that_are_missing_where_none_will_come(tmp_path: Path) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with serving(tmp_path, SLOW) as (runtime, http):
            assert "x-samples-missing" in (await http.get("/metrics/canary")).headers
            await runtime.canaries.abort("f")
            await runtime.canaries._look_at_all(10)
            response = await http.get("/metrics/canary")
            assert (response.status_code, response.content) == (503, b"")
            assert "x-samples-missing" not in response.headers

    run(main())


def test_what_is_wrong_with_a_canary_is_said_at_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    functions(tmp_path)

    async def main() -> None:
        with pytest.raises(FunctionNotFound, match=r"canaries\[0\].canaryVersion"):
            async with serving(tmp_path, SLOW | {"canaryVersion": "9"}):
                pass
        with pytest.raises(ConfigError, match="canary_url"):
            async with serving(tmp_path, SLOW, url="sqlite:///nowhere/at/all.db"):
                pass
        async with serving(tmp_path, SLOW, url="sqlite://", rule={"version": "1"}):
            pass

    run(main())
    assert any("no rule serves both v1 and v2 of f" in line for line in caplog.messages)


def test_a_forced_version_does_not_reach_what_is_out(tmp_path: Path) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with serving(tmp_path, SLOW, request_settings={"allow_version_header": True}) as (runtime, http):
            asked = {"x-wasm-version": "2"}
            assert await versions(http, 2, headers=asked) == {"v2": 2}
            assert await versions(http, 10, headers={"x-wasm-version": ""}) == {"v1": 9, "v2": 1}
            await runtime.canaries.abort("f")
            await eventually(lambda: record(runtime).status is Status.ABORTED, within=30)
            assert await versions(http, 2, headers=asked) == {"404": 2}

    run(main())
