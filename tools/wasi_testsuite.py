"""Runs the programs of WebAssembly/wasi-testsuite as functions, under a policy, and names those that fail.

usage: python tools/wasi_testsuite.py FOLDER

FOLDER is a checkout of its branch prod/testsuite-base, which has the programs of preview 1 and of WASI 0.3 built.
Beside each may be a JSON file with its arguments, environment, directory and expected exit code, or with what is done
with it: input, requests and the answers to them, servers that it asks. Those that are refused when they are loaded are
counted apart. The exit code is 1 if one fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from wasi_endpoints import serving

from starlette_wasm import EdgeRequest, WasmError, WasmRuntime, WasmSettings
from starlette_wasm.exceptions import CompileError, FunctionExited, InvalidFunctionResponse

_LIMITS = {
    "executionTimeoutMs": 20_000,
    "maxMemoryPages": 1024,
    "allowedHosts": ["*"],
    "maxNetworkRequests": 50,
    "allowPrivateNetworks": True,
}


def programs(folder: Path) -> list[Path]:
    """Return the programs of preview 1 and of WASI 0.3."""
    return sorted(
        each for kind in ("wasip1", "wasip3") for each in folder.glob(f"tests/*/testsuite/wasm32-{kind}/*.wasm")
    )


def spec_of(program: Path) -> dict[str, Any]:
    """Return what is beside the program, with what its first operation has."""
    beside = program.with_suffix(".json")
    spec: dict[str, Any] = json.loads(beside.read_text()) if beside.exists() else {}
    for operation in spec.get("operations", []):
        spec.update({key: operation[key] for key in ("args", "env", "root", "exit_code") if key in operation})
        if operation["type"] == "write":
            spec["stdin"] = operation["payload"]
    return spec


def put(place: Path, name: str, program: Path, spec: dict[str, Any], environment: dict[str, str]) -> None:
    """Make a function of a program, with a policy of the same name."""
    home = place / "functions" / name / "v1"
    home.mkdir(parents=True)
    shutil.copy(program, home / f"{name}.wasm")
    manifest = {
        "args": spec.get("args", []),
        "env": spec.get("env", {}) | environment,
        "edgeEnvironment": False,
    }
    if "stdin" in spec:
        manifest["protocol"] = "cgi"  # whose input is the body of the request
    (home / "function.yaml").write_text(yaml.safe_dump(manifest))
    policy: dict[str, Any] = dict(_LIMITS)
    if "root" in spec:
        root = shutil.copytree(program.parent / spec["root"], place / "roots" / name)
        policy["allowedDirs"] = [{"hostPath": str(root), "guestPath": "/", "readonly": False}]
    (place / "policies" / f"{name}.yaml").write_text(yaml.safe_dump(policy))


async def exit_code(runtime: WasmRuntime, name: str, stdin: str = "") -> int | str:
    """Return how the program ended: its exit code, or the fault."""
    try:
        await runtime.invoke(name, EdgeRequest(body=stdin or None, method="POST"), policy=name)
    except InvalidFunctionResponse:
        return 0  # it ended well, and has no answer to a request
    except FunctionExited as error:
        return error.code
    except WasmError as error:
        return str(error)
    return 0


async def answers_wrong(runtime: WasmRuntime, name: str, operation: dict[str, Any]) -> str:
    """Return what is wrong with the answer to a request; empty if nothing is."""
    path, body, expected = operation["path"], operation.get("body"), operation.get("response", {})
    request = EdgeRequest(path, operation.get("method", "GET"), operation.get("headers", {}),
                          body=body, url=f"http://127.0.0.1{path}")  # fmt: skip
    try:
        answer = await runtime.invoke(name, request, policy=name)
    except WasmError as error:
        return str(error)
    given = {"status": answer.status_code, "body": answer.content.decode()}
    wrong = [
        f"{key} {given[key]!r}, expected {expected[key]!r}"
        for key in given
        if given[key] != expected.get(key, given[key])
    ]
    headers = {key.lower(): value for key, value in answer.headers.items()}
    wrong += [
        f"{key}: {headers.get(key)}" for key, value in expected.get("headers", {}).items() if headers.get(key) != value
    ]
    return ", ".join(wrong)


async def wrong_with(runtime: WasmRuntime, name: str, spec: dict[str, Any]) -> str:
    """Return what is wrong with what a program does; empty if nothing is."""
    requests = [each for each in spec.get("operations", []) if each["type"] == "request"]
    if requests:
        found = [await answers_wrong(runtime, name, each) for each in requests]
        return "; ".join(each for each in found if each)
    expected, code = int(spec.get("exit_code", 0)), await exit_code(runtime, name, spec.get("stdin", ""))
    return "" if code == expected else f"{code}, expected {expected}"


@asynccontextmanager
async def started(place: Path, refused: dict[str, str]) -> AsyncIterator[WasmRuntime]:
    """Start a runtime with all functions but those that are refused, which are named with the reason."""
    config = {"functionsDir": str(place / "functions"), "policiesDir": str(place / "policies")}
    runtime = WasmRuntime(config, WasmSettings(cache_dir=place / "aot", canary_url="sqlite://"))
    while True:
        try:
            await runtime.start()
        except CompileError as error:
            name = Path(str(error.file)).stem
            refused[name] = str(error).partition(".wasm: ")[2]
            shutil.rmtree(place / "functions" / name)
        else:
            break
    try:
        yield runtime
    finally:
        await runtime.close()


async def run(folder: Path, place: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Run all, and return what is wrong, and what is refused, by the program's path."""
    (place / "policies").mkdir()
    (place / "functions").mkdir()
    wrong: dict[str, str] = {}
    refused: dict[str, str] = {}
    found = {f"p{index}": program for index, program in enumerate(programs(folder))}
    async with AsyncExitStack() as servers:
        for name, program in found.items():
            spec = spec_of(program)
            put(place, name, program, spec, await servers.enter_async_context(serving(spec.get("servers", []))))
        async with started(place, refused) as runtime:
            for name in found.keys() - refused.keys():
                wrong[name] = await wrong_with(runtime, name, spec_of(found[name]))

    def by_path(problems: dict[str, str]) -> dict[str, str]:
        return {str(found[name].relative_to(folder)): problem for name, problem in sorted(problems.items()) if problem}

    return by_path(wrong), by_path(refused)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the checkout")
    folder: Path = parser.parse_args().folder
    logging.getLogger("starlette_wasm").setLevel(logging.CRITICAL)  # that no program answers a request
    count = len(programs(folder))
    if not count:
        parser.error(f"{folder} has no tests/*/testsuite/wasm32-wasip[13]/*.wasm; check out prod/testsuite-base")
    with tempfile.TemporaryDirectory() as place:
        wrong, refused = asyncio.run(run(folder, Path(place)))
    for program, problem in [*refused.items(), *wrong.items()]:
        print(f"{program}: {problem}")
    ran = count - len(refused)
    print(f"{ran - len(wrong)} of {ran} programs ended as expected, {len(refused)} were refused")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
