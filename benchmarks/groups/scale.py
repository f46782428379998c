"""Many functions, many rules, many guests at once, and what an idle process costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from ..measure import Plan, Progress, Row, interleave, ratio
from ..processes import Worker, uvicorn

KB, MB = 1000, 1_000_000


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    yield from _functions(plan, progress, work)
    yield from _rules(plan, progress, work)
    yield from _suspended(plan, progress, work)
    yield from _lag(plan, progress, work)
    yield from _idle(plan, progress, work)


def _functions(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    figures: dict[int, dict[str, float]] = {}
    counts = (10, 100) if plan.quick else (10, 100, 1000)
    for count in counts:
        progress(f"scale: {count} functions")
        arguments = {"folder": str(work / f"functions-{count}")}
        with Worker("probes:Functions", env={"BENCH_WORK": str(work)}, **arguments) as worker:
            worker.call("lay_out", count=count)
            worker.call("start", patience=300)  # compiles, so that the AOT cache has them
        with Worker("probes:Functions", env={"BENCH_WORK": str(work)}, **arguments) as worker:
            figures[count] = worker.call("start", patience=300) | {"lookup": worker.call("lookup")}
    few, many = counts[0], counts[-1]
    yield Row(
        f"scale/functions-{many}/memory",
        f"memory for each loaded small function, between {few} and {many}",
        (figures[many]["bytes"] - figures[few]["bytes"]) / (many - few) / KB,
        "lower",
        "KB",
        goal=300,
    )
    for count in counts:
        yield Row(
            f"scale/functions-{count}/start",
            f"start with {count} functions in the AOT cache, each",
            figures[count]["ms"] / count,
            "lower",
            "ms",
            checked=False,
        )
    yield Row(
        f"scale/functions-{many}/lookup",
        f"lookup of a function by name among {many} / among {few}",
        figures[many]["lookup"] / figures[few]["lookup"],
        "lower",
        ours=figures[many]["lookup"],
        theirs=figures[few]["lookup"],
        measure="ns",
        against=f"{few} functions",
        checked=False,
    )


def _rules(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    counts = [10, 10_000] if plan.quick else [10, 100, 1000, 10_000]
    with Worker("probes:Rules", env={"BENCH_WORK": str(work)}, counts=counts) as worker:
        contenders = {str(count): partial(worker.call, "round", count=count) for count in counts}
        times = interleave(contenders, plan.pick(5, 15), progress, "scale, rules")
    few = times["10"]
    for count in counts[1:]:
        yield Row(
            f"scale/rules-{count}/lookup",
            f"lookup among {count:,} rules / among 10",
            ratio(times[str(count)], few),
            "lower",
            goal=1.2 if count == 10_000 else None,
            ours=statistics.median(times[str(count)]),
            theirs=statistics.median(few),
            measure="ns",
            against="10 rules",
        )


def _suspended(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    for count in (100,) if plan.quick else (1, 10, 100, 1000):
        progress(f"scale: {count} sleeping guests")
        with Worker("probes:Suspended", env={"BENCH_WORK": str(work)}, most=count) as worker:
            figures = worker.call("measure", count=count)
        yield Row(
            f"scale/suspended-{count}/total",
            f"memory for each of {count:,} sleeping guests, its own pages included",
            figures["bytes"] / KB,
            "lower",
            "KB",
            checked=count >= 100,
        )
        yield Row(
            f"scale/suspended-{count}/beyond",
            f"memory for each of {count:,} sleeping guests, beyond its own pages",
            (figures["bytes"] - figures["own"]) / KB,
            "lower",
            "KB",
            goal=100 if count >= 100 else None,
            checked=count >= 100,
        )


def _lag(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    seconds = plan.pick(1, 4)
    with Worker("probes:Lag", env={"BENCH_WORK": str(work)}) as worker:
        for busy in (0, 8) if plan.quick else (0, 1, 2, 8, 32):
            late: dict[str, list[float]] = {"guests": [], "threads": []}
            for number in range(plan.pick(1, 3)):
                for kind in ("guests", "threads") if busy else ("guests",):
                    progress(f"scale: lag with {busy} busy {kind}, round {number + 1}")
                    late[kind].append(worker.call(kind, busy=busy, seconds=seconds)["p99"])
            yield Row(
                f"scale/lag-{busy}/p99",
                f"event loop late by, p99, with {busy} busy guests",
                statistics.median(late["guests"]),
                "lower",
                "ms",
                goal=15 if busy == 8 else None,
                checked=False,
            )
            if busy:
                yield Row(
                    f"scale/lag-{busy}/threads",
                    f"lateness p99 with {busy} busy Python thread{'s' * (busy > 1)} / with {busy} busy guests",
                    ratio(late["threads"], late["guests"]),
                    "higher",
                    ours=statistics.median(late["guests"]),
                    theirs=statistics.median(late["threads"]),
                    measure="ms",
                    against="Python threads",
                    checked=False,
                )


def _idle(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    resident: dict[str, list[float]] = {"ours:one": [], "native:app": []}
    for _ in range(plan.pick(1, 3)):
        for app, figures in resident.items():
            progress(f"scale: idle memory of {app}")
            with uvicorn(app, work, path="/job", cpu=None) as server:
                time.sleep(1)
                figures.append(psutil.Process(server.pid).memory_info().rss / MB)
    ours, theirs = (statistics.median(each) for each in resident.values())
    yield Row(
        "scale/idle/memory",
        "memory of an idle process with one function, more than without the middleware",
        ours - theirs,
        "lower",
        "MB",
        goal=20,
        ours=ours,
        theirs=theirs,
        measure="MB",
        against="the app without the middleware",
    )
