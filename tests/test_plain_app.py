"""What a start imports: an app without canaries, pipelines and host calls has none of that in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from apps import add_function

ABSENT = (
    *(f"canary.{part}" for part in ("coordinator", "look", "record", "report", "state", "store", "verdict", "waves")),
    *(f"capabilities.{part}" for part in ("grants", "http", "kv", "queue", "session", "trace")),
    *(f"pipelines.{part}" for part in ("breaker", "plan", "retry", "runner")),
    *(f"functions.registry.{part}" for part in ("client", "keys", "lockfile", "transfer")),
    "asgi.admin",
    "components.flat_plan",
    "functions.required_signatures",
    "runtime.functions_source",
    "runtime.shared_quotas",
)
"""Modules and packages, without the package's own name."""

START = """
import asyncio, json, sys, threading
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette_wasm import WasmMiddleware, WasmRuntime, WasmSettings

on_loop = []

class Noted:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is threading.main_thread():
            on_loop.append(name)

async def main():
    config = json.loads(sys.argv[1])
    runtime = WasmRuntime(config, WasmSettings(kv_url="sqlite://", canary_url="sqlite://"))
    Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])
    sys.meta_path.insert(0, Noted())
    async with runtime:
        print(json.dumps([sorted(sys.modules), on_loop]))

asyncio.run(main())
"""


def started(folder: Path, **more: object) -> tuple[set[str], set[str]]:
    """Return the package's modules that a start has imported, and those of them that it has on the event loop."""
    for version in ("1", "2"):
        add_function(folder, "job", "hello", version)
    rules = [{"pathPattern": "/job", "functionName": "job"}]
    config = {"functionsDir": str(folder / "functions"), "rules": rules} | more
    command = [sys.executable, "-c", dedent(START), json.dumps(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder, check=True)
    loaded, on_loop = json.loads(done.stdout)
    return _ours(loaded), _ours(on_loop)


def _ours(names: list[str]) -> set[str]:
    return {name.removeprefix("starlette_wasm.") for name in names if name.startswith("starlette_wasm.")}


def test_plain_apps_import_no_more_than_they_use(tmp_path: Path) -> None:
    loaded, _ = started(tmp_path)
    assert "runtime.runtime" in loaded
    found = {name for name in loaded for absent in ABSENT if name == absent or name.startswith(f"{absent}.")}
    assert not found


def test_what_a_config_needs_is_imported_in_a_thread(tmp_path: Path) -> None:
    canary = {"functionName": "job", "stableVersion": "1", "canaryVersion": "2"}
    pipeline = {"path": "/two", "steps": [{"function": "job"}, {"function": "job"}]}
    loaded, on_loop = started(tmp_path, canaries=[canary], pipelines=[pipeline])
    needed = {f"canary.{part}" for part in ("coordinator", "look", "state", "waves")} | {
        "pipelines.plan",
        "pipelines.runner",
    }
    assert needed <= loaded
    assert not needed & on_loop
