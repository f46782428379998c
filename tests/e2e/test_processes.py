"""Several workers, and reload."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from apps import config_file
from processes import Server


def test_two_workers_serve_side_by_side(serve: Callable[..., Server], tmp_path: Path) -> None:
    config_file(
        tmp_path, {"/hello": "hello"}, functions=["spin", "sleep60"], policies={"long": {}}, exposeEndpoints=True
    )
    server = serve(tmp_path, "served:app", "--workers", "2", STARLETTE_WASM_AOT_CACHE="false")
    pids: set[int] = set()

    def both() -> bool:
        assert server.get("/hello").text == "hello"
        pids.add(server.stats()["pid"])
        return len(pids) == 2

    server.wait(both, 180)
    assert server.process.pid not in pids
    server.terminate()
    assert server.ended(180) in (0, -15)
    assert "panicked" not in server.log
    server.wait(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 180)


def test_reload_takes_the_changed_app(serve: Callable[..., Server], tmp_path: Path) -> None:
    config_file(
        tmp_path, {"/hello": "hello"}, functions=["spin", "sleep60"], policies={"long": {}}, exposeEndpoints=True
    )
    server = serve(tmp_path, "served:app", "--reload", "--reload-dir", str(tmp_path), STARLETTE_WASM_AOT_CACHE="false")
    assert server.get("/hello").text == "hello"
    before = server.stats()["pid"]
    served = tmp_path / "served.py"
    changed = 0.0

    def reloaded() -> bool:
        nonlocal changed
        if time.monotonic() > changed + 10:  # watchfiles looks at what changes after it has begun
            changed = time.monotonic()
            served.write_text(f"{served.read_text()}\n# changed\n")
        try:
            return bool(server.stats()["pid"] != before)
        except httpx.TransportError:
            return False

    server.wait(reloaded, 180)
    assert server.get("/hello").text == "hello"
    server.terminate()
    server.ended(180)
    assert "panicked" not in server.log
