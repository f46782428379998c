"""What is slow or away delays itself alone: stores, gates, and canaries side by side."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from apps import add_constant, add_flaky, client, config, eventually, run, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.canary import backends
from starlette_wasm.canary.record import Record, Status
from starlette_wasm.canary.sqlite import SqliteStore
from starlette_wasm.canary.store import Batch, Reading
from starlette_wasm.capabilities import CapabilityError
from starlette_wasm.capabilities.errors import Code

GOOD = b'{"status_code": 200, "body": "v%d"}'


class Slow(SqliteStore):
    """A store that is some way off, or away."""

    seconds = 0.0
    away = False
    at_once = most_at_once = 0

    async def _delay(self) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        if self.away:
            raise CapabilityError(Code.UNAVAILABLE, "canary store is not available", detail="secret")

    async def read(self, function: str) -> Reading:
        await self._delay()
        return await super().read(function)

    async def add(self, function: str, worker: str, batch: Batch) -> None:
        await self._delay()
        await super().add(function, worker, batch)

    async def lease(self, function: str, holder: str, seconds: float) -> int | None:
        await self._delay()
        return await super().lease(function, holder, seconds)

    async def swap(self, function: str, revision: int, record: str, epoch: int, token: int | None = None) -> bool:
        await self._delay()
        return await super().swap(function, revision, record, epoch, token)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Slow:
    slow = Slow(None)
    monkeypatch.setattr(backends, "open_store", lambda url: slow)
    return slow


def app(folder: Path, names: list[str], *, failing: int = 0, **keys: Any) -> tuple[WasmRuntime, Starlette]:
    for name in names:
        add_constant(folder, name, GOOD % 1)
        add_flaky(folder, name, GOOD % 2, failing, version="2")
    canary = {"stableVersion": "1", "canaryVersion": "2", "latencyP99ThresholdMs": None, **keys}
    wasm = config(
        folder,
        {f"/{name}": {"functionName": name} for name in names},
        canaries=[{"functionName": name, **canary} for name in names],
        exposeEndpoints=True,
    )
    runtime = WasmRuntime(wasm, settings(canary_url="sqlite://"))
    return runtime, Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])


def status(runtime: WasmRuntime, name: str) -> Status | None:
    record: Record | None = runtime.canaries.all[name].record
    return None if record is None else record.status


def test_thirty_canaries_are_looked_at_side_by_side(tmp_path: Path, store: Slow) -> None:
    store.seconds = 0.1
    runtime, _ = app(tmp_path, [f"f{number}" for number in range(30)], stepSeconds=60.0)

    async def main() -> None:
        async with runtime:
            await eventually(lambda: all(live.record for live in runtime.canaries.all.values()))
            assert store.most_at_once > 3
            before = max(live.seen_at for live in runtime.canaries.all.values())
            await eventually(lambda: min(live.seen_at for live in runtime.canaries.all.values()) > before)

    run(main())


def test_a_start_does_not_wait_for_a_store_that_hangs(tmp_path: Path, store: Slow) -> None:
    store.seconds = 30
    runtime, served = app(tmp_path, ["f"])

    async def main() -> None:
        async with asyncio.timeout(60), runtime, client(served) as http:
            assert (await http.get("/f")).text == "v1"
            response = await http.get("/metrics/canary")
            assert response.status_code == 503
            assert response.headers["x-canary-unavailable"] == "f: the canary store was not read yet"

    run(main())


def test_a_gate_that_hangs_delays_its_canary_alone(tmp_path: Path, store: Slow) -> None:
    runtime, served = app(tmp_path, ["f", "g"], failing=256, stepSeconds=3.0, steps=[50, 100])
    entered: list[object] = []

    def gate(step: object) -> bool:
        entered.append(step)
        time.sleep(1)
        return False

    async def main() -> None:
        runtime.canaries.gate("f", gate)
        async with runtime, client(served) as http:
            begin = time.monotonic()
            await eventually(lambda: entered)
            while status(runtime, "g") is not Status.ROLLED_BACK:
                await http.get("/g")
                await asyncio.sleep(0.01)  # nothing else here waits for anything
                assert time.monotonic() - begin < 120
            assert runtime.canaries.all["f"].held_by is not None

    run(main())


def test_a_worker_rolls_back_by_its_own_counts(tmp_path: Path, store: Slow) -> None:
    runtime, served = app(tmp_path, ["f"], failing=256, stepSeconds=6.0, steps=[50, 100])

    async def main() -> None:
        async with runtime, client(served) as http:
            store.away = True
            await eventually(lambda: runtime.canaries.all["f"].store_problem)
            response = await http.get("/metrics/canary")
            assert (response.status_code, response.content) == (503, b"")
            assert response.headers["x-canary-unavailable"] == "f: canary store is not available"
            begin = time.monotonic()
            while status(runtime, "f") is not Status.ROLLED_BACK:
                await http.get("/f")
                await asyncio.sleep(0.01)  # nothing else here waits for anything
                assert time.monotonic() - begin < 120
            assert {(await http.get("/f")).text for _ in range(10)} == {"v1"}
            store.away = False
            await eventually(lambda: runtime.canaries.all["f"].store_problem is None)
            text = (await store.read("f")).record
            assert text is not None
            record = Record.load(text)
            assert record.status is Status.ROLLED_BACK
            assert record.reason.endswith("by one worker while the store was away")
            assert (await http.get("/metrics/canary")).status_code == 200

    run(main())


def test_what_fails_its_probes_is_rolled_back(tmp_path: Path, store: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, _ = app(tmp_path, ["f"], stepSeconds=0.5)
    monkeypatch.setattr(runtime.health, "verdicts", lambda: {("f", "1"): True, ("f", "2"): False})

    async def main() -> None:
        async with runtime:
            await eventually(lambda: status(runtime, "f") is Status.ROLLED_BACK)
            record = runtime.canaries.all["f"].record
            assert record is not None
            assert record.reason == "has failed its probes for 0.5 s"

    run(main())


@pytest.mark.parametrize(
    ("keys", "note"),
    [({}, "no traffic at 10 %"), ({"progressDeadlineSeconds": 0.3}, "within progressDeadlineSeconds, 0.3 s")],
)
def test_one_that_does_not_move_says_so(tmp_path: Path, store: Slow, keys: dict[str, float], note: str) -> None:
    runtime, _ = app(tmp_path, ["f"], stepSeconds=0.5, **keys)

    async def main() -> None:
        async with runtime:
            await eventually(lambda: any(note in each for each in runtime.canaries.notes))
            assert status(runtime, "f") is Status.RUNNING

    run(main())
