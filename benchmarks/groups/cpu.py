"""A guest that computes, against the same C source native and against Python."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from .. import wrk
from ..layout import native_library
from ..measure import Plan, Progress, Row, interleave, ratio
from ..processes import Failed, Worker, uvicorn

_TITLES = {"mandelbrot": "Mandelbrot, 256 by 256", "sha256": "SHA-256 over 1 MiB"}


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    for guest, title in _TITLES.items():
        has_native = native_library(work, guest) is not None
        yield from _inprocess(guest, title, has_native, plan, progress, work)
    if plan.wrk is not None:
        for workers in (1,) if plan.quick else (1, 2):
            yield from _http(workers, has_native, plan, progress, work)


def _inprocess(guest: str, title: str, has_native: bool, plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    contenders = {"ours": ("ours:InProcess", guest), "python": ("native:InProcess", guest)}
    if has_native:
        contenders["native"] = ("native:InProcess", f"native-{guest}")
    with ExitStack() as stack:
        workers = {}
        for name, (target, function) in contenders.items():
            worker = stack.enter_context(Worker(target, env={"BENCH_WORK": str(work)}, function=function))
            workers[name] = worker
        answers = {worker.call("answer") for worker in workers.values()}
        if len(answers) != 1:
            raise Failed(f"{guest}: the contenders disagree: {answers}")

        def one(name: str) -> float:
            slow = name == "python" and guest == "mandelbrot"
            p50: float = workers[name].call("round", calls=1 if slow else 20)["p50"]
            return p50 / 1e3

        times = interleave({name: partial(one, name) for name in workers}, plan.pick(3, 9), progress, f"cpu, {title}")
    median = {name: statistics.median(each) for name, each in times.items()}
    labels = {"native": "the same C, native", "python": "hashlib" if guest == "sha256" else "Python"}
    for name, label in labels.items():
        if name in times:
            yield Row(
                f"cpu/{guest}/{name}",
                f"{title}: speed of the guest / {label}",
                ratio(times[name], times["ours"]),
                "higher",
                goal=0.6 if name == "native" else None,
                ours=median["ours"],
                theirs=median[name],
                measure="ms",
                against=label,
            )


def _http(count: int, has_native: bool, plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    paths = {"ours": "/mandelbrot", "python": "/mandelbrot"}
    if has_native:
        paths["native"] = "/native-mandelbrot"
    with ExitStack() as stack:
        urls = {}
        for name, path in paths.items():
            app = "ours:app" if name == "ours" else "native:app"
            urls[name] = stack.enter_context(uvicorn(app, work, path=path, workers=count, cpu=None)).url

        def load(name: str) -> float:
            return wrk.run(str(plan.wrk), urls[name], connections=8, seconds=plan.pick(2, 3)).rate

        what = f"cpu over HTTP, {count} worker{'s' * (count > 1)}"
        rates = interleave({name: partial(load, name) for name in urls}, plan.pick(1, 5), progress, what)
    labels = {"native": "the same C in a thread of a route", "python": "the same Python in a route"}
    for name, label in labels.items():
        if name in rates:
            yield Row(
                f"cpu/http-{count}/{name}",
                f"Mandelbrot over HTTP, {count} uvicorn worker{'s' * (count > 1)}: guest / {label}",
                ratio(rates["ours"], rates[name]),
                "higher",
                ours=statistics.median(rates["ours"]),
                theirs=statistics.median(rates[name]),
                measure="req/s",
                against=label,
            )
