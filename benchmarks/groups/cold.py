"""From nothing to the first answer: compiling, from the AOT cache, and of a whole process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ..measure import Plan, Progress, Row, interleave, ratio
from ..processes import ROOT, Worker

_LABELS = {"cached": "from code on disk to the first answer", "compile": "compile and first answer"}


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    env = {"BENCH_WORK": str(work)}
    with Worker("probes:Cold", env=env) as ours, Worker("plain:Cold", env=env) as plain:
        times: dict[str, dict[str, list[float]]] = {kind: {"ours": [], "plain": []} for kind in _LABELS}

        def one(name: str, worker: Worker) -> float:
            figures = worker.call("round")
            for kind, value in figures.items():
                times[kind][name].append(value)
            return 0.0

        contenders = {"ours": partial(one, "ours", ours), "plain": partial(one, "plain", plain)}
        for worker in (ours, plain):
            worker.call("round")
        interleave(contenders, plan.pick(10, 50), _every_tenth(progress), "cold")
    for kind, label in _LABELS.items():
        median = {name: statistics.median(each) for name, each in times[kind].items()}
        if kind == "cached":
            yield Row(
                "cold/cached/time",
                f"small C guest, {label}",
                median["ours"],
                "lower",
                "ms",
                goal=1,
                checked=False,
            )
        yield Row(
            f"cold/{kind}/plain",
            f"small C guest, {label}: plain recipe / ours",
            ratio(times[kind]["plain"], times[kind]["ours"]),
            "higher",
            ours=median["ours"],
            theirs=median["plain"],
            measure="ms",
            against="plain wasmtime-py recipe",
        )
    processes = interleave(
        {"ours": partial(_process, "ours:InProcess", work), "plain": partial(_process, "plain:InProcess", work)},
        plan.pick(2, 7),
        progress,
        "cold, a process",
    )
    yield Row(
        "cold/process/plain",
        "a whole process, from exec to its first answer: ours / plain recipe",
        ratio(processes["ours"], processes["plain"]),
        "lower",
        ours=statistics.median(processes["ours"]),
        theirs=statistics.median(processes["plain"]),
        measure="ms",
        against="plain wasmtime-py recipe",
    )


def _every_tenth(progress: Progress) -> Progress:
    def say(text: str) -> None:
        if "0 of" in text:
            progress(text)

    return say  # type: ignore[return-value]


def _process(target: str, work: Path) -> float:
    module, name = target.split(":")
    code = f"from benchmarks.contenders.{module} import {name}; {name}().answer()"
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "BENCH_WORK": str(work)},
        stderr=subprocess.DEVNULL,  # the plain recipe may panic as it exits
        check=True,
        timeout=60,
    )
    return (time.perf_counter() - begin) * 1e3
