"""The event loop's default threads are the app's: we wait for none of them, and take none of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from apps import client, config, run, settings
from starlette.applications import Starlette

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.asgi import endpoints

LARGE = "y" * 600_000


@asynccontextmanager
async def busy() -> AsyncIterator[None]:
    """Every default thread waits for the app."""
    release = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(2))
    waiting = [loop.run_in_executor(None, release.wait) for _ in range(4)]
    try:
        yield
    finally:
        release.set()
        await asyncio.gather(*waiting)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Any]:
    steps = [{"parallel": [{"function": "echo"}, {"function": "echo", "name": "again"}]}]
    given = config(
        folder,
        {"/echo": {"functionName": "echo", "policy": "roomy"}},
        policies={"roomy": {"maxRequestBytes": 4 << 20}},
        pipelines=[{"path": "/both", "steps": steps, "timeoutMs": 60000}],
        exposeEndpoints=True,
    )
    async with (
        WasmRuntime(given, settings()) as runtime,
        client(WasmMiddleware(Starlette(), runtime=runtime)) as http,
    ):
        yield http


def test_busy_default_threads_stall_nothing_of_ours(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as http, busy(), asyncio.timeout(60):
            assert (await http.get("/metrics")).status_code == 200
            assert (await http.get("/ready")).status_code == 200
            merged = (await http.post("/both", content=LARGE)).json()
            assert merged["echo"]["body"] == merged["again"]["body"] == LARGE
            assert (await http.post("/echo", content=b"\xff" * 1_000_000)).json()["is_base64_encoded"]

    run(main())


def test_our_work_takes_no_default_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    made: list[str] = []

    def stuck(accept: str) -> tuple[bytes, str]:
        made.append(accept)
        assert release.wait(60)
        return b"", "text/plain"

    def asks(accept: str) -> str:
        asked.append(accept)
        return accept

    asked: list[str] = []
    monkeypatch.setattr(endpoints, "text", stuck)
    monkeypatch.setattr(endpoints, "readable", asks)

    async def main() -> None:
        async with serving(tmp_path) as http:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
            scrapes = [asyncio.create_task(http.get("/metrics"))]
            try:
                async with asyncio.timeout(60):
                    while not made:
                        await asyncio.sleep(0.01)
                    scrapes += [asyncio.create_task(http.get("/metrics")) for _ in range(64)]
                    while len(asked) < 65:
                        await asyncio.sleep(0.01)
                    assert await asyncio.to_thread(lambda: "the app's") == "the app's"
            finally:
                release.set()
            assert {answer.status_code for answer in await asyncio.gather(*scrapes)} == {200}
            assert len(made) == 2, "scrapes that wait share one"

    run(main())


@pytest.mark.parametrize(
    "accept",
    ["application/openmetrics-text;version=1.x", "application/openmetrics-text;version=" + "9" * 5000,
     "text/plain;version=\u00b2", "application/openmetrics-text;version=2.0.0-\u00e9",
     "text/plain;version=1.0.0," * 500],
)  # fmt: skip
def test_no_accept_makes_metrics_fail(tmp_path: Path, accept: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as http:
            answer = await http.get("/metrics", headers=[(b"accept", accept.encode("latin-1"))])
            assert (answer.status_code, answer.headers["content-type"][:25]) == (200, "text/plain; version=0.0.4")

    run(main())
