"""The sample app with its telemetry as documented (traces, metrics and logs to a collector) against that without."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from .. import wrk
from ..measure import Plan, Progress, Row, interleave, ratio
from ..processes import Server, cpu_ns, uvicorn

CONNECTIONS = 64
SECONDS = 2
_GOAL = 0.5
_APP = "sample_app.app:app"
_PATHS = {"process": "/api/v1/process", "native": "/native"}


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    with ExitStack() as stack:
        sink = stack.enter_context(uvicorn("sink:app", work, path="/", cpu=None))
        env = {"XDG_CACHE_HOME": str(work)}
        collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink.port}"}
        servers = {
            side: stack.enter_context(uvicorn(_APP, work, package="", path=_PATHS["process"], env=env | more))
            for side, more in (("off", {}), ("on", collector))
        }
        for name, path in _PATHS.items():
            yield from _row(name, path, servers, plan, progress)


def cpu_of_requests(
    plan: Plan, server: Server, path: str, rates: list[float], seconds: float = SECONDS, script: Path | None = None
) -> float:
    """Request a path at 64 connections. Return the CPU microseconds of the server for a request; add the rate."""
    before = cpu_ns(server.pid)
    url = f"http://127.0.0.1:{server.port}{path}"
    seen = wrk.run(str(plan.wrk), url, connections=CONNECTIONS, seconds=seconds, script=script)
    rates.append(seen.rate)
    return (cpu_ns(server.pid) - before) / seen.requests / 1e3


def _row(name: str, path: str, servers: Mapping[str, Server], plan: Plan, progress: Progress) -> Iterator[Row]:
    rates: dict[str, list[float]] = {side: [] for side in servers}

    def load(side: str) -> float:
        return cpu_of_requests(plan, servers[side], path, rates[side])

    contenders = {side: partial(load, side) for side in servers}
    interleave(contenders, 1, progress, f"sample app, {path}, warm-up")
    for each in rates.values():
        each.clear()
    times = interleave(contenders, plan.pick(1, 5), progress, f"sample app, {path}")
    row = Row(
        f"production/sample-app/{name}/throughput",
        f"sample app, `{path}`: throughput, telemetry on / off",
        ratio(rates["on"], rates["off"]),
        "higher",
        goal=_GOAL if name == "process" else None,
        ours=statistics.median(rates["on"]),
        theirs=statistics.median(rates["off"]),
        measure="req/s",
        against="the same without telemetry",
        checked=False,
    )
    yield row
    yield replace(
        row,
        id=f"production/sample-app/{name}/cpu",
        title=f"sample app, `{path}`: CPU of a request, telemetry off / on",
        value=ratio(times["off"], times["on"]),
        goal=None,
        ours=statistics.median(times["on"]),
        theirs=statistics.median(times["off"]),
        measure="µs",
        checked=True,
    )
