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


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        progress("instructions: left out, there is no valgrind (apt-get install valgrind)")
        return
    calls = 200
    progress("instructions: callgrind, about a minute")
    out = work / "callgrind"
    done = subprocess.run(
        [valgrind, "--tool=callgrind", f"--callgrind-out-file={out}", f"--dump-before={MARK}*",
         sys.executable, "-m", "benchmarks.contenders.counted", str(calls)],
        cwd=ROOT, env={**os.environ, "BENCH_WORK": str(work), "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, check=False,
    )  # fmt: skip
    dumps = [_total(Path(f"{out}.{number}")) for number in range(1, 9) if Path(f"{out}.{number}").exists()]
    if done.returncode or len(dumps) != 8:
        raise Failed(f"callgrind ended with {done.returncode}, {len(dumps)} dumps:\n{done.stdout[-2000:]}")
    counts = dict(zip(("invoke", "middleware", "route", "native"), (n / calls for n in dumps[1::2]), strict=True))
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


def _total(dump: Path) -> int:
    """Of callgrind's file format: ``summary:`` or ``totals:`` and the count of instructions."""
    found = re.search(r"^(?:summary|totals): (\d+)", dump.read_text(errors="replace"), re.MULTILINE)
    return int(found[1]) if found else 0
