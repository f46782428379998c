"""``build``: functions from their sources."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config.router import load_config
from ..exceptions import ConfigError
from ..functions.catalog import MANIFEST
from . import build_consent as consent
from . import output
from .build_consent import lines_to_allow
from .build_runner import Buildable, Built, buildables
from .build_runner import build as build_one
from .options import DEFAULT_CONFIG, ConfigOption, Json

Function = Annotated[
    str | None,
    typer.Argument(help="NAME for its highest version, or NAME@VERSION; by default all.", metavar="FUNCTION"),
]
Allow = Annotated[bool, typer.Option("--allow", help="Run builds that came with a pull without asking.")]
Check = Annotated[bool, typer.Option("--check", help="Build twice, and fail if the bytes differ.")]


def build(
    function: Function = None,
    check: Check = False,
    allow: Allow = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Build functions from their sources, with the command in their function.yaml.

    The toolchain is looked for, and its version is checked; if it is missing, the one line that installs it is printed,
    and nothing is installed. The module takes its place only if it loads, so that an app that runs takes the new one
    whole or keeps the old one.

    The commands of a function.yaml that was pulled or uploaded are shown, and run after a yes; dev does not run them
    before. Off a terminal --allow stands for the yes, and each is asked for once.

    Example: starlette-wasm build hello --check
    """
    found = buildables(_directory(config), function)
    if not found:
        raise ConfigError("no function has a build in its function.yaml", hint="begin with starlette-wasm new NAME")
    rows = []
    for each in found:
        _ask(each, allow=allow)
        with output.working(f"building {each} with {each.programs}; a first build takes longest"):
            built = build_one(each, check=check)
        rows.append(row(built))
    output.show_rows(rows, json=json)


def _ask(buildable: Buildable, *, allow: bool) -> None:
    """Ask whether commands that were pulled may run. Raise ConfigError if they may not."""
    lines = lines_to_allow(buildable.folder, buildable.spec)
    if not lines:
        return
    file = buildable.folder / MANIFEST
    if not allow:
        output.show_text(f"{file} was pulled. Its build runs on this machine, with your rights:", error=True)
        for line in lines:
            output.show_text(f"  {line}", error=True)
        if not sys.stdin.isatty():
            raise ConfigError("its build is not allowed yet", file=file, key="build", hint="read it, and add --allow")
        if not typer.confirm("run it?", default=False, err=True):
            raise ConfigError("its build is not allowed", file=file, key="build", hint="serve it as it was pulled")
    consent.allow(buildable.folder, buildable.spec)


def row(built: Built) -> dict[str, Any]:
    """Return what came of a build, as a row."""
    return {
        "function": built.buildable.name,
        "version": built.buildable.version,
        "bytes": built.facts.size,
        "sha256": built.digest[:12],
        "imports": ", ".join(sorted({module for module, _, _ in built.facts.imports})) or "none",
        "memory": f"{built.loaded.pages * 64} KiB",
        "load": f"{built.loaded.load_s * 1000:.1f} ms",
        "fast path": "yes" if built.loaded.slow is None else f"no: {built.loaded.slow}",
        "took": f"{built.seconds:.1f} s",
    }


def _directory(config: Path) -> Path:
    return load_config(config).functions_dir
