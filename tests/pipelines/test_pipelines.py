"""Pipelines over HTTP, of a guest that answers NAME(BODY), counts its calls, and fails as the query says."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import GUESTS, JSON, add_constant, add_function, client, config, eventually, run, settings
from starlette.applications import Starlette

from starlette_wasm import (
    ConfigError,
    EdgeRequest,
    FunctionTrapped,
    PipelineTimeout,
    RequestTooLarge,
    WasmMiddleware,
    WasmRuntime,
)
from starlette_wasm.config.pipelines import RetryBudgetConfig

COUNTED = {"counted": {"kvNamespaces": ["calls"]}, "small": {"maxRequestBytes": 10}}
NO_WAIT = {"backoffMs": 0}


class App:
    """A runtime with one app around it."""

    def __init__(self, runtime: WasmRuntime, http: httpx.AsyncClient) -> None:
        self.runtime = runtime
        self.http = http

    async def __call__(self, query: str = "", body: str = "x", method: str = "POST", **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.request(method, f"/p?{query}", content=body, headers=names)

    async def calls(self, function: str) -> int:
        """How often a counting function has been called."""
        kv = self.runtime.capabilities.kv
        assert kv is not None
        return int(await kv.store.get("calls", function.encode()) or 0)


@asynccontextmanager
async def serving(
    folder: Path, *steps: JSON, functions: tuple[str, ...] = ("a", "b", "c"), **keys: Any
) -> AsyncIterator[App]:
    """An app with a pipeline at /p."""
    for name in functions:
        add_function(folder, name, "stage")
    tops = ("canaries", "circuitBreaker", "rules", "defaultFunction", "exposeEndpoints")
    top = {key: keys.pop(key) for key in tops if key in keys}
    more = {key: keys.pop(key) for key in ("pipelines",) if key in keys}
    pipeline = {"path": "/p", "steps": list(steps), **keys}
    made = config(folder, policies=COUNTED, pipelines=[pipeline, *more.get("pipelines", [])], **top)
    async with (
        WasmRuntime(made, settings(kv_url=f"sqlite:///{folder}/kv.db")) as runtime,
        client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
    ):
        yield App(runtime, http)
        await eventually(lambda: runtime.stats()["pipelines"] == runtime.stats()["running"] == 0)


def step(function: str, **keys: Any) -> JSON:
    return {"function": function, **NO_WAIT, **keys}


def counted(function: str, **keys: Any) -> JSON:
    return step(function, policy="counted", **keys)


def test_the_body_and_headers_of_a_step_become_the_request_of_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        add_function(tmp_path, "echo")
        async with serving(tmp_path, step("a"), step("b"), step("echo")) as ask:
            response = await ask("q=1", "x", x_request_id="r-7", authorization="secret")
        seen = response.json()
        assert seen["body"] == "b(a(x))"
        assert (seen["method"], seen["path"], seen["query"]) == ("POST", "/p", {"q": "1"})
        assert seen["headers"]["content-type"] == "text/plain"
        assert seen["headers"]["x-from"] == "b"
        assert seen["headers"].keys().isdisjoint({"set-cookie", "authorization", "content-length"})
        assert seen["context"]["request_id"] == seen["headers"]["x-request-id"] == response.headers["x-request-id"]
        assert response.headers["x-request-id"] == "r-7"
        assert seen["context"]["function"] == "echo"

    run(main())


@pytest.mark.parametrize(("after", "retries", "least"), [("30", 0, 0.0), ("1", 1, 1.0), ("soon", 1, 0.0)])
def test_a_retry_waits_as_long_as_the_step_asks(tmp_path: Path, after: str, retries: int, least: float) -> None:
    async def main() -> None:
        answer = {"status_code": 503, "headers": {"retry-after": after}, "body": "busy"}
        add_constant(tmp_path, "busy", json.dumps(answer).encode())
        async with serving(tmp_path, step("busy", retries=1), functions=()) as ask:
            begin = asyncio.get_running_loop().time()
            response = await ask(method="GET", body="")
            assert asyncio.get_running_loop().time() - begin >= least
            assert (response.status_code, response.headers["retry-after"]) == (503, after)
            assert ask.runtime.stats()["retries"] == retries

    run(main())


def test_the_last_steps_response_is_the_answer_and_all_steps_share_a_request_id(tmp_path: Path) -> None:
    async def main() -> None:
        add_function(tmp_path, "echo")
        async with serving(tmp_path, step("a"), step("b")) as ask:
            response = await ask()
            assert (response.status_code, response.text) == (200, "b(a(x))")
            assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
            assert response.headers["content-length"] == "7"
            assert (await ask(method="HEAD", body="")).content == b""

    run(main())


def test_bytes_stay_bytes(tmp_path: Path) -> None:
    async def main() -> None:
        add_function(tmp_path, "binary")
        add_function(tmp_path, "echo")
        async with serving(tmp_path, step("binary"), step("echo")) as ask:
            seen = (await ask(method="GET", body="")).json()
        assert seen["is_base64_encoded"] is True
        assert seen["body"]

    run(main())


@pytest.mark.parametrize("status", [302, 404, 429])
def test_a_redirect_or_client_error_ends_it_and_is_never_retried(tmp_path: Path, status: int) -> None:
    async def main() -> None:
        async with serving(tmp_path, counted("a", retries=3, fallback={"function": "c"}), step("b")) as ask:
            response = await ask(f"a={status}", method="GET")
            assert (response.status_code, response.text) == (status, "a(x)")
            assert await ask.calls("a") == 1

    run(main())


@pytest.mark.parametrize("how", ["trap", "exit", "garbage", "500", "503", "hang"])
def test_a_flapping_step_succeeds_on_retry(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        # The one time that is waited for whole; the others have ten seconds.
        timeout = {"timeoutMs": 300} if how == "hang" else {"timeoutMs": 10_000}
        async with serving(tmp_path, counted("a", retries=4, **timeout), step("b")) as ask:
            response = await ask(f"a={how}:2", method="GET")
            assert (response.status_code, response.text) == (200, "b(a(x))")
            # Where time is short, a loaded machine may need one more.
            assert await ask.calls("a") >= 3 if how == "hang" else await ask.calls("a") == 3
            assert ask.runtime.stats()["retries"] == await ask.calls("a") - 1

    run(main())


@pytest.mark.parametrize(
    ("how", "status", "slug"),
    [
        ("trap", 500, "wasm-trap"),
        ("exit", 500, "function-exit"),
        ("garbage", 502, "invalid-function-response"),
        ("hang", 504, "execution-timeout"),
    ],
)
def test_a_step_that_is_down_answers_as_its_fault(tmp_path: Path, how: str, status: int, slug: str) -> None:
    async def main() -> None:
        timeout = 200 if how == "hang" else 10_000
        async with serving(tmp_path, counted("a", retries=1, timeoutMs=timeout), step("b"), timeoutMs=50_000) as ask:
            response = await ask(f"a={how}", method="GET")
            assert (response.status_code, response.json()["type"]) == (status, slug)
            assert await ask.calls("a") == 2

    run(main())


def test_a_servers_error_of_a_steps_own_is_the_answer_when_nothing_helps(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, counted("a", retries=1), step("b")) as ask:
            response = await ask("a=503", method="GET")
            assert (response.status_code, response.text) == (503, "a(x)")
            assert await ask.calls("a") == 2

    run(main())


def test_a_501_is_not_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, counted("a", retries=3)) as ask:
            assert (await ask("a=501", method="GET")).status_code == 501
            assert await ask.calls("a") == 1

    run(main())


@pytest.mark.parametrize("how", ["trap", "503"])
def test_a_post_that_may_have_had_effects_is_not_repeated_unless_allowed(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with serving(tmp_path, counted("a", retries=2), counted("b", retries=2, retryUnsafe=True)) as ask:
            for method in ("POST", "PATCH"):
                before = await ask.calls("a")
                assert (await ask(f"a={how}", method=method)).status_code >= 500
                assert await ask.calls("a") == before + 1
            assert (await ask(f"b={how}:2", method="POST")).text == "b(a(x))"
            assert await ask.calls("b") == 3

    run(main())


def test_an_idempotency_key_allows_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, counted("a", retries=2)) as ask:
            assert (await ask("a=trap:1", idempotency_key="k-1")).text == "a(x)"
            assert await ask.calls("a") == 2

    run(main())


def test_a_post_is_repeated_where_the_sandbox_allows_no_effects(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, step("a", retries=2)) as ask:
            assert (await ask("a=trap")).status_code == 500
            assert ask.runtime.stats()["wasm-trap"] == 3

    run(main())


def test_a_fallback_function_has_its_own_policy_and_takes_the_steps_place(tmp_path: Path) -> None:
    async def main() -> None:
        fallback = {"function": "c", "policy": "counted", "timeoutMs": 5000}
        async with serving(tmp_path, step("a", fallback=fallback), step("b")) as ask:
            assert (await ask("a=trap")).text == "b(c(x))"
            assert await ask.calls("c") == 1
            assert (await ask()).text == "b(a(x))"
            assert ask.runtime.stats()["fallbacks"] == 1
            failed = await ask("a=trap&c=exit")
            assert (failed.status_code, failed.json()["type"]) == (500, "function-exit")

    run(main())


def test_a_fixed_answer_goes_on_where_it_is_a_success_and_else_ends_it(tmp_path: Path) -> None:
    async def main() -> None:
        plain = {"answer": {"headers": {"Content-Type": "text/plain", "x-from": "nowhere"}, "body": "none"}}
        sorry = {"answer": {"status": 503, "body": "sorry", "headers": {"retry-after": "9"}}}
        async with serving(tmp_path, step("a", fallback=plain), step("b", fallback=sorry), step("c")) as ask:
            assert (await ask("a=trap")).text == "c(b(none))"
            last = await ask("b=500")
            assert (last.status_code, last.text, last.headers["retry-after"]) == (503, "sorry", "9")

    run(main())


def test_no_wait_outlasts_the_pipelines_deadline(tmp_path: Path) -> None:
    async def main() -> None:
        minute = {"backoffMs": 60_000, "maxBackoffMs": 60_000}
        steps = [step("a"), step("b", retries=10, **minute), step("c")]
        async with serving(tmp_path, *steps, timeoutMs=700) as ask:
            loop = asyncio.get_running_loop()
            for query in ("a=hang", "b=hang", "c=hang", "b=trap"):
                begin = loop.time()
                status = (await ask(query, method="GET")).status_code
                assert status == 504 or (query, status) == ("b=trap", 500)
                assert loop.time() - begin < 20, query

    run(main())


def test_the_time_in_a_queue_counts_too(tmp_path: Path) -> None:
    async def main() -> None:
        add_function(tmp_path, "sleep60")
        made = config(
            tmp_path,
            policies={"one": {"maxConcurrency": 1, "queueTimeoutMs": 60_000, "executionTimeoutMs": 60_000}},
            pipelines=[{"path": "/p", "policy": "one", "timeoutMs": 400, "steps": [step("sleep60", timeoutMs=60_000)]}],
        )
        async with (
            WasmRuntime(made, settings()) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            begin = asyncio.get_running_loop().time()
            answers = await asyncio.gather(*(http.get("/p") for _ in range(4)))
            assert asyncio.get_running_loop().time() - begin < 20
            assert {answer.status_code for answer in answers} == {504}
            assert {answer.json()["title"] for answer in answers} == {"time limit exceeded"}
            await eventually(lambda: runtime.stats()["running"] == runtime.stats()["live"] == 0)

    run(main())


def test_a_steps_function_knows_how_much_time_it_has(tmp_path: Path) -> None:
    async def main() -> None:
        add_function(tmp_path, "echo")
        async with serving(tmp_path, step("echo", timeoutMs=250)) as ask:
            assert (await ask()).json()["context"]["deadline_ms"] == 250
            pipeline = ask.runtime.deployment.pipelines.find("/p", "POST")
            assert pipeline.timeout == 0.25 + 1

    run(main())


def test_the_default_deadline_is_the_sum_of_what_the_steps_may_take(tmp_path: Path) -> None:
    async def main() -> None:
        # A second in the queue for each call, as edge-none has it.
        parallel = {"parallel": [step("a", timeoutMs=300), step("b", timeoutMs=100)], "merge": step("c", timeoutMs=50)}
        retried = {
            "function": "a", "timeoutMs": 100, "retries": 2, "backoffMs": 10,
            "fallback": {"function": "b", "timeoutMs": 70},
        }  # fmt: skip
        async with serving(tmp_path, parallel, retried) as ask:
            pipeline = ask.runtime.deployment.pipelines.find("/p", "POST")
            assert pipeline.timeout == pytest.approx(1.3 + 1.05 + 3 * 1.1 + 0.01 + 0.02 + 1.07)

    run(main())


def test_a_storm_of_retries_stays_within_the_budget(tmp_path: Path) -> None:
    async def main() -> None:
        off = {"enabled": False}
        budget = {"percent": 20, "perSecond": 0}
        async with serving(tmp_path, step("a", retries=10), retryBudget=budget, circuitBreaker=off) as ask:
            await asyncio.gather(*(ask("a=trap") for _ in range(60)))
            assert 1 <= ask.runtime.stats()["retries"] <= 12
            assert ask.runtime.stats()["wasm-trap"] == 60 + ask.runtime.stats()["retries"]

    run(main())


def test_one_pipeline_leaves_retries_to_others(tmp_path: Path) -> None:
    async def main() -> None:
        add_function(tmp_path, "a", "stage")
        steps = [{"function": "a", "retries": 10, "backoffMs": 0, "retryUnsafe": True}]
        budget = {"percent": 20, "perSecond": 0}
        pipelines = [{"path": path, "steps": steps, "retryBudget": budget} for path in ("/greedy", "/modest")]
        made = config(tmp_path, pipelines=pipelines, circuitBreaker={"enabled": False})
        async with WasmRuntime(made, settings()) as runtime:

            async def retries(path: str, calls: int) -> int:
                before = runtime.stats()["retries"]
                for _ in range(calls):
                    with pytest.raises(FunctionTrapped):
                        await runtime.run_pipeline(path, EdgeRequest(query={"a": "trap"}))
                return runtime.stats()["retries"] - before

            assert await retries("/greedy", 20) == 4
            assert not runtime.deployment.pipelines.find("/greedy", "GET").budget.take()
            assert await retries("/modest", 10) == 2

    run(main())


def test_a_call_without_a_version_is_of_the_one_that_its_canary_serves(tmp_path: Path) -> None:
    """Stable while it runs, though there are higher versions; once it is promoted, the canary, until that is undone."""

    async def main() -> None:
        for version in ("1", "2", "3"):
            add_constant(tmp_path, "f", b'{"status_code": 200, "body": "v%s"}' % version.encode(), version)
        instead = {"function": "b", "fallback": {"function": "f"}}
        async with serving(
            tmp_path,
            {"parallel": [step("f"), step("f", name="named", version="1"), {**instead, "name": "instead"}]},
            canaries=[{"functionName": "f", "stableVersion": "1", "canaryVersion": "2", "stepSeconds": 0.3}],
        ) as ask:
            canaries = ask.runtime.canaries

            async def serves(version: str) -> None:
                await eventually(lambda: canaries.version("f") == version, within=60)
                answers = [(await ask("b=503")).json() for _ in range(5)]
                assert answers == [{"f": f"v{version}", "named": "v1", "instead": f"v{version}"}] * 5

            await serves("1")
            assert ask.runtime.circuits.keys() == {"b v1 (edge-none)", "f v1 (edge-none)"}
            await canaries.promote("f", full=True)
            await serves("2")
            assert ask.runtime.circuits.keys() == {"b v1 (edge-none)", "f v1 (edge-none)", "f v2 (edge-none)"}
            await canaries.abort("f")
            await serves("1")

    run(main())


def test_an_open_circuit_falls_back_at_once_or_answers_503(tmp_path: Path) -> None:
    async def main() -> None:
        breaker = {"minimumCalls": 3, "openSeconds": 3600, "probes": 1}
        bare = {"path": "/bare", "steps": [counted("a")]}
        async with serving(
            tmp_path,
            step("a", policy="counted", retries=2, fallback={"function": "b"}),
            circuitBreaker=breaker,
            pipelines=[bare],
            exposeEndpoints=True,
        ) as ask:
            assert ask.runtime.circuits == {}
            assert (await ask.http.get("/ready")).json()["notes"] == []
            assert (await ask("a=trap", method="GET")).text == "b(x)"
            assert ask.runtime.circuits == {"a v1 (counted)": "open", "b v1 (edge-none)": "closed"}
            assert ask.runtime.stats()["circuits_open"] == 1
            ready = await ask.http.get("/ready")
            assert ready.status_code == 200
            assert ready.json()["notes"] == ["circuit of a v1 (counted): open"]
            for _ in range(3):
                assert (await ask()).text == "b(x)"
            assert await ask.calls("a") == 3
            refused = await ask.http.get("/bare")
            assert (refused.status_code, refused.json()["type"]) == (503, "function-overloaded")
            assert 3000 < int(refused.headers["retry-after"]) <= 3600

    run(main())


@pytest.mark.parametrize(
    ("own", "fallback", "circuits"),
    [
        # Calls that cannot be counted are the ones that fail.
        ({}, {"policy": "counted"}, {"a v1 (edge-none)": "open", "a v1 (counted)": "closed"}),
        ({"version": "1"}, {"version": "2"}, {"a v1 (edge-none)": "open", "a v2 (edge-none, fallback)": "closed"}),
        ({}, {}, {"a v1 (edge-none)": "open", "a v1 (edge-none, fallback)": "open"}),
    ],
)
def test_a_fallback_that_names_the_function_of_its_step_has_a_circuit_of_its_own(
    tmp_path: Path, own: JSON, fallback: JSON, circuits: JSON
) -> None:
    async def main() -> None:
        if "version" in own:
            add_constant(tmp_path, "a", b'{"status_code": 200}', "2")
        named = step("a", **own, fallback={"function": "a", **fallback})
        breaker = {"minimumCalls": 3, "openSeconds": 3600}
        works = "closed" in circuits.values()
        async with serving(tmp_path, named, circuitBreaker=breaker) as ask:
            answers = [(await ask("a=trap:0")).status_code for _ in range(8)]
            assert answers == [200] * 8 if works else [500] * 3 + [503] * 5
            assert ask.runtime.circuits == circuits
            assert ask.runtime.stats()["circuits_open"] == list(circuits.values()).count("open")

    run(main())


def test_a_circuit_closes_again_when_its_function_works(tmp_path: Path) -> None:
    async def main() -> None:
        breaker = {"minimumCalls": 1, "openSeconds": 0.05, "probes": 1}
        async with serving(tmp_path, step("a"), circuitBreaker=breaker) as ask:
            assert (await ask("a=trap")).status_code == 500
            await eventually(lambda: ask.runtime.circuits["a v1 (edge-none)"] == "half-open")
            assert (await ask()).text == "a(x)"
            assert ask.runtime.circuits == {"a v1 (edge-none)": "closed"}

    run(main())


def test_a_reload_keeps_circuits_and_budgets_of_what_is_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        breaker = {"minimumCalls": 1, "openSeconds": 3600}
        async with serving(tmp_path, step("a"), circuitBreaker=breaker, pipelines=[]) as ask:
            runtime = ask.runtime
            config, budget = runtime.deployment.config, runtime.deployment.pipelines.all[0].budget
            assert (await ask("a=trap")).status_code == 500
            await runtime.reload()
            assert runtime.circuits == {"a v1 (edge-none)": "open"}
            assert runtime.deployment.pipelines.all[0].budget is budget
            (pipeline,) = config.pipelines
            other = pipeline.model_copy(update={"retry_budget": RetryBudgetConfig(percent=1)})
            await runtime.reload(config.model_copy(update={"pipelines": [other]}))
            assert runtime.circuits == {"a v1 (edge-none)": "open"}
            assert runtime.deployment.pipelines.all[0].budget is not budget
            (calls,) = pipeline.steps
            strict = pipeline.model_copy(update={"steps": [calls.model_copy(update={"policy": "edge-strict"})]})
            await runtime.reload(config.model_copy(update={"pipelines": [strict]}))
            assert runtime.circuits == {}
            await runtime.reload(config)
            assert runtime.circuits == {}
            assert (await ask("a=trap")).status_code == 500
            assert runtime.circuits == {"a v1 (edge-none)": "open"}
            lenient = config.circuit_breaker.model_copy(update={"minimum_calls": 2})
            await runtime.reload(config.model_copy(update={"circuit_breaker": lenient}))
            assert runtime.circuits == {}
            await runtime.reload(config)
            assert (await ask("a=trap")).status_code == 500
            shutil.copy(GUESTS / "echo.wasm", tmp_path / "functions/a/v1/a.wasm")
            await runtime.reload()
            assert runtime.circuits == {}
            assert (await ask("a=trap")).status_code == 200

    run(main())


def test_a_reload_goes_on_counting(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, step("a", fallback={"function": "b"})) as ask:
            assert (await ask("a=trap")).text == "b(x)"
            under_way = asyncio.create_task(ask("a=hang"))
            await eventually(lambda: ask.runtime.stats()["live"] == 1)
            await ask.runtime.reload()
            stats = ask.runtime.stats()
            assert (stats["fallbacks"], stats["pipelines"]) == (1, 1)
            module = tmp_path / "functions/a/v1/a.wasm"
            module.write_bytes(module.read_bytes() + b"\0\2\1a")  # the one that runs is no longer served
            await ask.runtime.reload()
            assert ask.runtime.deployment.live
            under_way.cancel()
            await eventually(lambda: not ask.runtime.deployment.live)

    run(main())


def test_a_client_error_or_an_overload_opens_no_circuit(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, step("a"), circuitBreaker={"minimumCalls": 1}) as ask:
            assert (await ask("a=404")).status_code == 404
            assert ask.runtime.circuits == {"a v1 (edge-none)": "closed"}
            assert (await ask("a=500")).status_code == 500
            assert ask.runtime.circuits == {"a v1 (edge-none)": "open"}

    run(main())


def test_branches_get_the_same_request_at_once_and_are_merged_by_name(tmp_path: Path) -> None:
    async def main() -> None:
        add_constant(
            tmp_path,
            "price",
            json.dumps(
                {"status_code": 200, "headers": {"content-type": "application/json"}, "body": '{"eur": 1.10}'}
            ).encode(),
        )
        parallel = {"parallel": [step("a"), {"function": "a", "name": "again"}, step("price")]}
        async with serving(tmp_path, step("b"), parallel) as ask:
            response = await ask()
        assert response.headers["content-type"] == "application/json"
        assert response.text == '{"a":"a(b(x))","again":"a(b(x))","price":{"eur": 1.10}}'

    run(main())


def test_branches_run_side_by_side(tmp_path: Path) -> None:
    async def main() -> None:
        add_function(tmp_path, "sleep60")
        branches = {"parallel": [step("sleep60", name=str(n), timeoutMs=60_000, optional=True) for n in range(3)]}
        async with serving(tmp_path, branches, timeoutMs=50_000) as ask:
            task = asyncio.create_task(ask())
            await eventually(lambda: ask.runtime.stats()["running"] == 3)
            task.cancel()
            await asyncio.wait([task])
            await eventually(lambda: ask.runtime.stats()["live"] == 0)

    run(main())


def test_a_function_can_merge(tmp_path: Path) -> None:
    async def main() -> None:
        add_function(tmp_path, "echo")
        parallel = {"parallel": [step("a"), step("b", optional=True)], "merge": {"function": "echo"}}
        async with serving(tmp_path, parallel) as ask:
            seen = (await ask("b=trap", x_request_id="r-1")).json()
        assert seen["headers"]["content-type"] == "application/json"
        answers = json.loads(seen["body"])
        assert answers["a"]["body"] == "a(x)"
        assert answers["a"]["status_code"] == 200
        assert answers["a"]["headers"]["x-from"] == "a"
        assert answers["b"] is None
        assert seen["context"]["request_id"] == "r-1"

    run(main())


@pytest.mark.parametrize(("how", "status"), [("trap", 500), ("503", 503), ("404", 404)])
def test_a_branch_that_fails_for_good_cancels_the_others(tmp_path: Path, how: str, status: int) -> None:
    async def main() -> None:
        add_function(tmp_path, "sleep60")
        parallel = {"parallel": [step("sleep60", timeoutMs=60_000), step("a")]}
        async with serving(tmp_path, parallel, step("b"), timeoutMs=60_000) as ask:
            assert (await ask(f"a={how}")).status_code == status
            await eventually(lambda: ask.runtime.stats()["running"] == ask.runtime.stats()["live"] == 0)

    run(main())


@pytest.mark.parametrize("how", ["trap", "503", "404", "hang", "garbage"])
def test_an_optional_branch_is_null_where_it_fails(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        parallel = {"parallel": [step("a", optional=True, timeoutMs=300), step("b")]}
        async with serving(tmp_path, parallel, timeoutMs=30_000) as ask:
            response = await ask(f"a={how}")
        assert (response.status_code, response.json()) == (200, {"a": None, "b": "b(x)"})

    run(main())


def test_a_branch_has_retries_and_a_fallback(tmp_path: Path) -> None:
    async def main() -> None:
        parallel = {"parallel": [counted("a", retries=1), step("b", fallback={"answer": {"body": "none"}})]}
        async with serving(tmp_path, parallel) as ask:
            assert (await ask("a=trap:1&b=exit", method="GET")).json() == {"a": "a(x)", "b": "none"}

    run(main())


@pytest.mark.parametrize("optional", [False, True])
def test_a_branch_that_calls_its_body_json_must_answer_json(tmp_path: Path, optional: bool) -> None:
    async def main() -> None:
        answer = {"status_code": 200, "headers": {"content-type": "application/json"}, "body": '{"a": NaN}'}
        add_constant(tmp_path, "liar", json.dumps(answer).encode())
        async with serving(tmp_path, {"parallel": [step("a"), step("liar", optional=optional)]}) as ask:
            response = await ask()
        if optional:
            assert response.json() == {"a": "a(x)", "liar": None}
        else:
            assert (response.status_code, response.json()["type"]) == (502, "invalid-function-response")

    run(main())


def test_large_answers_are_merged_too(tmp_path: Path) -> None:
    async def main() -> None:
        body = "y" * 300_000
        async with serving(tmp_path, {"parallel": [step("a"), step("b")]}) as ask:
            assert (await ask(body=body)).json() == {"a": f"a({body})", "b": f"b({body})"}

    run(main())


def test_too_large_a_body_is_the_clients_fault_at_the_first_step_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, step("a", policy="small"), step("b", policy="small")) as ask:
            assert (await ask(body="x" * 11)).status_code == 413
            assert (await ask(body="x" * 7)).text == f"b(a({'x' * 7}))"
            response = await ask(body="x" * 8)
            assert (response.status_code, response.json()["type"]) == (502, "invalid-function-response")
            with pytest.raises(RequestTooLarge):
                await ask.runtime.run_pipeline("/p", EdgeRequest(body="x" * 11))

    run(main())


def test_the_most_specific_pattern_wins_among_rules_and_pipelines(tmp_path: Path) -> None:
    async def main() -> None:
        rule = {"functionName": "c", "methods": ["GET"]}
        rules = [
            {"pathPattern": "/p", **rule},
            {"pathPattern": "/p/q/r", "functionName": "c"},
            {"pathPattern": "/", "functionName": "c"},
        ]
        inner = {"path": "/p/{key}", "methods": ["PUT"], "steps": [step("b")]}
        for name in ("a", "b", "c"):
            add_function(tmp_path, name, "stage")
        pipelines = [{"path": "/p", "methods": ["POST"], "steps": [step("a")]}, inner]
        made = config(tmp_path, pipelines=pipelines) | {"rules": rules}
        async with (
            WasmRuntime(made, settings(allow_version_header=True)) as runtime,
            client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
        ):
            for method, path, text in (
                ("GET", "/p", "c()"),
                ("POST", "/p", "a()"),
                ("PUT", "/p/1", "b()"),
                ("PUT", "/p/q/r", "c()"),
                ("POST", "/p/q/x", "a()"),
                ("GET", "/other", "c()"),
            ):
                assert (await http.request(method, path)).text == text, (method, path)
            refused = await http.delete("/p/1")
            assert (refused.status_code, refused.headers["allow"]) == (405, "PUT")
            refused = await http.delete("/p")
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
            # A pipeline has no versions to choose from.
            assert (await http.post("/p", headers={"x-wasm-version": "9"})).text == "a()"
            assert (await http.get("/p", headers={"x-wasm-version": "9"})).status_code == 404

    run(main())


def test_a_pipeline_runs_without_http(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, counted("a"), step("b"), methods=["GET", "POST"]) as ask:
            request = EdgeRequest(method="POST", body="x")
            response = await ask.runtime.run_pipeline("/p", request)
            assert (response.status_code, response.body) == (200, "b(a(x))")
            assert request.context is not None
            assert request.context.request_id
            with pytest.raises(FunctionTrapped):
                await ask.runtime.run_pipeline("/p", EdgeRequest(query={"b": "trap"}))
            with pytest.raises(ConfigError, match="no pipeline serves PUT /p; known are /p"):
                await ask.runtime.run_pipeline("/p", EdgeRequest(method="PUT"))
            await ask.runtime.run_pipeline("/p", EdgeRequest(method="HEAD"))

    run(main())


def test_without_http_the_deadline_is_an_exception(tmp_path: Path) -> None:
    async def main() -> None:
        minute = {"backoffMs": 60_000, "maxBackoffMs": 60_000}
        add_function(tmp_path, "sleep60")
        async with serving(tmp_path, step("a"), step("sleep60", **minute), timeoutMs=300) as ask:
            with pytest.raises(PipelineTimeout) as caught:
                await ask.runtime.run_pipeline("/p", EdgeRequest(body="x"))
            assert re.fullmatch(r"pipeline /p: time limit exceeded \(300 ms\) at step (a|sleep60)", str(caught.value))
            assert ask.runtime.stats()["pipeline_timeouts"] == 1

    run(main())


def test_closing_the_runtime_ends_pipelines_between_two_attempts_too(tmp_path: Path) -> None:
    async def main() -> None:
        minute = {"backoffMs": 60_000, "maxBackoffMs": 60_000, "retries": 5}
        parallel = {"parallel": [{"function": "a", **minute}, {"function": "b", **minute}]}
        async with serving(tmp_path, parallel) as ask:
            waiting = asyncio.create_task(ask("a=trap&b=trap"))
            await eventually(lambda: ask.runtime.stats().get("wasm-trap", 0) >= 2)
            stats = ask.runtime.stats()
            assert (stats["pipelines"], stats["running"]) == (1, 0)
            pipelines = ask.runtime.deployment.pipelines
            await ask.runtime.close()
            assert (await waiting).status_code == 503
            assert pipelines.counts.running == 0
            await ask.runtime.start()

    run(main())


def test_closing_the_runtime_ends_what_the_branches_call(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, {"parallel": [step("a"), step("b", optional=True)]}) as ask:
            waiting = asyncio.create_task(ask("a=hang&b=hang"))
            await eventually(lambda: ask.runtime.stats()["live"] == 2)
            await ask.runtime.close()
            response = await waiting
            assert (response.status_code, response.json()["type"]) == (503, "runtime-closed")
            await ask.runtime.start()

    run(main())


def test_a_client_that_goes_away_ends_it_wherever_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        minute = {"backoffMs": 60_000, "maxBackoffMs": 60_000, "retries": 5}
        add_function(tmp_path, "sleep60")
        steps = {"parallel": [{"function": "a", **minute}, step("sleep60", timeoutMs=60_000)]}
        async with serving(tmp_path, steps) as ask:
            on_disconnect = asyncio.Event()
            started = False
            sent: list[Any] = []

            async def receive() -> dict[str, Any]:
                nonlocal started
                if not started:
                    started = True
                    return {"type": "http.request"}
                await on_disconnect.wait()
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "GET", "path": "/p", "headers": [], "query_string": b"a=trap"}
            tasks = len(asyncio.all_tasks())
            app = WasmMiddleware(Starlette(), runtime=ask.runtime)
            task = asyncio.create_task(app(scope, receive, send))
            await eventually(lambda: ask.runtime.stats().get("wasm-trap") and ask.runtime.stats()["live"])
            on_disconnect.set()
            await task
            assert sent[0]["status"] == 499
            await eventually(lambda: ask.runtime.stats()["live"] == ask.runtime.stats()["running"] == 0)
            await eventually(lambda: len(asyncio.all_tasks()) == tasks)

    run(main())
