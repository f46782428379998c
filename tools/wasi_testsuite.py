"""Runs the preview 1 programs of WebAssembly/wasi-testsuite as functions, under a policy, and names those that fail.

usage: python tools/wasi_testsuite.py FOLDER

FOLDER is a checkout of its branch prod/testsuite-base, which has the programs built. Beside each may be a JSON file
with its arguments, environment, directory and expected exit code. The exit code is 1 if one fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from starlette_wasm import EdgeRequest, WasmError, WasmRuntime, WasmSettings
from starlette_wasm.exceptions import FunctionExited, InvalidFunctionResponse

_LIMITS = {"executionTimeoutMs": 20_000, "maxMemoryPages": 1024}


def programs(folder: Path) -> list[Path]:
    """The programs of preview 1."""
    return sorted(folder.glob("tests/*/testsuite/wasm32-wasip1/*.wasm"))


def put(place: Path, name: str, program: Path) -> int:
    """Make a function of a program, with a policy of the same name; returns the exit code that is expected."""
    beside = program.with_suffix(".json")
    spec: dict[str, Any] = json.loads(beside.read_text()) if beside.exists() else {}
    home = place / "functions" / name / "v1"
    home.mkdir(parents=True)
    shutil.copy(program, home / f"{name}.wasm")
    manifest = {"args": spec.get("args", []), "env": spec.get("env", {}), "edgeEnvironment": False}
    (home / "function.yaml").write_text(yaml.safe_dump(manifest))
    policy: dict[str, Any] = dict(_LIMITS)
    if "root" in spec:
        root = shutil.copytree(program.parent / spec["root"], place / "roots" / name)
        policy["allowedDirs"] = [{"hostPath": str(root), "guestPath": "/", "readonly": False}]
    (place / "policies" / f"{name}.yaml").write_text(yaml.safe_dump(policy))
    return int(spec.get("exit_code", 0))


async def exit_code(runtime: WasmRuntime, name: str) -> int | str:
    """How the program ended: its exit code, or the fault."""
    try:
        await runtime.invoke(name, EdgeRequest(), policy=name)
    except InvalidFunctionResponse:
        return 0  # it ended well, and has no answer to a request
    except FunctionExited as error:
        return error.code
    except WasmError as error:
        return str(error)
    return 0


async def run(folder: Path, place: Path) -> dict[str, str]:
    """Run all, and return what is wrong by the program's path."""
    (place / "policies").mkdir()
    found = {f"p{index}": program for index, program in enumerate(programs(folder))}
    expected = {name: put(place, name, program) for name, program in found.items()}
    config = {"functionsDir": str(place / "functions"), "policiesDir": str(place / "policies")}
    wrong = {}
    async with WasmRuntime(config, WasmSettings(cache_dir=place / "aot", canary_url="sqlite://")) as runtime:
        for name, program in found.items():
            code = await exit_code(runtime, name)
            if code != expected[name]:
                wrong[str(program.relative_to(folder))] = f"{code}, expected {expected[name]}"
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the checkout")
    folder: Path = parser.parse_args().folder
    logging.getLogger("starlette_wasm").setLevel(logging.CRITICAL)  # that no program answers a request
    count = len(programs(folder))
    if not count:
        parser.error(f"{folder} has no tests/*/testsuite/wasm32-wasip1/*.wasm; check out prod/testsuite-base")
    with tempfile.TemporaryDirectory() as place:
        wrong = asyncio.run(run(folder, Path(place)))
    for program, problem in wrong.items():
        print(f"{program}: {problem}")
    print(f"{count - len(wrong)} of {count} programs ended as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
