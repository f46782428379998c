"""Without HTTP: ``runtime.invoke`` against the plain recipe, extism, and the same logic in Python."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from .. import peers
from ..measure import Plan, Progress, Row, interleave, ratio
from ..processes import Failed, Worker

_TITLES = {"job": "small C guest", "edge-processor": "Rust edge-processor"}
_ANSWERS = {"job": "hello", "edge-processor": "310f923099"}


_ORDINARY = {"stdio": ("ordinary wasi-libc guest", 1.1), "edge-processor": ("Rust edge-processor", 2.0)}


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    yield from _against_peers(plan, progress, work)
    yield from _ordinary(plan, progress, work)


def _ordinary(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    """Yield what guests that are written as usual take, against the one that is written for the benchmark."""
    with ExitStack() as stack:
        names = ("job", *_ORDINARY)
        workers = {
            name: stack.enter_context(Worker("ours:InProcess", env={"BENCH_WORK": str(work)}, function=name))
            for name in names
        }
        for worker in workers.values():
            worker.call("round", calls=300)
        p99: dict[str, list[float]] = {name: [] for name in names}
        rounds = _rounds(workers, p99, plan.pick(300, 1000))
        p50 = interleave(rounds, plan.pick(7, 21), progress, "in-process, ordinary guests")
    for name, (title, goal) in _ORDINARY.items():
        yield Row(
            f"inprocess/ordinary/{name}",
            f"{title} / small C guest",
            ratio(p50[name], p50["job"]),
            "lower",
            goal=goal,
            ours=statistics.median(p50[name]),
            theirs=statistics.median(p50["job"]),
            measure="µs",
            against="small C guest",
        )


def _against_peers(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    for function, title in _TITLES.items():
        contenders = {"ours": "ours:InProcess", "plain": "plain:InProcess", "python": "native:InProcess"}
        env = {"BENCH_WORK": str(work)}
        if function == "job" and "extism" in plan.peers:
            contenders["extism"] = "extism_peer:InProcess"
        broken: dict[str, str] = {}
        if function == "job" and not plan.quick and "extism" not in plan.peers:
            broken["extism"] = "is not installed"
        with ExitStack() as stack:
            workers = {}
            for name, target in contenders.items():
                path = {"PYTHONPATH": peers.python_path_with_root()} if name == "extism" else {}
                worker = stack.enter_context(Worker(target, env=env | path, function=function))
                try:
                    answer = worker.call("answer")
                    if _ANSWERS[function] not in answer:
                        raise Failed(f"{name} answered {answer!r}")
                    worker.call("round", calls=300)
                except Failed as error:
                    if name != "extism":
                        raise
                    broken[name] = error.reason
                else:
                    workers[name] = worker
            p99: dict[str, list[float]] = {name: [] for name in workers}
            p50 = interleave(
                _rounds(workers, p99, plan.pick(300, 1000)), plan.pick(7, 21), progress, f"in-process, {title}",
                peers=("extism",), broken=broken,
            )  # fmt: skip
        yield from _rows(function, title, p50, p99)
        for name, reason in broken.items():
            yield Row(
                f"inprocess/{function}/{name}",
                f"{title}: {name} / ours",
                None,
                "higher",
                against=name,
                note=reason,
            )


def _rounds(workers: Mapping[str, Worker], p99: dict[str, list[float]], calls: int) -> dict[str, Callable[[], float]]:
    def one(name: str) -> float:
        figures = workers[name].call("round", calls=calls)
        p99[name].append(figures["p99"])
        p50: float = figures["p50"]
        return p50

    return {name: partial(one, name) for name in workers}


def _rows(function: str, title: str, p50: dict[str, list[float]], p99: dict[str, list[float]]) -> Iterator[Row]:
    small = function == "job"
    ours = p50["ours"]
    median = {name: statistics.median(each) for name, each in p50.items()}

    def against(name: str, label: str, goal: float | None = None) -> Row:
        return Row(
            f"inprocess/{function}/{name}",
            f"{title}: {label} / ours",
            ratio(p50[name], ours),
            "higher",
            goal=goal,
            ours=median["ours"],
            theirs=median[name],
            measure="µs",
            against=label,
        )

    yield against("plain", "plain wasmtime-py recipe", 8 if small else None)
    if "extism" in p50:
        yield against("extism", "extism")
    yield against("python", "the same logic in Python")
    yield Row(
        f"inprocess/{function}/p50",
        f"{title}: p50",
        median["ours"],
        "lower",
        "µs",
        goal=40 if small else None,
        checked=False,
    )
    tail = statistics.median(p99["ours"])
    yield Row(
        f"inprocess/{function}/tail",
        f"{title}: p99 / p50",
        ratio(p99["ours"], ours),
        "lower",
        goal=3 if small else None,
        ours=tail,
        theirs=median["ours"],
        measure="µs",
        against="its p50",
        checked=False,
    )
