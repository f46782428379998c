"""A quick route beside requests that compute: guests, and the same C in threads of a native route."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from .. import wrk
from ..layout import native_library
from ..measure import Plan, Progress, Row
from ..processes import Failed, Server, uvicorn

_ROWS = {"5 ms": (100,), "50 ms": (1000,), "5 and 50 ms": (100, 1000)}
"""Rows of the set that a request computes: a hundred take some 5 ms."""
_PACE = "function delay() return math.random(1, 9) end\n"
"""A script for wrk: milliseconds between an answer and the next request.

Without them ``/ping`` takes a core of its own, and the more of it the earlier it is answered: what is left for those
that compute would then be a measure of the priority of ``/ping``, not of their cost.
"""
_SIDES = {"ours": "/rows", "trusted": "/trusted-rows", "native": "/rows"}


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    if plan.wrk is None or native_library(work, "rows") is None:
        return
    pace = work / "pace.lua"
    pace.write_text(_PACE)
    with ExitStack() as stack:
        ours = stack.enter_context(uvicorn("ours:app", work, path="/ping", cpu=None))
        native = stack.enter_context(uvicorn("native:app", work, path="/ping", cpu=None))
        servers = {"ours": ours, "trusted": ours, "native": native}
        for title, rows in _ROWS.items():
            for connections in (1, 8, 64):
                try:
                    yield from _beside(title, rows, connections, servers, plan, progress, pace)
                except Failed as error:  # such as no answer within the time, on a busy machine
                    what = f"guests of {title}, {_times(connections)}"
                    row_id = f"compute/{title.replace(' ', '-')}/{connections}/ours/p99"
                    yield Row(row_id, what, None, "higher", note=error.reason, checked=False)


def _beside(
    title: str,
    rows: tuple[int, ...],
    connections: int,
    servers: dict[str, Server],
    plan: Plan,
    progress: Progress,
    pace: Path,
) -> Iterator[Row]:
    late: dict[str, list[float]] = {side: [] for side in servers}
    rates: dict[str, list[float]] = {side: [] for side in servers}
    for number in range(plan.pick(1, 2)):
        for side, server in list(servers.items())[:: -1 if number % 2 else 1]:
            progress(f"compute, {title}, {connections} connections: round {number + 1}, {side}")
            p99, rate = _measure(str(plan.wrk), server, _SIDES[side], rows, connections, pace)
            late[side].append(p99)
            rates[side].append(rate)
    for side, label in (("ours", ""), ("trusted", ", `cpuWeight: 100`")):
        what = f"guests of {title}{label}, {_times(connections)}"
        key = f"compute/{title.replace(' ', '-')}/{connections}/{side}"
        yield Row(
            f"{key}/p99",
            f"{what}: p99 of `/ping` beside them, native / ours",
            statistics.median(b / a for a, b in zip(late[side], late["native"], strict=True)),
            "higher",
            ours=statistics.median(late[side]),
            theirs=statistics.median(late["native"]),
            measure="ms",
            against="the same C in threads of a route",
            checked=False,
        )
        yield Row(
            f"{key}/rate",
            f"{what}: their throughput, ours / native",
            statistics.median(a / b for a, b in zip(rates[side], rates["native"], strict=True)),
            "higher",
            ours=statistics.median(rates[side]),
            theirs=statistics.median(rates["native"]),
            measure="req/s",
            against="the same C in threads of a route",
            checked=False,
        )


def _times(connections: int) -> str:
    return f"{connections} connection{'s' * (connections > 1)}"


def _measure(
    path: str, server: Server, route: str, rows: tuple[int, ...], connections: int, pace: Path
) -> tuple[float, float]:
    """Measure the p99 of ``/ping`` in ms beside requests that compute, and their rate."""
    base = f"http://127.0.0.1:{server.port}"
    seconds = 8 if connections > 8 else 3  # 64 requests of 50 ms take more than three

    def compute(count: int) -> wrk.Load:
        return wrk.run(path, f"{base}{route}?rows={count}", connections=connections, seconds=seconds)

    with ThreadPoolExecutor(len(rows)) as threads:
        loads = [threads.submit(compute, count) for count in rows]
        ping = wrk.run(path, f"{base}/ping", connections=1, seconds=seconds - 1, script=pace)
        return ping.p99 * 1e3, sum(load.result().rate for load in loads)
