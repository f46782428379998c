"""The sample app, as fast as it can, with everything exported.

``REQUESTS=10000 scripts/test tests/e2e/test_telemetry_load.py`` is the long form.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest
from apps import run, wait_until
from collector import Backend, Rotel
from ports import free_port
from processes import ROOT, Server

REQUESTS = int(os.environ.get("REQUESTS", "400"))
CONNECTIONS = 20


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def rotel(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[Rotel]:
    rotel = Rotel(tmp_path_factory.mktemp("rotel"), backend)
    yield rotel
    rotel.close()


def sample(serve: Callable[..., Server], endpoint: str, workers: int, **environ: str) -> Server:
    return serve(
        ROOT,
        "sample_app.app:app",
        *("--workers", str(workers), "--log-level", "warning"),
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        **environ,
    )


async def ask(port: int, traces: list[str], flags: str) -> None:
    """A request for each trace, one behind the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for trace in traces:
        head = f"GET /api/v1/process HTTP/1.1\r\nhost: test\r\ntraceparent: 00-{trace}-{'b' * 16}-{flags}\r\n\r\n"
        writer.write(head.encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert answer.startswith(b"http/1.1 200 ")
        await reader.readexactly(int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    writer.close()
    await writer.wait_closed()


def flood(port: int, count: int) -> tuple[set[str], set[str]]:
    """As many requests; gives the traces that were sampled, half of them, and those that were not."""
    made = [[secrets.token_hex(16) for _ in range(count // CONNECTIONS)] for _ in range(CONNECTIONS)]

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number, traces in enumerate(made):
                group.create_task(ask(port, traces, "01" if number % 2 else "00"))

    run(main())
    sampled, dropped = ({trace for traces in made[first::2] for trace in traces} for first in (1, 0))
    return sampled, dropped


def test_no_span_of_a_sampled_request_is_lost(serve: Callable[..., Server], rotel: Rotel, backend: Backend) -> None:
    server = sample(serve, rotel.url, 1, OTEL_BSP_SCHEDULE_DELAY="200")
    begin = time.monotonic()
    sampled, dropped = flood(server.port, 2 * REQUESTS)
    print(f"{2 * REQUESTS / (time.monotonic() - begin):.0f} requests a second")

    def counted() -> Counter[str]:
        return Counter(span.trace for span in list(backend.spans) if span.trace in sampled)

    wait_until(lambda: sum(counted().values()) >= 2 * len(sampled), 60, lambda: f"{sum(counted().values())} spans")
    assert counted() == dict.fromkeys(sampled, 2)
    assert not {span.trace for span in backend.spans} & dropped


def test_memory_stays_level_while_the_collector_is_down(serve: Callable[..., Server]) -> None:
    """The queue is full after the first flood."""
    server = sample(serve, f"http://127.0.0.1:{free_port()}", 1, OTEL_BSP_MAX_QUEUE_SIZE="1024")
    workers = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]

    def used() -> int:
        return sum(worker.memory_info().rss for worker in workers)

    flood(server.port, 2 * REQUESTS)
    before = used()
    flood(server.port, 2 * REQUESTS)
    assert used() - before < 16 << 20
