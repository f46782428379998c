"""Measures this package against its peers; every figure a ratio within one run. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType

import psutil

from . import goals, machine, peers, plot, report, runs, wrk
from .groups import bodies, cold, compute, cpu, http, inprocess, instructions, limits, otel, production, scale, workers
from .layout import lay_out
from .measure import OutOfTime, Plan, Progress, Row
from .processes import ROOT, Failed

GROUPS = {
    "inprocess": inprocess.run,
    "http": http.run,
    "bodies": bodies.run,
    "cpu": cpu.run,
    "cold": cold.run,
    "scale": scale.run,
    "limits": limits.run,
    "otel": otel.run,
    "production": production.run,
    "compute": compute.run,
    "workers": workers.run,
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
    "otel": "OpenTelemetry",
    "production": "What production sends",
    "compute": "Beside requests that compute",
    "workers": "Several processes",
    "instructions": "Instructions",
}
_NEED_WRK = ("http", "bodies", "production", "compute", "workers")
_FULL_ONLY = ("instructions",)
_ASKED_ONLY = ("production", "compute", "workers")
"""What takes many minutes more, and is measured by --only."""
BASELINE = Path(__file__).parent / "baseline.json"
PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = {"benchmarks.svg": partial(plot.throughput, connections=64), "benchmarks-production.svg": plot.production}
"""By their files in docs/."""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)
    mode = "quick" if options.quick else "full"
    names = (
        options.only
        or (["workers"] if options.workers else None)
        or [name for name in GROUPS if name not in _ASKED_ONLY and not (options.quick and name in _FULL_ONLY)]
    )
    done = {}
    if options.resume:
        done = {name: run for name, run in runs.read(options.resume).items() if name in names and run.mode == mode}
        print(f"{options.resume}: has {', '.join(done) or 'nothing of this run'}", file=sys.stderr)
    available = peers.installed() if options.quick else peers.install()
    described = machine.describe()
    for key, value in described.items():
        print(f"{key:14} {value}", flush=True)
    plan = Plan(options.quick, wrk.find(), available, options.workers)
    run = _Run(plan, mode, described, Progress(most=60 * (options.most or (4 if options.quick else 18))))
    whole = run.measure([name for name in names if name not in done], options.json or options.resume, done)
    rows = runs.all_rows(done.values())
    if options.write_docs:
        _write(done)
    _summary(rows, options.only is None)
    if options.check and not _check(rows, options.margin):
        return 1
    return 0 if whole else 1


@dataclass(frozen=True)
class _Run:
    plan: Plan
    mode: str
    machine: dict[str, str]
    progress: Progress

    def measure(self, names: list[str], file: Path | None, done: dict[str, runs.GroupRun]) -> bool:
        """Measure groups, print them and add them to ``done``, and to a file one by one. False if one failed."""
        whole = True
        for number, name in enumerate(names, 1):
            self.progress(f"{name}: group {number} of {len(names)}")
            try:
                found = self._group(name)
            except (Failed, OSError, TimeoutError, subprocess.SubprocessError) as error:
                self.progress.done()
                print(f"{name}: failed: {error}", file=sys.stderr)
                whole = False
                continue
            except OutOfTime as error:
                self.progress.done()
                print(f"ended: {error}; --json FILE and --resume FILE go on from there", file=sys.stderr)
                return False
            self.progress.done()
            if found:
                print(report.text_table(found), flush=True)
                day = datetime.now(UTC).date().isoformat()
                done[name] = runs.GroupRun(name, tuple(found), self.mode, day, self.machine)
                if file is not None:
                    runs.write(file, done.values())
        return whole

    def _group(self, name: str) -> list[Row]:
        if self.plan.wrk is None and name in _NEED_WRK:
            print(f"{name}: left out, there is no wrk (apt-get install wrk)", file=sys.stderr)
            return []
        _warn_if_busy(name)
        with tempfile.TemporaryDirectory(prefix="starlette-wasm-bench-") as folder:
            return list(GROUPS[name](self.plan, self.progress, lay_out(Path(folder))))


def _warn_if_busy(name: str) -> None:
    busy = psutil.cpu_percent(1.0) * (psutil.cpu_count() or 1)
    if busy > 15:
        print(f"{name}: other processes take {busy:.0f} % of a core: expect figures that are off", file=sys.stderr)


def _summary(rows: list[Row], whole: bool) -> None:
    """Print each goal with what was measured; of a run of some groups, only the goals that it has figures for."""
    print("\ngoals")
    for title, bound, figures, verdict in goals.verdicts(rows):
        if figures or whole:
            print(f"  {verdict:12}  {title}, {bound}: {figures or '-'}")


def _check(rows: list[Row], margin: float) -> bool:
    if not BASELINE.exists():
        print("no benchmarks/baseline.json: make it with scripts/bench --write-docs", file=sys.stderr)
        return False
    worse, compared = report.check(rows, runs.all_rows(runs.read(BASELINE).values()), margin)
    print(f"{compared} figures held against benchmarks/baseline.json, margin {margin:.0%}: {len(worse)} worse")
    for row in rows:
        if row.value is None:
            print(f"  not compared: {row.title}: {row.note}")
    for each in worse:
        print(f"  worse: {each}")
    return compared > 0 and not worse


def _write(measured: dict[str, runs.GroupRun]) -> None:
    """Put the groups that were measured in the place of the ones in the baseline, and write the page of them all."""
    groups = runs.read(BASELINE) | measured
    groups = {name: groups[name] for name in GROUPS if name in groups}
    runs.write(BASELINE, groups.values())
    rows = runs.all_rows(groups.values())
    report.write_docs(PAGE, groups, HEADINGS, goals.verdicts(rows), goals.HEAD)
    for name, draw in PLOTS.items():
        drawing = draw(rows)
        if drawing is not None:
            (ROOT / "docs" / name).write_text(drawing)
    print(f"\nwritten: {BASELINE.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}, and docs/{', docs/'.join(PLOTS)}")


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # so that servers are stopped on the way out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--full", action="store_true", help="all peers and all sizes, 18 minutes at most (default)")
    mode.add_argument("--quick", action="store_true", help="under two minutes, without the peers to install")
    parser.add_argument("--only", action="append", choices=GROUPS, metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--workers", type=int, metavar="N", help="measure 1 to N server processes (group workers)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file, group by group")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="of --json: measure only what it lacks, and add it")
    parser.add_argument("--most", type=float, metavar="MINUTES", help="end there (default: 18, with --quick 4)")
    parser.add_argument("--check", action="store_true", help="exit 1 where a ratio is worse than the committed one")
    parser.add_argument("--margin", type=float, default=report.MARGIN, help="of --check (default: %(default)s)")
    parser.add_argument("--write-docs", action="store_true", help="put what was measured into the docs and baseline")
    return parser


if __name__ == "__main__":
    sys.exit(main())
