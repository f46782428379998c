"""What ``starlette-wasm dev`` builds, without its server."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
import yaml
from apps import GUESTS

from starlette_wasm.cli import dev_output
from starlette_wasm.cli.dev_server import DevServer
from starlette_wasm.exceptions import WasmError


def test_builds_of_a_function_do_not_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save and the key r may ask at the same time, and all builds of a function use one folder."""
    source = tmp_path / "functions/f/v1/src"
    source.mkdir(parents=True)
    shutil.copy(GUESTS / "hello.wasm", source / "given.wasm")
    (source / "make.sh").write_text("mkdir busy || exit 1; sleep 0.3; rmdir busy; cp src/given.wasm $1\n")
    (source.parent / "function.yaml").write_text(yaml.safe_dump({"build": {"command": "sh src/make.sh {output}"}}))
    (tmp_path / "wasm.yaml").write_text("rules: [{pathPattern: /f, functionName: f}]\n")
    failed: list[WasmError] = []
    monkeypatch.setattr(dev_output, "build_failed", lambda error, **_: failed.append(error))
    monkeypatch.setenv("STARLETTE_WASM_CACHE_DIR", str(tmp_path / "aot"))

    async def main() -> None:
        server = DevServer(None, tmp_path / "wasm.yaml", "127.0.0.1", 0)
        try:
            await asyncio.gather(*(server._build_all(only_stale=False) for _ in range(3)))
        finally:
            server._commands.stop()

    asyncio.run(main())
    assert failed == []
    assert (source.parent / "f.wasm").exists()
