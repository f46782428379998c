"""The table of what tenants share, in docs/security.md: each row has a share, and names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def rows() -> list[list[str]]:
    text = (ROOT / "docs" / "security.md").read_text()
    table = text[text.index("| Shared |") :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[2:]]


NAMED = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:30])
def test_each_shared_thing_names_its_tests(row: list[str]) -> None:
    shared, share, most, tests = row
    assert share or most, f"{shared} has no bound"
    named = re.findall(r"`(\w+)`", tests)
    assert named, f"{shared} has no test"
    assert set(named) <= NAMED, f"{shared}: {set(named) - NAMED} are not there"
