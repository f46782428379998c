"""What is told of a canary: each stage once, however many workers there are, and whoever moved it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from apps import client, config, run, settings
from starlette.applications import Starlette
from test_controller import SLOW, functions, record, versions
from webhooks import Receiver, receiving

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.canary.manual import ManualControl
from starlette_wasm.canary.record import Status


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as given:
        yield given


def worker(folder: Path, url: str, receiver: Receiver, **canary: Any) -> WasmRuntime:
    wasm = config(folder, {"/f": {"functionName": "f"}}, canaries=[SLOW | canary], events=[{"url": receiver.url}])
    return WasmRuntime(wasm, settings(canary_url=url, reload_interval_ms=0, region="ap"))


async def look(*workers: WasmRuntime) -> None:
    for _ in range(2):
        for each in workers:
            await each.canaries._look_at_all(10)


async def announced(receiver: Receiver, number: int, *workers: WasmRuntime) -> None:
    """Look until there are that many events: each worker sends on its own, and in no order with the others."""
    async with asyncio.timeout(30):
        while len(receiver.got) < number:
            await look(*workers)
            await asyncio.sleep(0.01)


def test_each_stage_is_told_once_by_all_workers(tmp_path: Path, url: str, receiver: Receiver) -> None:
    functions(tmp_path)

    async def main() -> None:
        async with worker(tmp_path, url, receiver) as first, worker(tmp_path, url, receiver) as second:
            hands = ManualControl(first.canaries._store, first.canaries.all["f"].config)  # type: ignore[arg-type]
            moves = [hands.promote, hands.pause, hands.resume, hands.abort, hands.start]
            for number, move in enumerate([*moves, partial(hands.promote, full=True)], 1):
                await announced(receiver, number, first, second)
                await move()
            await announced(receiver, 7, second, first)
            await look(first, second)

    run(main())
    assert receiver.types == [
        *("canary.started", "canary.stepped", "canary.paused", "canary.resumed", "canary.aborted"),
        *("canary.started", "canary.promoted"),
    ]
    started, stepped = receiver.documents[:2]
    assert started["source"].startswith("/starlette-wasm/ap/")
    assert stepped["subject"] == "f"
    assert stepped["data"]["text"] == "canary of f, v2 over v1: running at 30 %: promoted by hand"
    assert (stepped["data"]["percent"], stepped["data"]["canary_version"]) == (30, "2")
    assert len({document["id"] for document in receiver.documents}) == 7


def test_a_restart_tells_nothing_again(tmp_path: Path, receiver: Receiver) -> None:
    functions(tmp_path)

    async def main() -> None:
        for _ in range(2):
            async with worker(tmp_path, f"sqlite:///{tmp_path}/canary.db", receiver) as runtime:
                await look(runtime)

    run(main())
    assert receiver.types == ["canary.started"]


def test_a_roll_back_is_told(tmp_path: Path, receiver: Receiver) -> None:
    functions(tmp_path, flaky=256)

    async def main() -> None:
        async with worker(tmp_path, "sqlite://", receiver, steps=[50, 100]) as runtime:
            async with client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
                await versions(http, 120)
            await look(runtime)
            assert record(runtime).status is Status.ROLLED_BACK

    run(main())
    assert receiver.types == ["canary.started", "canary.rolled-back"]
    assert "success rate 0 %" in receiver.documents[1]["data"]["reason"]


def test_one_that_is_held_too_long_is_told_and_measured(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions(tmp_path)
    measured: list[tuple[str, str, bool]] = []

    async def main() -> None:
        runtime = worker(tmp_path, "sqlite://", receiver, progressDeadlineSeconds=1800.0)
        async with runtime:
            monkeypatch.setattr(runtime.telemetry, "canary_overdue", lambda *given: measured.append(given))
            await look(runtime)
            store = runtime.canaries._store
            assert store is not None
            reading = await store.read("f")
            late = replace(record(runtime), changed=record(runtime).changed - 1801)
            assert await store.swap("f", reading.revision, late.dump(), late.epoch)
            await look(runtime)
            assert "within progressDeadlineSeconds, 1800 s" in runtime.canaries.notes[0]
            await runtime.canaries.promote("f")
            await look(runtime)
            assert runtime.canaries.notes == []

    run(main())
    assert receiver.types == ["canary.started", "canary.held", "canary.stepped"]
    assert receiver.documents[1]["data"]["reason"].startswith("no step was taken at 10 %")
    assert measured[-2:] == [("f", "2", True), ("f", "2", False)]
