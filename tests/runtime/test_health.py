"""Probes: what fails them is out of the routing until it does not, and /ready says so."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from apps import JSON, add_constant, add_function, client, config, eventually, run, settings
from prometheus_client import REGISTRY
from starlette.applications import Starlette

from starlette_wasm import EdgeRequest, EdgeResponse, WasmRuntime
from starlette_wasm.asgi.middleware import WasmMiddleware
from starlette_wasm.config.settings import RequestSettings
from starlette_wasm.engine import capi
from starlette_wasm.engine.plan import Plan
from starlette_wasm.exceptions import ConfigError
from starlette_wasm.functions.catalog import Catalog, HealthCheck
from starlette_wasm.functions.target import Target
from starlette_wasm.invocation import isolated as probe
from starlette_wasm.invocation.invoker import Invoker
from starlette_wasm.runtime import health

SWITCHED = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\20\\00\\00\\00\\2b\\00\\00\\00")
  (data (i32.const 8) "\\60\\00\\00\\00\\2b\\00\\00\\00")
  (data (i32.const 16) "on")
  (data (i32.const 32) "{\\"status_code\\": 200, \\"body\\": \\"is switched\\"}")
  (data (i32.const 96) "{\\"status_code\\": 503, \\"body\\": \\"is disabled\\"}")
  (func (export "_start")
    (call $write (i32.const 1)
      (select (i32.const 8) (i32.const 0)
        (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 2) (i32.const 0)
          (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 200)))
      (i32.const 1) (i32.const 208))
    drop))"""
"""Well as long as there is a file ``on`` in the granted directory."""
CHECK = {"path": "/healthz"}


@dataclass
class Served:
    folder: Path
    runtime: WasmRuntime
    http: httpx.AsyncClient

    def switch(self, on: bool) -> None:
        if on:
            (self.folder / "data/on").touch()
        else:
            (self.folder / "data/on").unlink()

    async def ready(self, status: int) -> JSON:
        async with asyncio.timeout(30):
            while (response := await self.http.get("/ready")).status_code != status:
                await asyncio.sleep(0.01)
        body: JSON = response.json()
        return body


@asynccontextmanager
async def serving(folder: Path, rules: list[JSON], **keys: Any) -> AsyncIterator[Served]:
    """``f`` with version 1, which is always well, and 2, which is as long as it is switched on."""
    (folder / "data").mkdir()
    (folder / "data/on").touch()
    add_constant(folder, "f", b'{"status_code": 200, "body": "one"}')
    add_constant(folder, "f", b"", version="2")
    (folder / "functions/f/v2/f.wasm").write_bytes(capi.assemble(SWITCHED))
    (folder / "functions/f/v2/function.yaml").write_text(yaml.safe_dump({"healthCheck": CHECK}))
    wasm = config(
        folder,
        functions=["hello"],
        policies={"p": {"allowedDirs": [{"hostPath": str(folder / "data"), "guestPath": "/"}]}},
        exposeEndpoints=True,
        healthCheckIntervalMs=20,
        **keys,
    )
    wasm["rules"] = [{"pathPattern": "/f", "functionName": "f", "policy": "p", **rule} for rule in rules]
    async with (
        WasmRuntime(wasm, settings(access_log=True)) as runtime,
        client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
    ):
        served = Served(folder, runtime, http)
        await served.ready(200)
        yield served


def test_large_instances_are_probed_off_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: dict[int, bool] = {}

    def instantiate(plan: Plan) -> str | None:
        threads[plan.limits.memory_pages] = threading.current_thread() is threading.main_thread()
        return probe.instantiate(plan)

    monkeypatch.setattr(health, "instantiate", instantiate)
    policies = {"small": {"maxMemoryPages": 16}, "large": {"maxMemoryPages": 1024}}
    wasm = config(tmp_path, functions=["hello"], policies=policies, exposeEndpoints=True)
    wasm["rules"] = [{"pathPattern": f"/{name}", "functionName": "hello", "policy": name} for name in policies]

    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            await eventually(lambda: not runtime.health.reasons())
            assert runtime.health.verdicts() == {("hello", "1"): True}

    asyncio.run(main())
    assert threads == {16: True, 1024: False}


BOTH = [{"version": "1", "weight": 50}, {"version": "2", "weight": 50}]


def test_what_fails_is_taken_out_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(tmp_path, BOTH) as served:
            assert served.runtime.health.healthy is None

            async def answers() -> Counter[str]:
                return Counter([(await served.http.get("/f")).text for _ in range(20)])

            body = await served.ready(200)
            assert body["functions"]["f"]["2"]["healthy"] is True
            assert await answers() == {"one": 10, "is switched": 10}
            served.switch(on=False)
            body = await served.ready(503)
            assert body["status"] == "not ready"
            assert body["reasons"] == ["f v2 is unhealthy: it answered 503, not 200 to 399"]
            assert {each: body["functions"]["f"][each]["healthy"] for each in "12"} == {"1": True, "2": False}
            assert await answers() == {"one": 20}
            await asyncio.sleep(0.1)
            served.switch(on=True)
            body = await served.ready(200)
            assert (body["status"], body["reasons"]) == ("ready", [])
            assert await answers() == {"one": 10, "is switched": 10}
            assert served.runtime.health.healthy is None

    with caplog.at_level(logging.INFO, "starlette_wasm"):
        run(main())
    lines = [record.getMessage() for record in caplog.records if record.name != "starlette_wasm.events"]
    told = [text for text in lines if "healthy" in text]
    assert [text.partition(" and")[0] for text in told] == ["f v2 is unhealthy", "f v2 is healthy again"]


@pytest.mark.parametrize("default", ["hello", "f", None])
def test_where_nothing_healthy_is_left_the_default_answers_or_503(tmp_path: Path, default: str | None) -> None:
    async def main() -> None:
        keys: JSON = {"defaultFunction": default, "defaultPolicy": "p"} if default else {}
        async with serving(tmp_path, [{"version": "2"}], **keys) as served:
            assert (await served.http.get("/f")).text == "is switched"
            served.switch(on=False)
            await eventually(lambda: served.runtime.health.verdicts()["f", "2"] is False)
            assert (await served.http.get("/ready")).status_code == (200 if default == "hello" else 503)
            response = await served.http.get("/f")
            if default == "hello":
                assert response.text == "hello"
            else:
                assert (response.status_code, response.json()["title"]) == (503, "function overloaded")
                assert "retry-after" in response.headers
            # Who names a function gets it: only rules have another to turn to.
            assert (await served.runtime.invoke("f", EdgeRequest(path="/"), policy="p")).status_code == 503

    run(main())


def test_the_reason_of_a_503_is_health_or_region(tmp_path: Path) -> None:
    async def main() -> None:
        rules = [{"version": "2", "regions": ["here"]}]
        async with serving(tmp_path, rules) as served:
            served.runtime.settings = settings(debug=True, trust_region_header=True)
            served.runtime.request_settings = RequestSettings.of(served.runtime.settings)
            served.switch(on=False)
            await served.ready(503)
            here, there = [
                (await served.http.get("/f", headers={"x-region": region})).json()["detail"]
                for region in ("here", "there")
            ]
            assert "healthy" in here
            assert "no rule serves this region" in there

    run(main())


def test_nothing_is_ready_before_the_first_probe_has_ended(tmp_path: Path) -> None:
    add_function(tmp_path, "slow", "sleep_ms")
    add_function(tmp_path, "spin", healthCheck=CHECK | {"timeoutMs": 300})
    wasm = config(tmp_path, {"/spin": "spin", "/hello": "hello"}, exposeEndpoints=True, healthCheckIntervalMs=50)

    async def main() -> None:
        async with (
            WasmRuntime(wasm, settings()) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            first = await http.get("/ready")
            assert first.status_code == 503
            assert first.json()["reasons"] == ["not probed yet: spin v1"]
            states = {name: each["1"]["healthy"] for name, each in first.json()["functions"].items()}
            assert states == {"spin": None, "hello": True, "slow": True}
            await eventually(lambda: runtime.health.healthy, within=30)
            assert (await http.get("/ready")).json()["reasons"] == ["spin v1 is unhealthy: time limit exceeded"]
            assert (await http.get("/hello")).text == "hello"

    run(main())


def test_probes_are_no_traffic_and_never_overlap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_function(tmp_path, "slow", "sleep_ms", healthCheck=CHECK)
    rule = {"functionName": "slow", "policy": "one"}
    wasm = config(tmp_path, {"/slow": rule}, policies={"one": {"maxConcurrency": 1}}, healthCheckIntervalMs=1)
    asked = running = 0

    async def check_health(invoker: Invoker, target: Target, check: HealthCheck) -> str | None:
        nonlocal asked, running
        asked, running = asked + 1, running + 1
        assert running == 1
        problem = await probe.check_health(invoker, target, check)
        assert target.bulkhead.active == 0
        await asyncio.sleep(0.005)  # longer than the interval
        running -= 1
        return problem

    monkeypatch.setattr("starlette_wasm.runtime.health.check_health", check_health)

    async def main() -> None:
        async with WasmRuntime(wasm, settings(access_log=True)) as runtime:
            await eventually(lambda: asked > 10, within=30)
            assert runtime.health.verdicts()["slow", "1"] is True
            runtime.drain()
            assert "ok" not in runtime.stats()
            await asyncio.sleep(0)
            after = asked
            await asyncio.sleep(0.05)
            assert asked == after  # none while draining

    with caplog.at_level(logging.INFO):
        run(main())
    assert not [record for record in caplog.records if record.name == "starlette_wasm.access"]


def test_a_probe_is_denied_what_the_policy_grants_outside(tmp_path: Path) -> None:
    """The guest answers what edge.call gave it."""
    add_function(tmp_path, "edge_c", healthCheck=CHECK)
    policies = {"kv": {"kvNamespaces": ["a"]}}
    wasm = config(tmp_path, {"/e": {"functionName": "edge_c", "policy": "kv"}}, policies=policies)
    command = json.dumps({"op": "kv.set", "namespace": "a", "key": "k", "value": "v"})

    async def main() -> None:
        async with WasmRuntime(wasm, settings(kv_url=f"sqlite:///{tmp_path}/kv.db")) as runtime:
            request = EdgeRequest(method="POST", body=command)
            assert json.loads((await runtime.invoke("edge_c", request, policy="kv")).body)["ok"] is True
            answers: list[JSON] = []
            (target, *_) = runtime.deployment.bound
            protocol = target.protocol

            def encode(request: EdgeRequest) -> bytes:
                return protocol.encode(replace(request, method="POST", body=command))

            def decode(stdout: bytes, *tokens: int) -> EdgeResponse:
                response = protocol.decode(stdout)
                answers.append(json.loads(response.body))
                return response

            spied: Any = SimpleNamespace(encode=encode, decode=decode, environ=protocol.environ)
            check = target.function.source.manifest.health_check
            assert check is not None
            await probe.check_health(runtime.invoker, replace(target, protocol=spied), check)
            assert [(answer["ok"], answer["code"]) for answer in answers] == [(False, "kv-namespace-not-allowed")]

    run(main())


def test_a_reload_keeps_what_is_known_of_the_same_and_forgets_the_rest(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, BOTH) as served:
            served.switch(on=False)
            await served.ready(503)
            await served.runtime.reload()
            assert served.runtime.health.verdicts()["f", "2"] is False
            assert (await served.http.get("/ready")).status_code == 503
            module = served.folder / "functions/f/v2/f.wasm"
            module.write_bytes((served.folder / "functions/f/v1/f.wasm").read_bytes())
            await served.runtime.reload()
            assert served.runtime.health.healthy is None
            assert (await served.http.get("/ready")).status_code == 200  # nothing is known to be wrong with it
            await eventually(lambda: served.runtime.health.verdicts()["f", "2"], within=30)

    run(main())


def test_the_gauge_of_a_version_that_is_gone_says_nothing_of_it(tmp_path: Path) -> None:
    gauge = "starlette_wasm_function_healthy"

    def told() -> float | None:
        return REGISTRY.get_sample_value(gauge, {"faas_name": "f", "faas_version": "2"})

    async def main() -> None:
        async with serving(tmp_path, BOTH) as served:
            served.switch(on=False)
            await served.ready(503)
            assert told() == 0
            shutil.rmtree(served.folder / "functions/f/v2")
            only = served.runtime.deployment.config.model_copy(
                update={"rules": [rule for rule in served.runtime.deployment.config.rules if rule.version == "1"]}
            )
            await served.runtime.reload(only)
            assert told() is None

    run(main())


def test_routes_and_calls_are_probed_when_they_are_bound(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, [{"version": "1"}]) as served:
            assert served.runtime.health.verdicts()["f", "2"] is True  # an instance can be made
            served.switch(on=False)
            await served.runtime.invoke("f", EdgeRequest(path="/"), version="2", policy="p")
            await served.ready(503)

    run(main())


def test_notes_are_told_and_change_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, [{"version": "1"}]) as served:
            served.runtime.notes["canary state"] = "lost; the last weights are kept"
            assert (await served.ready(200))["notes"] == ["canary state: lost; the last weights are kept"]

    run(main())


def test_health_tells_how_late_the_loop_is_and_whether_the_ticker_lives(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, [{"version": "1"}]) as served:
            await served.http.get("/f")
            body = (await served.http.get("/health")).json()
            assert (body["status"], body["ticker"]) == ("alive", True)
            assert 0 <= body["loop_lag_ms"] < 10_000
            ticker = served.runtime.engine.ticker
            assert ticker.armed
            ticker._timer.rest()  # as if the kernel had lost it
            response = await served.http.get("/health")
            assert (response.status_code, response.json()["ticker"]) == (503, False)
            ticker._timer.arm()
            assert (await served.http.get("/health")).status_code == 200

    run(main())


WRONG = {
    "{}": "healthCheck.path: is missing; add it",
    "{path: healthz}": "healthCheck.path: 'healthz' is not a path; use for example /healthz, without a query",
    "{path: '/a?b'}": "healthCheck.path: '/a?b' is not a path",
    "{path: /a, method: 'G E T'}": "healthCheck.method: 'G E T' is not a valid HTTP method; use for example GET",
    "{path: /a, timeoutMs: 0}": "healthCheck.timeoutMs: 0 is too small; the least is 1",
    "{path: /a, status: 99}": "healthCheck.status: 99 is too small; the least is 200",
    "{path: /a, timeout: 9}": "healthCheck.timeout: unknown key, with the value 9; did you mean timeoutMs?",
}


@pytest.mark.parametrize("check", WRONG)
def test_a_wrong_health_check_is_an_error_with_key_and_hint(tmp_path: Path, check: str) -> None:
    add_function(tmp_path, "hello")
    (tmp_path / "functions/hello/v1/function.yaml").write_text(f"healthCheck: {check}\n")
    with pytest.raises(ConfigError, match=re.escape(WRONG[check])):
        Catalog(tmp_path / "functions")


@pytest.mark.parametrize(
    ("rules", "keys", "status"),
    [
        ([{"version": "1"}, {"version": "2", "weight": 0}], {}, 200),
        ([{"version": "1"}, {"version": "2", "weight": 0}], {"readyRequires": "all"}, 503),
        (BOTH, {}, 503),
        (BOTH, {"readyRequires": ["hello"]}, 200),
        (BOTH, {"readyRequires": ["f"]}, 503),
        ([{"version": "2"}], {"defaultFunction": "hello"}, 200),
    ],
)
def test_ready_fails_only_for_what_takes_traffic(tmp_path: Path, rules: list[JSON], keys: JSON, status: int) -> None:
    async def main() -> None:
        async with serving(tmp_path, rules, **keys) as served:
            served.switch(on=False)
            await eventually(lambda: served.runtime.health.verdicts()["f", "2"] is False)
            response = await served.http.get("/ready")
            assert response.status_code == status
            body = response.json()
            assert any("f v2 is unhealthy" in each for each in body["notes" if status == 200 else "reasons"])

    run(main())


def test_a_reload_makes_few_instances_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be thousands of functions, and others are served meanwhile."""
    monkeypatch.setattr(health, "_ON_LOOP", 2)
    made: list[Plan] = []

    def instantiate(plan: Plan) -> probe.Problem | None:
        made.append(plan)
        return probe.instantiate(plan)

    def wasm(pages: int) -> JSON:
        policies = {name: {"maxMemoryPages": pages} for name in "abcde"}
        given = config(tmp_path, functions=["hello"], policies=policies, healthCheckIntervalMs=1000)
        given["rules"] = [{"pathPattern": f"/{name}", "functionName": "hello", "policy": name} for name in policies]
        return given

    async def main() -> None:
        async with WasmRuntime(wasm(16), settings()) as runtime:
            monkeypatch.setattr(health, "instantiate", instantiate)
            await runtime.reload(wasm(17))
            assert sum(plan.limits.memory_pages == 17 for plan in made) == 2
            await eventually(lambda: runtime.health.verdicts() == {("hello", "1"): True})
            assert sum(plan.limits.memory_pages == 17 for plan in made) >= 5

    asyncio.run(main())
