"""What is wrong stops the start, with one message that names file, key, value and hint."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from apps import GUESTS, add_function, config_file, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from starlette_wasm import (
    CompileError,
    ConfigError,
    FunctionNotFound,
    MemoryLimitExceeded,
    ModuleLoadError,
    PolicyViolation,
    WasmError,
    WasmMiddleware,
    WasmRoute,
    WasmRules,
    WasmRuntime,
    wasm_endpoint,
    wasm_route,
)
from starlette_wasm.engine import capi

ECHO = {"/echo": "echo"}


@dataclass
class Case:
    """``make`` breaks what a folder holds; the message has all of ``parts``, {folder} filled in."""

    kind: type[WasmError]
    make: Callable[[Path], object]
    parts: list[str]


def broken_module(folder: Path, content: bytes) -> None:
    config_file(folder, ECHO)
    (folder / "functions/echo/v1/echo.wasm").write_bytes(content)


def edited(folder: Path, old: str, new: str) -> None:
    file = config_file(folder, {"/echo": {"functionName": "echo", "policy": "p"}}, policies={"p": {"maxQueue": 1}})
    file.write_text(file.read_text().replace(old, new))


def edited_policy(folder: Path, text: str) -> None:
    edited(folder, "", "")
    (folder / "policies/p.yaml").write_text(text)


def declares_env_var(folder: Path) -> None:
    add_function(folder, "echo", envVars=["SECRET_TOKEN"])
    config_file(folder, {"/echo": {"functionName": "echo", "policy": "edge-strict"}})


CASES = {
    "config missing": Case(
        ConfigError, lambda folder: None, ["{folder}/wasm.yaml: no such file", "give the path of a config"]
    ),
    "config no yaml": Case(
        ConfigError, lambda folder: (folder / "wasm.yaml").write_text("rules: [\n  {a: b\n"), ["{folder}/wasm.yaml: "]
    ),
    "config no mapping": Case(
        ConfigError, lambda folder: (folder / "wasm.yaml").write_text("- a\n"), ["{folder}/wasm.yaml: ", "rules"]
    ),
    "unknown key": Case(
        ConfigError,
        lambda folder: edited(folder, "pathPattern", "pathPatern"),
        ["{folder}/wasm.yaml: rules[0].pathPatern: ", "/echo", "pathPattern"],
    ),
    "bad value": Case(
        ConfigError,
        lambda folder: edited(folder, "functionName: echo", "functionName: echo\n  weight: heavy"),
        ["{folder}/wasm.yaml: rules[0].weight: ", "heavy"],
    ),
    "float version": Case(
        ConfigError,
        lambda folder: edited(folder, "functionName: echo", "functionName: echo\n  version: 1.10"),
        ["{folder}/wasm.yaml: rules[0].version: ", "1.1", "quote the version"],
    ),
    "functionsDir missing": Case(
        ConfigError,
        lambda folder: edited(folder, f"{folder}/functions", "nowhere"),
        ["{folder}/nowhere: functionsDir: ", "No such file", "<name>/v<version>/<name>.wasm"],
    ),
    "policiesDir missing": Case(
        ConfigError,
        lambda folder: edited(folder, f"{folder}/policies", "nowhere"),
        ["{folder}/nowhere: policiesDir: ", "No such file", "leave policiesDir out"],
    ),
    "module missing": Case(
        ModuleLoadError,
        lambda folder: [config_file(folder, ECHO), (folder / "functions/echo/v1/echo.wasm").unlink()],
        ["failed to load module {folder}/functions/echo/v1/echo.wasm: no such file; put the module of echo v1 there"],
    ),
    "module empty": Case(
        ModuleLoadError, lambda folder: broken_module(folder, b""), ["failed to load module", "echo/v1/echo.wasm"]
    ),
    "module corrupt": Case(
        ModuleLoadError,
        lambda folder: broken_module(folder, (GUESTS / "echo.wasm").read_bytes()[:-100]),
        ["failed to load module", "{folder}/functions/echo/v1/echo.wasm: ", "build or copy it again"],
    ),
    "module for another machine": Case(
        ModuleLoadError,
        lambda folder: broken_module(folder, b"\x7fELF" + bytes(100)),
        ["failed to load module", "{folder}/functions/echo/v1/echo.wasm: ", "does not begin like a WebAssembly module"],
    ),
    "module is a component that answers nothing": Case(
        CompileError,
        lambda folder: broken_module(folder, b"\0asm\x0d\0\1\0"),
        ["AOT compile failed", "{folder}/functions/echo/v1/echo.wasm: ", "it exports nothing", "the world edge"],
    ),
    "module uses what the engine lacks": Case(
        CompileError,
        lambda folder: broken_module(folder, capi.assemble('(module (memory (export "memory") i64 1))')),
        ["AOT compile failed", "{folder}/functions/echo/v1/echo.wasm: ", "memory64"],
    ),
    "module imports what the host lacks": Case(
        CompileError,
        lambda folder: broken_module(
            folder, capi.assemble('(module (import "wasi_ephemeral_nn" "load" (func)) (memory (export "memory") 1))')
        ),
        ["AOT compile failed", "{folder}/functions/echo/v1/echo.wasm: it imports wasi_ephemeral_nn.load; ", "wasi-nn"],
    ),
    "a stack of 16 MiB": Case(
        MemoryLimitExceeded,
        lambda folder: broken_module(
            folder,
            capi.assemble(
                "(module (global (mut i32) (i32.const 16777216))"
                ' (memory (export "memory") 260) (func (export "_start")))'
            ),
        ),
        [
            "echo v1: out of memory (asked for 260 pages of 64 KiB, 256 of them for its stack, limit 256)",
            "-z stack-size",
        ],
    ),
    "manifest wrong": Case(
        ConfigError,
        lambda folder: [
            config_file(folder, ECHO),
            (folder / "functions/echo/v1/function.yaml").write_text("protocol: fastcgi"),
        ],
        ["{folder}/functions/echo/v1/function.yaml: protocol: ", "fastcgi", "edge"],
    ),
    "unknown policy": Case(
        ConfigError,
        lambda folder: edited(folder, "policy: p", "policy: lax"),
        ["{folder}/wasm.yaml: rules[0].policy: ", "'lax'", "known are edge-moderate, edge-none, edge-strict, p"],
    ),
    "policy with an unknown key": Case(
        ConfigError,
        lambda folder: edited_policy(folder, "maxMemoryPage: 3"),
        ["{folder}/policies/p.yaml: maxMemoryPage: ", "the value 3", "did you mean maxMemoryPages"],
    ),
    "policy with a bad value": Case(
        ConfigError,
        lambda folder: edited_policy(folder, "executionTimeoutMs: 5s"),
        ["{folder}/policies/p.yaml: executionTimeoutMs: ", "5s"],
    ),
    "policy no yaml": Case(
        ConfigError, lambda folder: edited_policy(folder, "a: b: c"), ["{folder}/policies/p.yaml: "]
    ),
    "env var not allowed": Case(
        PolicyViolation,
        declares_env_var,
        ["{folder}/wasm.yaml: rules[0].functionName: ", "env var not allowed: SECRET_TOKEN", "allowedEnvVars"],
    ),
    "more memory than the policy has": Case(
        MemoryLimitExceeded,
        lambda folder: edited_policy(folder, "maxMemoryPages: 1"),
        [
            "{folder}/wasm.yaml: rules[0].functionName: ",
            "out of memory (asked for 3 pages",
            "limit 1",
            "maxMemoryPages",
        ],
    ),
    "unknown function": Case(
        FunctionNotFound,
        lambda folder: edited(folder, "functionName: echo", "functionName: ecko"),
        ["{folder}/wasm.yaml: rules[0].functionName: ", "function not found: ecko; known functions: echo"],
    ),
    "unknown version": Case(
        FunctionNotFound,
        lambda folder: edited(folder, "functionName: echo", 'functionName: echo\n  version: "3"'),
        ["{folder}/wasm.yaml: rules[0]", "function not found: echo v3; known versions: 1"],
    ),
    "unknown default function": Case(
        FunctionNotFound,
        lambda folder: edited(folder, "rules:", "defaultFunction: nothing\nrules:"),
        ["{folder}/wasm.yaml: defaultFunction: function not found: nothing; known functions: echo"],
    ),
    "unknown default policy": Case(
        ConfigError,
        lambda folder: edited(folder, "rules:", "defaultFunction: echo\ndefaultPolicy: lax\nrules:"),
        ["{folder}/wasm.yaml: defaultPolicy: ", "'lax'"],
    ),
    "unknown function of a step": Case(
        FunctionNotFound,
        lambda folder: edited(folder, "rules:", "pipelines: [{path: /p, steps: [{function: ecko}]}]\nrules:"),
        ["{folder}/wasm.yaml: pipelines[0].steps[0].function: function not found: ecko; known functions: echo"],
    ),
    "unknown function of a fallback in a branch": Case(
        FunctionNotFound,
        lambda folder: edited(
            folder,
            "rules:",
            "pipelines: [{path: /p, steps: [{parallel: [{function: echo}, {function: echo, name: b, "
            "fallback: {function: ecko}}]}]}]\nrules:",
        ),
        ["{folder}/wasm.yaml: pipelines[0].steps[0].parallel[1].fallback.function: function not found: ecko"],
    ),
    "unknown policy of a pipeline": Case(
        ConfigError,
        lambda folder: edited(
            folder, "rules:", "pipelines: [{path: /p, policy: lax, steps: [{function: echo}]}]\nrules:"
        ),
        ["{folder}/wasm.yaml: pipelines[0].policy: ", "'lax'", "known are edge-moderate"],
    ),
    "a rule and a pipeline": Case(
        ConfigError,
        lambda folder: edited(folder, "rules:", "pipelines: [{path: /echo, steps: [{function: echo}]}]\nrules:"),
        ["{folder}/wasm.yaml: pipelines: ", "has /echo, which rules serve too", "methods"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_testclient_raises_what_is_wrong(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    case.make(tmp_path)
    starlette = Starlette(middleware=[Middleware(WasmMiddleware, config=tmp_path / "wasm.yaml", settings=settings())])
    with pytest.raises(case.kind) as caught, TestClient(starlette):
        pass
    for part in case.parts:
        assert part.format(folder=tmp_path) in str(caught.value)


SERVED = """\
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette_wasm import WasmMiddleware, WasmRoute

ROUTES = {routes}
app = Starlette(routes=ROUTES, middleware=[Middleware(WasmMiddleware, config="wasm.yaml")])
"""


def failed_start(folder: Path, routes: str = "[]", **environ: str) -> str:
    """What uvicorn says on stderr, if it does not start."""
    (folder / "broken_app.py").write_text(SERVED.format(routes=routes))
    command = [sys.executable, "-m", "uvicorn", "broken_app:app", "--port", "0"]
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "STARLETTE_WASM_AOT_CACHE": "false", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "Uvicorn running" not in ended.stderr
    assert "Application startup failed. Exiting." in ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.mark.parametrize("name", ["config missing", "bad value", "module corrupt", "policy with an unknown key"])
def test_uvicorn_stops_with_one_message(tmp_path: Path, name: str) -> None:
    CASES[name].make(tmp_path)
    stderr = failed_start(tmp_path)
    # The config is given relative to where uvicorn runs.
    for part in (
        part.format(folder=tmp_path).replace(f"{tmp_path}/wasm.yaml", "wasm.yaml") for part in CASES[name].parts
    ):
        assert stderr.count(part) == 1


def test_uvicorn_stops_for_a_route_with_an_unknown_function(tmp_path: Path) -> None:
    config_file(tmp_path, ECHO)
    stderr = failed_start(tmp_path, '[WasmRoute("/x", function="nothing")]')
    assert stderr.count("route /x: function not found: nothing; known functions: echo") == 1


def test_uvicorn_stops_for_a_wrong_setting(tmp_path: Path) -> None:
    config_file(tmp_path, ECHO)
    stderr = failed_start(tmp_path, STARLETTE_WASM_MAX_INSTANCES="many")
    assert stderr.count("STARLETTE_WASM_MAX_INSTANCES: ") == 1
    assert "many" in stderr


async def _handler(request: Any, call: Any) -> Any:
    return await call(request)


async def _short_handler(request: Any) -> Any:
    return request


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "a decorator without parentheses": (lambda: wasm_endpoint(_handler), r"write wasm_endpoint\('NAME'\)"),
    "a path for a name": (lambda: wasm_endpoint("/f"), "'/f' cannot be the name of a function"),
    "a number for a version": (lambda: WasmRoute("/x", function="f", version=1.10), "write version='1.1'"),
    "a number for a policy": (lambda: wasm_endpoint("f", policy=3), "3 is int, not text"),
    "a config for a runtime": (lambda: WasmRoute("/x", function="f", runtime="wasm.yaml"), "is not a WasmRuntime"),
    "a handler without call": (lambda: wasm_route("/x", function="f")(_short_handler), "must take .request, call."),
    "a handler that is not async": (lambda: wasm_route("/x", function="f")(print), "must be an async function"),
    "a runtime for a config": (lambda: WasmRules(WasmRuntime({})), r"write WasmRules\(runtime=...\)"),
    "rules as middleware": (lambda: WasmRules(Starlette()), "WasmRules is a route, and not middleware"),
    "a config for the rules' runtime": (lambda: WasmRules(runtime="wasm.yaml"), "is not a WasmRuntime"),
    "tenants for borrowed rules": (lambda: WasmRules(tenant=lambda _: "a"), "give it to the WasmMiddleware"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_routes_are_named_where_they_are_made(mistake: str) -> None:
    make, told = MISTAKES[mistake]
    with pytest.raises((ConfigError, TypeError), match=told):
        make()
