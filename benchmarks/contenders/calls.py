"""How calls in a process are timed, the same for all."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

POST = {"path": "/api/v1/process", "method": "POST", "body": '{"action":"hash","data":"hello"}'}
HEADERS = {
    "host": "127.0.0.1:8000",
    "user-agent": "bench",
    "accept": "*/*",
    "content-type": "application/json",
    "content-length": "32",
}


class Loop:
    """An event loop of uvloop, as under uvicorn."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    def run(self, coroutine: Any) -> Any:
        return self._runner.run(coroutine)


def figures(times: list[int]) -> dict[str, float]:
    """Return figures in microseconds, of times in nanoseconds."""
    times.sort()
    return {
        "p50": statistics.median(times) / 1e3,
        "p99": times[min(len(times) - 1, len(times) * 99 // 100)] / 1e3,
        "mean": statistics.fmean(times) / 1e3,
    }


def time_calls(call: Callable[[], object], calls: int) -> dict[str, float]:
    times = []
    for _ in range(calls):
        begin = perf_counter_ns()
        call()
        times.append(perf_counter_ns() - begin)
    return figures(times)


async def time_awaits(call: Callable[[], Awaitable[object]], calls: int) -> dict[str, float]:
    times = []
    for _ in range(calls):
        begin = perf_counter_ns()
        await call()
        times.append(perf_counter_ns() - begin)
    return figures(times)
