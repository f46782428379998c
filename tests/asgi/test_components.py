"""Components behind WasmMiddleware: a function in JavaScript, found by what it exports."""

from __future__ import annotations

from pathlib import Path

import pytest
from apps import GUESTS, JSON, add_function, app, config, run, settings
from starlette.testclient import TestClient

from starlette_wasm import CompileError, ConfigError, EdgeRequest, MemoryLimitExceeded, WasmRuntime
from starlette_wasm.engine import capi

ECHO = """(component
 (core module $m (memory (export "mem") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "handle") (param i32 i32) (result i32)
   (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1)) (i32.const 16)))
 (core instance $i (instantiate $m))
 (func (export "handle") (param "request" string) (result string)
  (canon lift (core func $i "handle") (memory (core memory $i "mem")) (realloc (core func $i "realloc")))))"""


@pytest.fixture
def wasm(tmp_path: Path) -> JSON:
    add_function(tmp_path, "edge_js", "components/edge_js")
    return config(tmp_path, {"/js/{rest:path}": {"functionName": "edge_js", "policy": "js"}},
                  policies={"js": {"executionTimeoutMs": 20_000}})  # fmt: skip


def test_javascript_answers_over_http(wasm: JSON) -> None:
    with TestClient(app(wasm)) as http:
        for path in ("/js/a", "/js/b"):
            answer = http.get(path)
            assert (answer.status_code, answer.text) == (200, f"hello {path} 1 1 é")
            assert answer.headers["content-type"] == "text/plain"


def test_components_are_probed_and_counted(wasm: JSON) -> None:
    async def go() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            response = await runtime.invoke("edge_js", EdgeRequest(path="/x", method="GET"), policy="js")
            assert response.body == "hello /x 1 1 é"
            assert runtime.stats()["ok"] == 1
            assert runtime.stats()["live"] == 0

    run(go())


def test_faults_of_components_are_problems(wasm: JSON, tmp_path: Path) -> None:
    (tmp_path / "functions/edge_js/v1/edge_js.wasm").write_bytes(
        capi.assemble(ECHO.replace("(i32.const 16)))", "unreachable))"))
    )
    with TestClient(app(wasm)) as http:
        answer = http.get("/js/x")
        assert (answer.status_code, answer.json()["title"]) == (500, "wasm trap: unreachable")


def test_components_need_the_memory_that_they_begin_with(tmp_path: Path) -> None:
    add_function(tmp_path, "edge_js", "components/edge_js")
    wasm = config(tmp_path, {"/js": {"functionName": "edge_js", "policy": "small"}},
                  policies={"small": {"maxMemoryPages": 21}})  # fmt: skip
    with pytest.raises(MemoryLimitExceeded, match="asked for 22 pages of 64 KiB, limit 21"), TestClient(app(wasm)):
        pass


def test_protocols_are_for_commands(tmp_path: Path) -> None:
    add_function(tmp_path, "edge_js", "components/edge_js", protocol="wws")
    with pytest.raises(ConfigError, match="protocol: 'wws' is for commands; edge_js v1 is a component"):  # noqa: SIM117
        with TestClient(app(config(tmp_path, {"/js": "edge_js"}))):
            pass


def test_components_of_other_worlds_are_refused(tmp_path: Path) -> None:
    file = add_function(tmp_path, "f", "echo")
    file.write_bytes(
        capi.assemble(
            """(component (core module $m (func (export "f") (result i32) (i32.const 1)))
            (core instance $i (instantiate $m))
            (func (export "answer") (result u32) (canon lift (core func $i "f"))))"""
        )
    )
    wasm = {"functionsDir": str(tmp_path / "functions"), "rules": [{"pathPattern": "/f", "functionName": "f"}]}
    with (
        pytest.raises(CompileError, match=r"it exports answer; build it for the world edge of sdk/wit, which exports "),
        TestClient(app(wasm)),
    ):
        pass


def test_commands_and_http_handlers_answer_over_http(tmp_path: Path) -> None:
    add_function(tmp_path, "command", "components/echo_command")
    job = GUESTS.parents[1] / "benchmarks" / "guests" / "wasi-http" / "job.component.wasm"
    add_function(tmp_path, "handler", "echo").write_bytes(job.read_bytes())
    with TestClient(app(config(tmp_path, {"/c/{rest:path}": "command", "/h": "handler"}))) as http:
        assert http.post("/c/x?q=1", content="hello").json()["body"] == "hello"
        answer = http.get("/h")
        assert (answer.status_code, answer.json()) == (200, {"message": "hello"})
        assert answer.headers["content-type"] == "application/json"
