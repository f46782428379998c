"""Bounds that hold while other requests go on: time limits, clients that leave, and nothing left behind."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from ..measure import Plan, Progress, Row, percentile
from ..processes import Failed, Server, uvicorn

_FAULTS = ("/trap?mode=unreachable", "/exit3", "/garbage")


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    with uvicorn("ours:app", work, path="/job", cpu=None) as server:
        asyncio.run(_requests(server.port, "/job", 200, 8))
        yield from asyncio.run(_looping(server, plan.pick(3, 10), progress))
        yield from asyncio.run(_leaving(server, plan.pick(5, 20), progress))
    with uvicorn("ours:app", work, path="/job", cpu=None) as server:
        yield from asyncio.run(_left_behind(server, plan.pick(5_000, 20_000), progress))


class _Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> _Client:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._writer.close()

    def send(self, path: str) -> None:
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode())

    async def get(self, path: str) -> tuple[int, bytes]:
        self.send(path)
        async with asyncio.timeout(30):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
            )
            return int(head[9:12]), await self._reader.readexactly(length)


async def _requests(port: int, path: str, count: int, connections: int) -> None:
    async def some() -> None:
        async with _Client(port) as client:
            for _ in range(count // connections):
                await client.get(path)

    await asyncio.gather(*(some() for _ in range(connections)))


async def _looping(server: Server, seconds: float, progress: Progress) -> list[Row]:
    """Run a guest that never ends, under a policy of 200 ms, while 50 requests a second go to a quick one."""
    progress("limits: a looping guest beside quick ones")
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    quick: list[float] = []
    slow: list[float] = []

    async def loops() -> None:
        async with _Client(server.port) as client:
            while loop.time() < ends:
                begin = time.perf_counter()
                status, _ = await client.get("/spin-200ms")
                slow.append((time.perf_counter() - begin) * 1e3)
                if status != 504:
                    raise Failed(f"the looping guest was answered {status}")

    async def one(client: _Client) -> None:
        begin = time.perf_counter()
        status, _ = await client.get("/job")
        quick.append((time.perf_counter() - begin) * 1e3)
        if status != 200:
            raise Failed(f"the quick guest was answered {status}")

    async def quicks() -> None:
        async with _Client(server.port) as client:
            while loop.time() < ends:
                next_at = loop.time() + 0.02
                await one(client)
                await asyncio.sleep(max(0, next_at - loop.time()))

    await asyncio.gather(loops(), quicks())
    return [
        Row("limits/looping/slowest", "looping guest under 200 ms: the slowest 504", max(slow), "lower", "ms",
            goal=300, checked=False),
        Row("limits/looping/quick-p99", "50 requests/s to a quick guest meanwhile: p99", percentile(quick, 99),
            "lower", "ms", goal=20, checked=False),
    ]  # fmt: skip


async def _leaving(server: Server, rounds: int, progress: Progress) -> list[Row]:
    """Let a client leave while its guest runs; measure the time until the runtime's counters show none."""
    progress("limits: clients that leave")
    times = []
    async with _Client(server.port) as watcher:
        for _ in range(rounds):
            async with _Client(server.port) as client:
                client.send("/spin")
                await _until(watcher, 1)
            begin = time.perf_counter()
            await _until(watcher, 0)
            times.append((time.perf_counter() - begin) * 1e3)
    return [
        Row("limits/leaving/slowest", "a client leaves: until its guest is gone, slowest", max(times), "lower", "ms",
            goal=100, checked=False),
        Row("limits/leaving/p50", "a client leaves: until its guest is gone, p50", statistics.median(times), "lower",
            "ms", checked=False),
    ]  # fmt: skip


async def _until(watcher: _Client, live: int) -> None:
    async with asyncio.timeout(10):
        while f'"live":{live}'.encode() not in (await watcher.get("/stats"))[1].replace(b" ", b""):
            await asyncio.sleep(0.001)


async def _left_behind(server: Server, count: int, progress: Progress) -> list[Row]:
    """Send requests, one in fifty of them a fault; compare the process after a tenth of them and after all."""
    process = psutil.Process(server.pid)

    async def mixed(number: int) -> None:
        for begin in range(0, number, 1000):
            progress(f"limits: {begin} of {number} requests")
            size = min(1000, number - begin)
            await _requests(server.port, "/job", size * 49 // 50, 7)
            for fault in _FAULTS:
                await _requests(server.port, fault, max(1, size // 150), 1)
            await _requests(server.port, "/spin-200ms", 1, 1)

    def held() -> tuple[float, int, int]:
        return process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()

    await mixed(count // 10)
    await asyncio.sleep(0.5)
    memory, descriptors, threads = held()
    await mixed(count - count // 10)
    await asyncio.sleep(0.5)
    now = held()
    after = f"after {count:,} requests, more than after {count // 10:,}"
    return [
        Row("limits/left/memory", f"memory {after}", now[0] - memory, "lower", "MB", goal=2, checked=False,
            ours=now[0], theirs=memory, measure="MB", against="earlier"),
        Row("limits/left/descriptors", f"descriptors {after}", now[1] - descriptors, "lower", "", goal=0,
            checked=False),
        Row("limits/left/threads", f"threads {after}", now[2] - threads, "lower", "", goal=0, checked=False),
    ]  # fmt: skip
