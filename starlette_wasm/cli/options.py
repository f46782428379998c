"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CONFIG = Path("wasm.yaml")

ConfigOption = Annotated[Path, typer.Option("--config", metavar="FILE", help="Path of the wasm.yaml.")]
ConfigArgument = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG]", help="Path of the wasm.yaml.", show_default="wasm.yaml")
]
ConfigToo = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The same.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def config_of(argument: Path | None, option: Path | None) -> Path:
    """Return the config that is meant, be it given as an argument or as an option."""
    if argument is not None and option is not None and argument != option:
        raise typer.BadParameter(f"one config at a time: {argument} or {option}")
    return argument or option or DEFAULT_CONFIG
