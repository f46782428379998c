"""A store whose disk is full, that is read-only, or that restarts: requests go on, and the notes name the remedy."""

from __future__ import annotations

import asyncio
import errno
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from apps import client, config, eventually, run, settings
from servers import server
from starlette.applications import Starlette
from test_controller import QUICK, SLOW, functions, record, serving, versions

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.canary.record import Status
from starlette_wasm.capabilities.sqlite import Database
from starlette_wasm.exceptions import ConfigError


@pytest.mark.parametrize(
    ("code", "note", "remedy"),
    [
        (sqlite3.SQLITE_FULL, "canary store is full", "free space on its disk"),
        (sqlite3.SQLITE_READONLY, "canary store is not available", "make the file and its folder writable"),
        (sqlite3.SQLITE_CORRUPT, "canary store is not available", "restore it from a backup"),
    ],
)
def test_writes_that_fail_name_their_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int, note: str, remedy: str
) -> None:
    functions(tmp_path)

    def refuse(*given: Any) -> None:
        error = sqlite3.OperationalError("refused")
        error.sqlite_errorcode = code
        raise error

    async def main() -> None:
        async with serving(tmp_path, QUICK) as (runtime, http):
            with monkeypatch.context() as patch:
                patch.setattr(Database, "_transact", refuse)
                await versions(http, 10)  # there is something to write
                await eventually(lambda: runtime.canaries.notes, within=30)
                assert f"canary of f: {note}, and the weights stay" in runtime.canaries.notes[0]
                assert await versions(http, 10) == {"v1": 9, "v2": 1}
                ready = await http.get("/ready")
                assert (ready.status_code, remedy in ready.text) == (200, False)
            await eventually(lambda: not runtime.canaries.notes, within=30)

    caplog.set_level(logging.WARNING, "starlette_wasm")
    run(main())
    assert remedy in caplog.text


def test_a_file_on_a_read_only_disk_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    functions(tmp_path)

    def refuse(*given: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    async def main() -> None:
        monkeypatch.setattr(Database, "_connect", refuse)
        with pytest.raises(ConfigError, match=r"canary_url.*Read-only file system.*make the file and its folder"):
            async with serving(tmp_path, SLOW):
                pass

    run(main())


def test_a_restart_of_redis_loses_no_request_and_no_rollout(tmp_path: Path) -> None:
    functions(tmp_path)
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    wasm = config(tmp_path, {"/f": {"functionName": "f"}}, canaries=[SLOW | {"stepSeconds": 30.0}])

    async def main() -> None:
        with server("redis-server", *options, folder=tmp_path) as port:
            url = f"redis://127.0.0.1:{port}/0"
            runtime = WasmRuntime(wasm, settings(canary_url=url, reload_interval_ms=0))
            await runtime.start()
            http = client(WasmMiddleware(Starlette(), runtime=runtime))
            await runtime.canaries.promote("f")
            await runtime.canaries._look_at_all(10)
            assert record(runtime).percent == 30
        await eventually(lambda: runtime.canaries.notes, within=30)
        assert await versions(http, 20) == {"v1": 14, "v2": 6}
        with server("redis-server", *options, folder=tmp_path, port=port):
            await eventually(lambda: not runtime.canaries.notes, within=30)
            assert (record(runtime).percent, record(runtime).status) == (30, Status.RUNNING)
            assert await versions(http, 20) == {"v1": 14, "v2": 6}
            await eventually(lambda: runtime.canaries.all["f"].canary.samples >= 6, within=30)
            await asyncio.gather(http.aclose(), runtime.close())

    run(main())
