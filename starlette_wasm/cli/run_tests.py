"""``test``: the tests of a project."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Annotated

import typer

from ..config.router import load_config
from ..exceptions import ConfigError
from . import output
from .build_runner import build, buildables, is_stale
from .options import DEFAULT_CONFIG, ConfigOption

Arguments = Annotated[
    list[str] | None, typer.Argument(help="Arguments of pytest, behind --.", metavar="[-- PYTEST...]")
]
NoBuild = Annotated[bool, typer.Option("--no-build", help="Test the modules as they are.")]


def run_tests(arguments: Arguments = None, no_build: NoBuild = False, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Build what has changed, and run the tests with pytest, in which the fixture wasm is a test kit of the config.

    The exit code is that of pytest.

    Example: starlette-wasm test -- -q -k hello
    """
    if importlib.util.find_spec("pytest") is None:
        raise ConfigError("test needs pytest", hint="run python -m pip install pytest httpx")
    if not no_build:
        for each in buildables(load_config(config).functions_dir):
            if is_stale(each):
                with output.working(f"building {each}"):
                    build(each)
    command = [sys.executable, "-m", "pytest", "-p", "starlette_wasm.testing.plugin", *(arguments or ())]
    code = subprocess.run(command, cwd=config.resolve().parent, check=False).returncode
    if code != 0:
        raise typer.Exit(code)
