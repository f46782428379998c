"""What telemetry costs: the API alone, an SDK that drops all, and one that keeps all, against none."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from .. import wrk
from ..measure import Plan, Progress, Row, interleave, ratio
from ..processes import Worker, uvicorn

_LABELS = {
    "api": "API installed, no SDK",
    "dropped": "SDK that samples nothing",
    "sampled": "SDK that samples all, batched, to an exporter that does nothing",
}
_KINDS = ("removed", *_LABELS)
_GOAL = 3.0
"""Percent of an invocation, if nobody listens."""


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    yield from _inprocess(plan, progress, work)
    if plan.wrk is not None:
        yield from _http(plan, progress, work)


def _inprocess(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    shares: dict[str, list[float]] = {"invoke": [], "request": []}
    costs: dict[str, list[float]] = {"invoke": [], "request": []}
    with ExitStack() as stack:
        workers = {
            kind: stack.enter_context(Worker("telemetries:InProcess", env={"BENCH_WORK": str(work)}, kind=kind))
            for kind in _KINDS
        }

        def one(kind: str) -> float:
            p50: float = workers[kind].call("round", calls=plan.pick(300, 1000))["p50"]
            if kind == "api":
                for each, taken in workers[kind].call("calls", count=5000).items():
                    costs[each].append(taken)
                    shares[each].append(100 * taken / p50)
            return p50

        contenders = {kind: partial(one, kind) for kind in workers}
        interleave(contenders, 1, progress, "otel, in-process, warm-up")
        times = interleave(contenders, plan.pick(7, 21), progress, "otel, in-process")
    for each, label in (("invoke", "of an invocation"), ("request", "of an HTTP request")):
        yield Row(
            f"otel/calls/{each}",
            f"API installed, no SDK: the telemetry's calls {label}, as a share of `runtime.invoke`",
            statistics.median(shares[each]),
            "lower",
            "%",
            goal=_GOAL,
            ours=statistics.median(costs[each]),
            theirs=statistics.median(times["api"]),
            measure="µs",
            against="the whole invocation",
            checked=False,
        )
    for kind, label in _LABELS.items():
        yield Row(
            f"otel/inprocess/{kind}",
            f"in-process, {label}: time / that without telemetry",
            ratio(times[kind], times["removed"]),
            "lower",
            ours=statistics.median(times[kind]),
            theirs=statistics.median(times["removed"]),
            measure="µs",
            against="without telemetry",
        )


def _http(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    with ExitStack() as stack:
        urls = {
            kind: stack.enter_context(uvicorn("telemetries:app", work, path="/job", env={"BENCH_TELEMETRY": kind})).url
            for kind in _KINDS
        }

        def load(kind: str) -> float:
            return wrk.run(str(plan.wrk), urls[kind], connections=8, seconds=1).rate

        contenders = {kind: partial(load, kind) for kind in urls}
        interleave(contenders, 1, progress, "otel over HTTP, warm-up")
        rates = interleave(contenders, plan.pick(3, 9), progress, "otel over HTTP")
    for kind, label in _LABELS.items():
        yield Row(
            f"otel/http/{kind}",
            f"over HTTP, 8 connections, {label}: throughput / that without telemetry",
            ratio(rates[kind], rates["removed"]),
            "higher",
            ours=statistics.median(rates[kind]),
            theirs=statistics.median(rates["removed"]),
            measure="req/s",
            against="without telemetry",
        )
