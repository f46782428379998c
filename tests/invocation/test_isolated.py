"""Invocations that nobody hears of, through the core that calls use too."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from apps import add_function, config, run, settings

from starlette_wasm import EdgeRequest, WasmRuntime
from starlette_wasm.engine.engine import OutOfInstances
from starlette_wasm.functions.catalog import HealthCheck
from starlette_wasm.invocation import isolated, request_execution
from starlette_wasm.invocation.off_loop import TooBusy


def test_a_call_and_a_shadow_copy_give_a_cgi_guest_the_same(tmp_path: Path) -> None:
    add_function(tmp_path, "cgi_env", protocol="cgi", args=["${SCRIPT_NAME}", "${ARGS}"])
    wasm = config(tmp_path, {"/cgi": "cgi_env"})
    given = {"path": "/cgi", "headers": {"x-request-id": "one"}, "query": {"a": "b"}, "url": "http://a.org/cgi?a=b"}

    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            invoker, (target, *_) = runtime.invoker, runtime.deployment.bound
            called = await invoker.call(target, EdgeRequest(**given))  # type: ignore[arg-type]
            copied = await isolated.run(invoker, target.isolated(), EdgeRequest(**given), nullcontext)  # type: ignore[arg-type]
            assert json.loads(copied.body)["args"] == json.loads(called.body)["args"]
            assert json.loads(copied.body) == json.loads(called.body)

    run(main())


def test_a_health_check_that_waits_for_threads_blames_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(tenant: object, work: Callable[[], object], limit: float | None = None) -> object:
        raise TooBusy("hello", 1)

    add_function(tmp_path, "hello")
    monkeypatch.setattr(request_execution, "is_large", lambda request: True)
    monkeypatch.setattr(request_execution, "off_loop", busy)

    async def main() -> None:
        async with WasmRuntime(config(tmp_path, {"/hello": "hello"}), settings()) as runtime:
            (target, *_) = runtime.deployment.bound
            with pytest.raises(OutOfInstances, match="large requests"):
                await isolated.check_health(runtime.invoker, target, HealthCheck(path="/"))
            assert runtime.invoker.counts == {}

    run(main())
