"""One bad record in a canary store: its own canary is held and named, the others roll on, and the app starts."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from apps import add_constant, client, config, eventually, run, settings
from starlette.applications import Starlette

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.canary import look, manual
from starlette_wasm.canary.backends import open_store
from starlette_wasm.canary.record import Record
from starlette_wasm.canary.status import Status
from starlette_wasm.exceptions import CanaryConflict

QUICK: dict[str, Any] = {
    "stableVersion": "1",
    "canaryVersion": "2",
    "steps": [50, 100],  # 200 requests are samples enough, however slow they are
    "stepSeconds": 1,
    "latencyP99ThresholdMs": 5000,
}


def made(folder: Path, *functions: str) -> dict[str, Any]:
    for name in functions:
        for version in "12":
            add_constant(folder, name, b'{"status_code": 200, "body": "v%s"}' % version.encode(), version)
    canaries = [{"functionName": name, **QUICK} for name in functions]
    return config(folder, {f"/{name}": name for name in functions}, canaries=canaries, exposeEndpoints=True)


async def write(url: str, function: str, **changes: Any) -> None:
    store = open_store(url)
    await store.open()
    record = Record("1", "2", Status.RUNNING, 10, 1, 10.0, 9.0, 10.0, "started")
    await store.swap(function, 0, json.dumps(json.loads(record.dump()) | changes), 1)
    await store.close()


@pytest.mark.parametrize(("field", "value"), [("percent", "s3cret")])
def test_a_bad_record_holds_its_own_canary_alone(tmp_path: Path, field: str, value: Any) -> None:
    url = f"sqlite:///{tmp_path}/canary.db"
    given = made(tmp_path, "f", "g")

    async def main() -> None:
        await write(url, "f", **{field: value})
        runtime = WasmRuntime(given, settings(canary_url=url))
        async with runtime, client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
            await eventually(lambda: runtime.canaries.notes, within=60)
            ready = await http.get("/ready")
            assert ready.status_code == 200
            (note,) = ready.json()["notes"]
            assert note.startswith(f"canary of f: the record cannot be read ({field}), and the weights stay")
            assert "s3cret" not in ready.text

            async with asyncio.timeout(60):
                while first_step("g", runtime):
                    for _ in range(20):
                        assert (await http.get("/g")).status_code == (await http.get("/f")).status_code == 200
                    await asyncio.sleep(0.01)  # a loop that never waits keeps the GIL from the store's thread
            with (
                closing(sqlite3.connect(tmp_path / "canary.db")) as connection,
                connection,
            ):  # whoever mends it brings it back
                connection.execute("DELETE FROM canary WHERE function = 'f'")
            connection.close()
            await eventually(lambda: not any("cannot be read" in each for each in runtime.canaries.notes), within=60)

    run(main())


def first_step(function: str, runtime: WasmRuntime) -> bool:
    record = runtime.canaries.all[function].record
    return record is None or (record.status is Status.RUNNING and record.percent == 50)


def test_a_record_that_is_never_taken_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/canary.db"
    given = made(tmp_path, "f", "g")

    async def main() -> None:
        runtime = WasmRuntime(given, settings(canary_url=url))
        async with runtime:
            await eventually(lambda: all(each.record for each in runtime.canaries.all.values()), within=60)
            store = runtime.canaries._store
            assert store is not None
            swap, tried = store.swap, []

            async def refused(function: str, *rest: Any, **more: Any) -> bool:
                """As if another worker were always first."""
                if function != "f":
                    return await swap(function, *rest, **more)
                tried.append(asyncio.current_task())
                return False

            monkeypatch.setattr(store, "swap", refused)
            with pytest.raises(CanaryConflict, match="its state changes all the time"):
                await runtime.canaries.pause("f")
            assert tried.count(asyncio.current_task()) == manual._ATTEMPTS
            await runtime.canaries.pause("g")

            with (
                closing(sqlite3.connect(tmp_path / "canary.db")) as connection,
                connection,
            ):  # so that a look has one to write
                connection.execute("DELETE FROM canary WHERE function = 'f'")
            connection.close()
            await eventually(lambda: runtime.canaries.notes, within=60)
            (note,) = runtime.canaries.notes
            assert note.startswith("canary of f: the record is never taken by the canary store")
            (first, *_) = (task for task in tried if task is not asyncio.current_task())
            assert tried.count(first) == look._ATTEMPTS

    run(main())
