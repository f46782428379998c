"""What has been measured: the figures of each group, with the day, the machine and the versions they are from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .measure import Row

LOAD = "load before"
"""What of a machine's description is of one run."""


@dataclass(frozen=True)
class GroupRun:
    """One group's figures, all of one run."""

    name: str
    rows: tuple[Row, ...]
    mode: str
    """``full`` or ``quick``."""
    date: str
    """The day, YYYY-MM-DD."""
    machine: Mapping[str, str]


def read(file: Path) -> dict[str, GroupRun]:
    """Read the groups of a file that write() has written, by name; none if it is not there."""
    if not file.exists():
        return {}
    groups: dict[str, dict[str, Any]] = json.loads(file.read_text())["groups"]
    return {name: _group(name, entry) for name, entry in groups.items()}


def _group(name: str, entry: dict[str, Any]) -> GroupRun:
    rows = tuple(Row(**{key: value for key, value in row.items() if key != "met"}) for row in entry["rows"])
    return GroupRun(name, rows, entry["mode"], entry["date"], entry["machine"])


def write(file: Path, groups: Iterable[GroupRun]) -> None:
    """Write JSON, with the verdict on each goal; whole, or not at all."""
    entries = {
        group.name: {
            "mode": group.mode,
            "date": group.date,
            "machine": dict(group.machine),
            "rows": [asdict(row) | {"met": row.met} for row in group.rows],
        }
        for group in groups
    }
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(json.dumps({"groups": entries}, indent=1, ensure_ascii=False) + "\n")
    fresh.replace(file)


def all_rows(groups: Iterable[GroupRun]) -> list[Row]:
    return [row for group in groups for row in group.rows]
