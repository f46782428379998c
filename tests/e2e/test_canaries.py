"""Canaries over several processes: two workers on one SQLite file, two servers on one Redis."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from apps import add_constant, add_flaky, config_file, run
from processes import ROOT, Server

from starlette_wasm.canary.backends import open_store
from starlette_wasm.canary.record import Record, Status
from starlette_wasm.canary.store import Store

APP = """\
from starlette.applications import Starlette
from starlette.middleware import Middleware

from starlette_wasm import WasmMiddleware

app = Starlette(middleware=[Middleware(WasmMiddleware, config="wasm.yaml")])
"""
ANSWER = b'{"status_code": 200}'
SECONDS = 200
STEPS = [10, 30, 50, 100]
KILLED = ("--timeout-worker-healthcheck", "20")
"""A parent asks its workers for a sign of life, and waits so long for one that is killed before it gives that."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``good`` has a canary like its stable version, that of ``bad`` fails for five per cent."""
    for name, failing in (("good", 0), ("bad", 13)):
        add_constant(tmp_path, name, ANSWER)
        add_flaky(tmp_path, name, ANSWER, failing, version="2")
    common = {"stableVersion": "1", "canaryVersion": "2", "stepSeconds": 1.0, "latencyP99ThresholdMs": None}
    canaries = [{"functionName": name, **common} for name in ("good", "bad")]
    config_file(tmp_path, {"/good": "good", "/bad": "bad"}, canaries=canaries, exposeEndpoints=True)
    (tmp_path / "canary_app.py").write_text(APP)
    return tmp_path


async def ask(port: int, path: str, over: asyncio.Event) -> None:
    """Requests one after the other, until it is over; a server that was killed is asked again."""
    while not over.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                for _ in range(50):
                    writer.write(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                    await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            finally:
                writer.close()
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.1)


async def read(store: Store, function: str) -> Record:
    text = (await store.read(function)).record
    assert text is not None
    return Record.load(text)


async def kill_coordinator(store: Store, url: str) -> int:
    """SIGKILL the process that holds the lease of ``good``; gives its pid."""
    if url.startswith("sqlite"):
        rows = await store._database.read(  # type: ignore[attr-defined]
            lambda at: at.execute("SELECT holder FROM lease WHERE function = 'good'").fetchall()
        )
        holder = rows[0][0]
    else:
        holder = None
        while holder is None:
            holder = await store._client.command("GET", "starlette-wasm:canary:{good}:lease")  # type: ignore[attr-defined]
        holder = holder.decode()
    pid = int(holder.split("/")[1])
    os.kill(pid, signal.SIGKILL)
    return pid


async def roll_out(ports: list[int], url: str) -> None:
    store = open_store(url)
    await store.open()
    over = asyncio.Event()
    good: list[int] = []
    bad: list[int] = []
    killed = 0
    try:
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            for port in ports:
                for path in ("/good", "/bad") * 2:
                    group.create_task(ask(port, path, over))
            while True:
                one, other = await read(store, "good"), await read(store, "bad")
                for seen, record in ((good, one), (bad, other)):
                    if record.percent not in seen[-1:]:
                        seen.append(record.percent)
                if one.percent >= 30 and one.status is Status.RUNNING and not killed:
                    killed = await kill_coordinator(store, url)
                if one.status is Status.PROMOTED and other.status is Status.ROLLED_BACK:
                    over.set()
                    break
                assert one.status is Status.RUNNING or one.status is Status.PROMOTED, one
                await asyncio.sleep(0.02)
    finally:
        await store.close()
    assert in_order(good)
    assert good[-1] == 100
    assert in_order(bad[:-1])
    assert 100 not in bad
    assert bad[-1] == 0
    assert killed


def in_order(seen: list[int]) -> bool:
    """Whether these are the steps, but for those that were over before this process looked again."""
    return seen == [step for step in STEPS if step in seen]


def test_two_workers_on_one_file(serve: Callable[..., Server], folder: Path) -> None:
    url = f"sqlite:///{folder / 'canary.db'}"
    server = serve(folder, "canary_app:app", "--workers", "2", *KILLED, STARLETTE_WASM_CANARY_URL=url)
    run(roll_out([server.port], url), SECONDS + 30)
    for function, rate in (("good", 1.0), ("bad", None)):
        given = server.get(f"/metrics/canary?function={function}").json()["canary_success_rate"]
        assert given == rate or (rate is None and given < 0.99)


@pytest.mark.parametrize(
    ("failing", "ends"), [(0, Status.PROMOTED), (13, Status.ROLLED_BACK)], ids=["healthy", "five-per-cent"]
)
def test_the_sample_apps_canary(serve: Callable[..., Server], tmp_path: Path, failing: int, ends: Status) -> None:
    """With short steps, and if it is to fail another version 2."""
    shutil.copytree(ROOT / "sample_app", tmp_path / "sample_app")
    file = tmp_path / "sample_app" / "wasm.yaml"
    text, short = file.read_text(), 'canaryVersion: "2", stepSeconds: 1.0, latencyP99ThresholdMs: null}'
    assert 'canaryVersion: "2"}' in text
    file.write_text(text.replace('canaryVersion: "2"}', short))
    if failing:
        shutil.rmtree(tmp_path / "sample_app" / "functions" / "greeter" / "v2")
        add_flaky(tmp_path / "sample_app", "greeter", ANSWER, failing, version="2")
    url = f"sqlite:///{tmp_path / 'canary.db'}"
    server = serve(tmp_path, "sample_app.app:app", "--workers", "2", STARLETTE_WASM_CANARY_URL=url)

    steps: list[int] = []

    async def drive() -> None:
        store, over = open_store(url), asyncio.Event()
        await store.open()
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(ask(server.port, "/api/v1/greet/Ada", over))
            while not over.is_set():
                record = await read(store, "greeter")
                if record.percent not in steps[-1:]:
                    steps.append(record.percent)
                if record.status is ends:
                    over.set()
                await asyncio.sleep(0.02)
        await store.close()

    run(drive(), SECONDS + 30)
    assert steps[-1] == (100 if ends is Status.PROMOTED else 0)
    assert in_order([step for step in steps if step])
    assert (100 in steps) is (ends is Status.PROMOTED)
    assert (server.get("/metrics/canary").json()["canary_success_rate"] == 1.0) is (not failing)


def test_two_servers_on_one_redis(serve: Callable[..., Server], folder: Path, flushed_redis: str) -> None:
    servers = [serve(folder, "canary_app:app", STARLETTE_WASM_CANARY_URL=flushed_redis) for _ in range(2)]
    run(roll_out([server.port for server in servers], flushed_redis), SECONDS + 30)
    alive = [server for server in servers if server.process.poll() is None]
    assert len(alive) == 1
    assert alive[0].get("/metrics/canary?function=good").json()["canary_success_rate"] == 1.0
