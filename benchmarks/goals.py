"""The goals, and what came of each."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from .measure import Row
from .report import cells

GOALS = (
    ("in-process, small guest, fresh instance: plain recipe / ours", "at least 8", ("inprocess/job/plain",)),
    ("in-process p50", "at most 40 µs", ("inprocess/job/p50",)),
    ("in-process p99 / p50", "at most 3", ("inprocess/job/tail",)),
    ("HTTP: middleware-mapped function / native Starlette route", "at least 1.0", ("http/middleware/native/*",)),
    ("HTTP: `wasm_route` with a Python handler / native route", "at least 0.75", ("http/route/native/*",)),
    (
        "HTTP: function in one worker / `wasmtime serve` with its default threads",
        "at least 1.2",
        ("http/middleware/wasmtime-serve/*",),
    ),
    ("HTTP: function / plain recipe", "at least 3", ("http/middleware/plain/*",)),
    ("HTTP: function / extism", "at least 3", ("http/middleware/extism/*",)),
    ("HTTP: function / jco serve", "at least 3", ("http/middleware/jco/*",)),
    ("HTTP: function / workerd with a fresh isolate", "at least 3", ("http/middleware/workerd/*",)),
    ("from code in the AOT cache to the first response", "at most 1 ms", ("cold/cached/time",)),
    ("idle process with one function, more than without the middleware", "at most 20 MB", ("scale/idle/memory",)),
    ("memory for each further loaded small function", "at most 300 KB", ("scale/functions-*/memory",)),
    ("memory for each suspended guest, beyond its own pages", "at most 100 KB", ("scale/suspended-*/beyond",)),
    ("lookup among 10,000 rules / among 10", "at most 1.2", ("scale/rules-10000/lookup",)),
    ("loop lag p99 with 8 busy guests on 2 cores", "at most 15 ms", ("scale/lag-8/p99",)),
    ("CPU-heavy guest: speed / the same code native", "at least 0.6", ("cpu/mandelbrot/native", "cpu/sha256/native")),
    ("OpenTelemetry API installed, no SDK: share of an invocation", "at most 3 %", ("otel/calls/*",)),
)  # fmt: skip
"""What is to be reached, the bound in words, and the ids of the figures that show it."""
HEAD = ("goal", "bound", "measured", "")


def verdicts(rows: Iterable[Row]) -> list[tuple[str, str, str, str]]:
    """Return a line for each goal: what, its bound, the figures, and ``met``, ``MISSED`` or ``not measured``."""
    known = list(rows)
    lines = []
    for title, bound, patterns in GOALS:
        found = [row for row in known if row.goal is not None and any(fnmatchcase(row.id, each) for each in patterns)]
        figures = "; ".join(f"{cells(row)[1]}{_at(row)}" for row in found)
        mets = [row.met for row in found]
        verdict = "MISSED" if False in mets else "met" if True in mets else "not measured"
        lines.append((title, bound, figures, verdict))
    return lines


def _at(row: Row) -> str:
    """Return what tells the figures of a goal apart."""
    last = row.id.rpartition("/")[2]
    if row.group == "http":
        return f" at {last}"
    if row.group == "cpu":
        return f" ({row.id.split('/')[1]})"
    if row.group == "otel":
        return f" ({last})"
    number = row.id.split("/")[1].partition("suspended-")[2]
    return f" of {number}" if number else ""
