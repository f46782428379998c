"""``scripts/demo-fleet``: three regions, one registry, two rollouts, an odd node and a registry that dies."""

from __future__ import annotations

import re
from pathlib import Path

from demo_fleet import play, record

PAGE = Path(__file__).parents[2] / "docs" / "fleet.md"
_KEPT = re.compile(r"== |(?:\w+/)?\$ starlette-wasm ")


def acts(lines: list[str]) -> list[str]:
    """The headings and commands, of what was printed."""
    return [line for line in lines if _KEPT.match(line)]


def test_the_fleet_is_played(tmp_path: Path) -> None:
    lines: list[str] = []
    seen = play(tmp_path, lambda text: lines.extend(text.splitlines()))
    assert [set(answers) for answers in seen["good"].values()] == [{"v2", "v3"}] * 3
    assert set(seen["bad"]["ap"]) >= {"500", "v3"}
    assert [set(seen["bad"][name]) for name in ("eu", "us")] == [{"v3"}] * 2
    assert re.search(r"greeter v3 is \w{12}, elsewhere \w{12}", seen["other"])
    assert [set(answers) for answers in seen["lost"].values()] == [{"v3"}] * 3
    text = "\n".join(lines)
    assert text.index("v3 promoted at 100 %") < text.index("the promotion is written back")
    assert "us/$ starlette-wasm verify" in text
    assert acts(PAGE.read_text().splitlines()) == acts(lines), "run scripts/demo-fleet --record docs/fleet.md"


def test_a_record_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```text\nold\n```\n\nMore.\n")
    record(page, ["", "== new", "line"])
    assert page.read_text() == "# Page\n\n```text\n== new\nline\n```\n\nMore.\n"
