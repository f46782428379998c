"""Measures this package against its peers; every figure a ratio within one run. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

import psutil

from . import machine, peers, plot, report, wrk
from .groups import bodies, cold, cpu, http, inprocess, instructions, limits, scale
from .layout import lay_out
from .measure import Plan, Progress, Row
from .processes import ROOT, Failed

GROUPS = {
    "inprocess": inprocess.run,
    "http": http.run,
    "bodies": bodies.run,
    "cpu": cpu.run,
    "cold": cold.run,
    "scale": scale.run,
    "limits": limits.run,
    "instructions": instructions.run,
}
HEADINGS = {
    "inprocess": "In a process, without HTTP",
    "http": "Over HTTP",
    "bodies": "Bodies",
    "cpu": "Guests that compute",
    "cold": "Cold starts",
    "scale": "Scale",
    "limits": "Limits",
    "instructions": "Instructions",
}
_NEED_WRK = ("http", "bodies")
_FULL_ONLY = ("instructions",)
BASELINE = Path(__file__).parent / "baseline.json"
PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "benchmarks.svg"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)
    available = peers.installed() if options.quick else peers.install()
    plan = Plan(options.quick, wrk.find(), available)
    names = options.only or [name for name in GROUPS if not (options.quick and name in _FULL_ONLY)]
    described = machine.describe()
    for key, value in described.items():
        print(f"{key:14} {value}", flush=True)
    progress = Progress()
    rows, failed = _measure(names, plan, progress)
    mode = "quick" if options.quick else "full"
    if options.json is not None:
        options.json.write_text(report.to_json(rows, described, mode))
    if options.write_docs:
        if failed or options.only:
            print("not written: a full run without failures is needed", file=sys.stderr)
            return 1
        _write(rows, described, mode)
    _summary(rows)
    if options.check and not _check(rows, options.margin):
        return 1
    return 1 if failed else 0


def _measure(names: list[str], plan: Plan, progress: Progress) -> tuple[list[Row], bool]:
    rows: list[Row] = []
    failed = False
    for name in names:
        if plan.wrk is None and name in _NEED_WRK:
            print(f"{name}: left out, there is no wrk (apt-get install wrk)", file=sys.stderr)
            continue
        _warn_if_busy(name)
        found: list[Row] = []
        with tempfile.TemporaryDirectory(prefix="starlette-wasm-bench-") as folder:
            try:
                for row in GROUPS[name](plan, progress, lay_out(Path(folder))):
                    found.append(row)
            except (Failed, OSError, TimeoutError) as error:
                failed = True
                progress.done()
                print(f"{name}: failed: {error}", file=sys.stderr)
        progress.done()
        print(report.text_table(found), flush=True)
        rows += found
    return rows, failed


def _warn_if_busy(name: str) -> None:
    busy = psutil.cpu_percent(1.0) * (psutil.cpu_count() or 1)
    if busy > 15:
        print(f"{name}: other processes take {busy:.0f} % of a core: expect figures that are off", file=sys.stderr)


def _summary(rows: list[Row]) -> None:
    with_goal = [row for row in rows if row.goal is not None]
    missed = [row for row in with_goal if not row.met]
    print(f"\n{len(with_goal) - len(missed)} of {len(with_goal)} goals met")
    for row in missed:
        print(f"  missed: {row.title}: {report.cells(row)[1]}, goal {row.goal:g}")


def _check(rows: list[Row], margin: float) -> bool:
    if not BASELINE.exists():
        print("no benchmarks/baseline.json: make it with scripts/bench --write-docs", file=sys.stderr)
        return False
    worse, compared = report.check(rows, json.loads(BASELINE.read_text()), margin)
    print(f"{compared} figures held against benchmarks/baseline.json, margin {margin:.0%}: {len(worse)} worse")
    for each in worse:
        print(f"  worse: {each}")
    return compared > 0 and not worse


def _write(rows: list[Row], described: dict[str, str], mode: str) -> None:
    BASELINE.write_text(report.to_json(rows, described, mode))
    report.write_docs(PAGE, rows, described, HEADINGS)
    drawing = plot.throughput(rows, 64)
    if drawing is not None:
        PLOT.write_text(drawing)
    print(f"\nwritten: {BASELINE.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}, {PLOT.relative_to(ROOT)}")


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # so that servers are stopped on the way out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--full", action="store_true", help="all peers and all sizes, about twenty minutes (default)")
    mode.add_argument("--quick", action="store_true", help="under two minutes, without the peers to install")
    parser.add_argument("--only", action="append", choices=GROUPS, metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    parser.add_argument("--check", action="store_true", help="exit 1 where a ratio is worse than the committed one")
    parser.add_argument("--margin", type=float, default=report.MARGIN, help="of --check (default: %(default)s)")
    parser.add_argument("--write-docs", action="store_true", help="write docs/benchmarks.md, its plot, the baseline")
    return parser


if __name__ == "__main__":
    sys.exit(main())
