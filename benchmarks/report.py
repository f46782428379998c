"""What a run says: tables, the check against the baseline, and the page of the docs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .measure import RATIO, Row
from .runs import LOAD, GroupRun

MARGIN = 0.25
"""By how much a figure may be worse than the baseline."""
SLACK = {"KB": 10.0, "MB": 1.0}
"""And this much in any case, in its unit: for figures near nothing."""
_BEGIN, _END = "<!-- figures: written by scripts/bench --write-docs -->", "<!-- end of figures -->"
_HEAD = ("figure", "ratio or value", "ours", "the other", "goal")


def number(value: float) -> str:
    """Write three digits that count, with separators: 9,820, 31.2, 0.32, 0.005."""
    size = abs(value)
    if size >= 1000:
        digits = 0 if size >= 9995 else -1
        return f"{round(value, digits):,.0f}"
    if size >= 99.95:
        return f"{value:.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.01 or value == 0 else f"{value:.2g}"


def cells(row: Row) -> tuple[str, str, str, str, str]:
    if row.value is None:
        return row.title, f"none: {row.note}", "", "", ""
    value = number(row.value) + ("" if row.unit == RATIO else f" {row.unit}".rstrip())
    ours = "" if row.ours is None else f"{number(row.ours)} {row.measure}"
    theirs = "" if row.theirs is None else f"{number(row.theirs)} {row.measure}"
    goal = ""
    if row.goal is not None:
        bound = "at least" if row.better == "higher" else "at most"
        goal = f"{bound} {row.goal:g}: {'met' if row.met else 'MISSED'}"
    return row.title, value, ours, theirs, goal


def text_table(rows: Sequence[Row]) -> str:
    """Write the table for a terminal, one block a group."""
    lines: list[str] = []
    for group, members in grouped(rows).items():
        table = [_HEAD, *map(cells, members)]
        widths = [max(len(line[i]) for line in table) for i in range(len(_HEAD))]
        lines += ["", group]
        for line in table:
            parts = [line[0].ljust(widths[0])] + [line[i].rjust(widths[i]) for i in (1, 2, 3)] + [line[4]]
            lines.append("  " + "  ".join(parts).rstrip())
    return "\n".join(lines)


def markdown_table(rows: Iterable[Row]) -> str:
    lines = [f"| {' | '.join(_HEAD)} |", "| --- | ---: | ---: | ---: | --- |"]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    return "\n".join(lines)


def grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups


@dataclass(frozen=True)
class Worse:
    """A figure that is worse than the baseline allows."""

    title: str
    value: float
    baseline: float
    bound: float

    def __str__(self) -> str:
        return f"{self.title}: {number(self.value)}, was {number(self.baseline)}, bound {number(self.bound)}"


def check(rows: Iterable[Row], baseline: Iterable[Row], margin: float = MARGIN) -> tuple[list[Worse], int]:
    """Find what is worse than the baseline by more than the margin, and how many figures were compared.

    Only ratios and memory are: times depend on the machine. Figures that either lacks, and broken
    peers, are passed over.
    """
    before = {row.id: row.value for row in baseline}
    worse, compared = [], 0
    for row in rows:
        was = before.get(row.id)
        if not row.checked or row.value is None or was is None:
            continue
        compared += 1
        allowed = margin if row.margin is None else row.margin
        if row.better == "higher":
            bound = was * (1 - allowed)
            failed = row.value < bound
        else:
            bound = max(was, 0) * (1 + allowed) + SLACK.get(row.unit, 0.0)
            failed = row.value > bound
        if failed:
            worse.append(Worse(row.title, row.value, was, bound))
    return worse, compared


def write_docs(
    page: Path,
    groups: Mapping[str, GroupRun],
    headings: Mapping[str, str],
    verdicts: Sequence[tuple[str, ...]],
    head: tuple[str, ...],
) -> None:
    """Put the figures between the marks of the page: the goals, then each group in the order of ``headings``."""
    parts = ["### Goals\n\n" + _markdown(head, verdicts)]
    machines: list[Mapping[str, str]] = []
    for name, heading in headings.items():
        if name not in groups:
            continue
        group = groups[name]
        machine: Mapping[str, str] = {what: value for what, value in group.machine.items() if what != LOAD}
        if machine not in machines:
            machines.append(machine)
        which = f"machine {machines.index(machine) + 1}"
        if LOAD in group.machine:
            which += f", {LOAD} {group.machine[LOAD]}"
        parts.append(f"### {heading}\n\n{group.date}, a {group.mode} run, {which}\n\n{markdown_table(group.rows)}")
    for number, machine in enumerate(machines, 1):
        parts.append(f"### Machine {number}\n\n" + _markdown(("what", "version"), list(machine.items())))
    text = page.read_text()
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    page.write_text(f"{before}{_BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{_END}{after}")


def _markdown(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
