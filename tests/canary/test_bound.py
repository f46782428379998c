"""What a promotion brings to routes and pipelines is bound at start and reload, not at the first request after it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from apps import JSON, add_constant, add_function, client, config, eventually, run, settings
from starlette.applications import Starlette

from starlette_wasm import EdgeRequest, MemoryLimitExceeded, PolicyViolation, WasmMiddleware, WasmRoute, WasmRuntime

CANARY = {"functionName": "f", "stableVersion": "1", "canaryVersion": "2"}
STEPS: dict[str, JSON] = {
    "steps[0].function": {"function": "f"},
    "steps[0].fallback.function": {"function": "hello", "fallback": {"function": "f"}},
    "steps[0].parallel[1].function": {"parallel": [{"function": "hello"}, {"function": "f"}]},
    "steps[0].merge.function": {
        "parallel": [{"function": "hello"}, {"function": "hello", "name": "b"}],
        "merge": {"function": "f"},
    },
}


def functions(folder: Path, **manifest: Any) -> None:
    """``f`` in two versions, of which the second declares ``manifest``."""
    for version in ("1", "2"):
        add_constant(folder, "f", b'{"status_code": 200, "body": "v%s"}' % version.encode(), version)
    declares(folder, **manifest)


def declares(folder: Path, **manifest: Any) -> None:
    (folder / "functions/f/v2/function.yaml").write_text(yaml.safe_dump(manifest))


@pytest.mark.parametrize("place", STEPS)
def test_a_pipeline_that_a_promotion_would_break_stops_the_start(tmp_path: Path, place: str) -> None:
    functions(tmp_path, envVars=["TOKEN"])
    wasm = config(tmp_path, functions=["hello"], canaries=[CANARY], pipelines=[{"path": "/p", "steps": [STEPS[place]]}])
    with pytest.raises(PolicyViolation) as caught:
        run(WasmRuntime(wasm, settings()).start())
    assert str(caught.value).startswith(f"pipelines[0].{place} (canary v2): env var not allowed: TOKEN")


def test_a_route_that_a_promotion_would_break_stops_the_start_and_a_reload(tmp_path: Path) -> None:
    functions(tmp_path, envVars=["TOKEN"])
    wasm = config(tmp_path, canaries=[CANARY])
    app = Starlette(routes=[WasmRoute("/r", function="f"), WasmRoute("/other", function="f", version="1")])
    message = r"^route /r \(canary v2\): env var not allowed: TOKEN"

    async def main() -> None:
        async with WasmRuntime(wasm, settings(reload_interval_ms=0)) as runtime:
            served = WasmMiddleware(app, runtime=runtime)
            async with client(served) as http:
                with pytest.raises(PolicyViolation, match=message):
                    await http.get("/r")
                declares(tmp_path)
                await runtime.reload()
                assert (await http.get("/r")).text == "v1"
                declares(tmp_path, envVars=["TOKEN"])
                with pytest.raises(PolicyViolation, match=message):
                    await runtime.reload()
                await runtime.canaries.promote("f", full=True)
                await eventually(lambda: runtime.canaries.version("f") == "2", within=60)
                assert (await http.get("/r")).text == "v2"
                assert (await http.get("/other")).text == "v1"

    run(main())


def test_more_memory_than_the_routes_policy_has_stops_the_start_too(tmp_path: Path) -> None:
    add_constant(tmp_path, "f", b"{}")
    add_function(tmp_path, "f", "echo", version="2")  # three pages
    wasm = config(
        tmp_path,
        canaries=[CANARY],
        pipelines=[{"path": "/p", "policy": "small", "steps": [{"function": "f"}]}],
        policies={"small": {"maxMemoryPages": 1}},
    )
    with pytest.raises(MemoryLimitExceeded, match=r"^pipelines\[0\]\.steps\[0\]\.function \(canary v2\): f v2: "):
        run(WasmRuntime(wasm, settings()).start())


def test_a_pipeline_ends_with_the_deployment_that_it_began_with(tmp_path: Path) -> None:
    """Though what serves the function since then is nothing that its own deployment knows."""
    functions(tmp_path)
    add_function(tmp_path, "wait", "sleep_ms")
    steps: list[JSON] = [{"function": "wait", "policy": "long"}, {"function": "f", "policy": "long"}]
    wasm = config(
        tmp_path,
        canaries=[CANARY],
        pipelines=[{"path": "/p", "steps": steps}],
        policies={"long": {"executionTimeoutMs": 60_000}},
    )

    async def main() -> None:
        async with WasmRuntime(wasm, settings(reload_interval_ms=0)) as runtime:
            request = EdgeRequest(path="/p", query={"ms": "1500"})
            running = asyncio.create_task(runtime.run_pipeline("/p", request))
            await eventually(lambda: runtime.stats()["live"])
            add_constant(tmp_path, "f", b'{"status_code": 200, "body": "v3"}', "3")
            newer = {"functionName": "f", "stableVersion": "3", "canaryVersion": "1"}
            left: list[JSON] = [{"function": "f"}]
            await runtime.reload(
                wasm | {"canaries": [newer], "policiesDir": None, "pipelines": [{"path": "/p", "steps": left}]}
            )
            assert not running.done()
            assert (await runtime.run_pipeline("/p", EdgeRequest(path="/p"))).body == "v3"
            assert (await running).body == "v1"

    run(main())
