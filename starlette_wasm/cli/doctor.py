"""``doctor``: whether this machine can serve and make functions."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import output
from .checkup import Finding, everything
from .options import DEFAULT_CONFIG, ConfigOption, Json

Fix = Annotated[bool, typer.Option("--fix", help="Run the commands that mend what is found, each after a yes.")]


def doctor(fix: Fix = False, config: ConfigOption = DEFAULT_CONFIG, json: Json = False) -> None:
    """Look at the machine, the installation, the toolchains and the config, and name a remedy for what is wrong.

    Each is ok, a warning (it works, but less well, or for fewer languages) or an error. The exit code is 1 if there is
    an error. With --fix each command that would mend something is shown, and run after a yes.

    Example: starlette-wasm doctor
    """
    findings = everything(config)
    if json:
        output.show_rows([_row(each) | {"command": each.command} for each in findings], json=True)
    else:
        output.show_rows([_row(each) for each in findings])
    if fix:
        _fix([each for each in findings if each.command])
    if any(each.result == "error" for each in findings):
        raise typer.Exit(1)


def _row(finding: Finding) -> dict[str, str]:
    return {"check": finding.check, "result": finding.result, "found": finding.found, "remedy": finding.remedy}


def _fix(findings: list[Finding]) -> None:
    """Ask for each command, and run it."""
    if not findings:
        output.show_text("there is nothing that a command could mend")
    for finding in findings:
        if typer.confirm(f"{finding.check}: run {finding.command}?", default=False):
            words = shlex.split(finding.command)
            command = [sys.executable, *words[1:]] if words[0] == "python" else words
            done = subprocess.run(command, check=False, cwd=Path.cwd())
            result = "done" if done.returncode == 0 else f"failed with exit code {done.returncode}"
            output.show_text(f"{finding.check}: {result}")
