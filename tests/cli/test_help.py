"""The commands explain themselves."""

from __future__ import annotations

import os
import subprocess
import sys

import cli_pages
import pytest

from starlette_wasm.cli import plain
from starlette_wasm.cli.app import PANELS
from starlette_wasm.cli.main import main

COMMANDS = [name for commands in PANELS.values() for name in commands]


@pytest.fixture(autouse=True)
def of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_page_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    page = capsys.readouterr().out
    assert f"Example: starlette-wasm {name}" in " ".join(page.split())
    assert max(map(len, page.splitlines())) <= 80


def test_the_help_names_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in page


def test_the_docs_have_the_help_of_each_command() -> None:
    assert cli_pages.PAGE.read_text() == cli_pages.rendered(), "run .venv/bin/python tools/cli_pages.py"


def test_an_unknown_option_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--jsno"]) == 2
    assert "--json" in capsys.readouterr().err


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chekc"]) == 2
    assert "check" in capsys.readouterr().err


def test_a_shell_completes_the_commands() -> None:
    environ = os.environ | {
        "_STARLETTE_WASM_COMPLETE": "complete_bash",
        "COMP_WORDS": "starlette-wasm ca",
        "COMP_CWORD": "1",
    }
    command = [sys.executable, "-m", "starlette_wasm"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert "canary" in done.stdout.split()


def test_the_plain_command_knows_all_names() -> None:
    assert {*plain.OTHERS, "check", "compile"} >= set(COMMANDS)
