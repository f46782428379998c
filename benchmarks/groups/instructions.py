"""Instructions a request, by callgrind: repeatable where time is not. Needs valgrind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ..contenders import MARK
from ..measure import Plan, Progress, Row
from ..processes import ROOT, Failed

MARGIN = 0.05
"""Counts repeat to within half a percent."""
_LABELS = {"middleware": "middleware-mapped function", "route": "`wasm_route` with a Python handler"}


CONTENDERS = ("invoke", "middleware", "route", "native")
"""In the order in which contenders/counted.py calls them."""
CALLS = 200
"""Of each, when it is warm."""


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    if shutil.which("valgrind") is None:
        progress("instructions: left out, there is no valgrind (apt-get install valgrind)")
        return
    progress("instructions: callgrind, about a minute")
    dumps = callgrind(work)
    counts = {name: _total(dump) / CALLS for name, dump in zip(CONTENDERS, dumps, strict=True)}
    yield Row(
        "instructions/invoke",
        "instructions: `runtime.invoke` of the small C guest",
        counts["invoke"] / 1e3,
        "lower",
        "k",
        margin=MARGIN,
    )
    for name, label in _LABELS.items():
        yield Row(
            f"instructions/{name}/native",
            f"instructions: {label} / native Starlette route, without a server",
            counts[name] / counts["native"],
            "lower",
            ours=counts[name] / 1e3,
            theirs=counts["native"] / 1e3,
            measure="k",
            against="native Starlette route",
            margin=MARGIN,
        )


def callgrind(work: Path) -> list[Path]:
    """Run callgrind, and return a file of counters for each of CONTENDERS, of CALLS calls."""
    out = work / "callgrind"
    # With its children: what compiles must see the processor that valgrind shows.
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={out}.%p",
         f"--dump-before={MARK}*",
         sys.executable, "-m", "benchmarks.contenders.counted", str(CALLS)],
        cwd=ROOT, env={**os.environ, "BENCH_WORK": str(work), "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, check=False,
    )  # fmt: skip
    # A mark before and after the calls of each: what comes before the first of two is the warm-up.
    dumps = sorted(work.glob("callgrind.*.[0-9]"), key=lambda file: file.suffix)
    if done.returncode or len(dumps) != 2 * len(CONTENDERS):
        raise Failed(f"callgrind ended with {done.returncode}, {len(dumps)} dumps:\n{done.stdout[-2000:]}")
    return dumps[1::2]


def _total(dump: Path) -> int:
    """Read ``summary:`` or ``totals:`` and the count of instructions in callgrind's file format."""
    found = re.search(r"^(?:summary|totals): (\d+)", dump.read_text(errors="replace"), re.MULTILINE)
    return int(found[1]) if found else 0
