"""Bad neighbours and many requests, under uvicorn. Times are bounded widely: see ``benchmarks`` for figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from apps import config_file, run
from processes import SHORT, Server


@pytest.fixture(scope="module")
def server(serve: Callable[..., Server], folder: Path) -> Server:
    config_file(
        folder,
        {
            "/hello": "hello",
            "/echo": "echo",
            "/spin": {"functionName": "spin", "policy": "short"},
            "/exit3": "exit3",
            "/trap": "trap",
        },
        functions=["sleep60"],
        policies={"short": {"executionTimeoutMs": 200}, "long": {}},
        exposeEndpoints=True,
    )
    return serve(folder, "served:app", "--log-level", "critical", STARLETTE_WASM_WORKERS="2")


def test_a_quick_function_stays_quick_while_others_spin(server: Server) -> None:
    async def main() -> None:
        quick: list[float] = []
        spun: list[float] = []
        over = asyncio.Event()

        async def spin(http: httpx.AsyncClient) -> None:
            while not over.is_set():
                begin = time.monotonic()
                assert (await http.get("/spin")).status_code == 504
                spun.append(time.monotonic() - begin)

        async def hello(http: httpx.AsyncClient) -> None:
            begin = time.monotonic()
            assert (await http.get("/hello")).text == "hello"
            quick.append(time.monotonic() - begin)

        async with (
            httpx.AsyncClient(base_url=server.url, timeout=30, limits=SHORT) as http,
            asyncio.TaskGroup() as group,
        ):
            spinning = [group.create_task(spin(http)) for _ in range(2)]
            for _ in range(150):
                group.create_task(hello(http))
                await asyncio.sleep(0.02)
            over.set()
            await asyncio.wait(spinning)
        assert len(quick) == 150
        quick.sort()
        spun.sort()
        assert quick[75] < spun[len(spun) // 2]  # else they waited for one that spins
        assert quick[142] < 30
        assert spun[0] > 0.19
        assert spun[-1] < 60

    run(main())


async def one_connection(port: int, count: int) -> None:
    """Requests one after the other; httpx would be most of the time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for i in range(count):
        path = ("/hello", "/echo?a=1", "/exit3", "/trap?mode=oob")[i % 4]
        writer.write(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 500 " if i % 4 > 1 else b"http/1.1 200 ")
        await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    writer.close()
    await writer.wait_closed()


def test_many_requests_leave_memory_files_and_threads_as_they_were(server: Server) -> None:
    process = psutil.Process(server.process.pid)

    async def ask(count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(25):
                group.create_task(one_connection(server.port, count // 25))

    def used() -> tuple[int, int, int]:
        return process.memory_info().rss, process.num_fds(), process.num_threads()

    idle, _ = used()[1:]
    run(ask(500))
    server.wait(lambda: used()[1] <= idle + 10, 60)  # it has seen that the 25 connections are closed
    rss, fds, threads = used()
    run(ask(2500))
    server.wait(lambda: used()[1] <= fds + 2, 60)
    rss_after, _, threads_after = used()
    assert rss_after - rss < 8 << 20
    assert threads_after <= threads + 2  # the workers start when the first guest is slow
    assert server.stats()["running"] == server.stats()["live"] == 0
