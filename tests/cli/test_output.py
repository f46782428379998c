"""What is printed where, and the lines that errors name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from starlette_wasm.cli import output
from starlette_wasm.cli.lines import line_of, with_lines

ROWS = [{"check": "python", "result": "ok"}, {"check": "cache", "result": "error"}]
YAML = """\
functionsDir: functions
rules:
  - pathPattern: /a
    functionName: f

  - {pathPattern: /b, functionName: g, weight: -1}
"""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_rows_are_plain_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_rows(ROWS)
    assert capsys.readouterr().out == "check   result\npython  ok\ncache   error\n"


@pytest.mark.usefixtures("terminal")
def test_rows_have_colour_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_rows(ROWS)
    text = capsys.readouterr().out
    assert "\x1b[32mok" in text
    assert "\x1b[31merror" in text


@pytest.mark.usefixtures("terminal")
def test_a_few_wide_rows_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_rows([{"function": "f", "report": "x" * 90}, {"function": "g", "report": "y"}])
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "─" not in text
    assert [line.split()[-1] for line in text.splitlines() if "function" in line] == ["f", "g"]


@pytest.mark.usefixtures("terminal")
def test_json_is_json_on_a_terminal_too(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_rows(ROWS, json=True)
    assert json.loads(capsys.readouterr().out) == ROWS


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("functionsDir", 1),
        ("rules[0].functionName", 4),
        ("rules[0].weight", 3),
        ("rules[1].weight", 6),
        ("rules[7].weight", 2),
        ("nothing", None),
    ],
)
def test_the_line_of_a_key(tmp_path: Path, key: str, line: int | None) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text(YAML)
    assert line_of(file, key) == line


def test_the_line_of_an_unreadable_file_is_unknown(tmp_path: Path) -> None:
    file = tmp_path / "wasm.yaml"
    assert line_of(file, "rules") is None
    file.write_text("rules: [")
    assert line_of(file, "rules") is None


def test_each_line_of_a_message_gets_its_place(tmp_path: Path) -> None:
    file = tmp_path / "wasm.yaml"
    file.write_text(YAML)
    message = f"{file}: rules[1].weight: is too small\n{file}: rules[0].functionName: function not found: f\nno: place"
    assert with_lines(message).splitlines() == [
        f"{file}:6: rules[1].weight: is too small",
        f"{file}:4: rules[0].functionName: function not found: f",
        "no: place",
    ]
