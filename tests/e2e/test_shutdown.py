"""SIGTERM: requests in flight finish in time, then the server stops as uvicorn does."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from apps import config_file
from processes import Server

Start = Callable[..., Server]


@pytest.fixture
def start(serve: Start, tmp_path: Path) -> Callable[..., Server]:
    config_file(
        tmp_path,
        {
            "/hello": "hello",
            "/sleep_ms": {"functionName": "sleep_ms", "policy": "long"},
            "/spin": {"functionName": "spin", "policy": "long"},
            "/sleep": {"functionName": "sleep60", "policy": "long"},
        },
        policies={"long": {"executionTimeoutMs": 600_000}},
        exposeEndpoints=True,
    )

    def start(**environ: str) -> Server:
        return serve(tmp_path, "served:app", **environ)

    return start


def ended_well(server: Server) -> None:
    """uvicorn ends by the signal that ended it; nothing of native code is on stderr."""
    assert server.ended(60) == -signal.SIGTERM
    for word in ("panicked", "Traceback", "Fatal", "core dumped", "RUST_BACKTRACE"):
        assert word not in server.log
    assert "Application shutdown complete." in server.log
    assert "Finished server process" in server.log


def begun(stats: dict[str, int]) -> int:
    """How many requests have begun; on a slow machine the first has ended before the last begins."""
    return stats["live"] + stats.get("ok", 0)


def test_an_idle_server_stops_at_once(start: Start) -> None:
    server = start()
    assert server.get("/hello").text == "hello"
    server.terminate()
    ended_well(server)


def test_requests_in_flight_finish(start: Start) -> None:
    server = start()
    with ThreadPoolExecutor(8) as clients:
        running = [clients.submit(server.get, "/sleep_ms?ms=3000") for _ in range(8)]
        server.wait(lambda: begun(server.stats()) >= 8, 60)
        server.terminate()
        assert [each.result().status_code for each in running] == [200] * 8
    ended_well(server)


@pytest.mark.parametrize("path", ["/spin", "/sleep", "/route/spin", "/handler/x", "/inner/spin"])
def test_an_endless_guest_is_ended_by_the_drain_timeout(start: Start, path: str) -> None:
    server = start(STARLETTE_WASM_DRAIN_TIMEOUT_MS="500")
    with ThreadPoolExecutor(2) as clients:
        running = [clients.submit(server.get, path) for _ in range(2)]
        server.wait(lambda: server.stats()["live"] == 2, 60)
        begin = time.monotonic()
        server.terminate()
        for each in running:
            response = each.result()
            assert (response.status_code, response.json()["type"]) == (503, "runtime-closed")
        ended_well(server)
        assert 0.3 < time.monotonic() - begin < 30
