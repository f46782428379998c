"""``stubs``: the types of what a component exports, for the type checker of whoever calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..components.errors import ComponentError
from ..components.exported import functions_of
from ..components.flat_plan import FlatPlan, flatten
from ..components.reader import read
from ..components.stubs import stubs_of
from ..engine.binary import COMPONENT_PREAMBLE
from ..exceptions import ConfigError
from .inspect import Module, find
from .options import DEFAULT_CONFIG, ConfigOption

_Output = Annotated[Path | None, typer.Option("--output", "-o", help="The .pyi to write; stdout by default.")]


def stubs(module: Module, config: ConfigOption = DEFAULT_CONFIG, output: _Output = None) -> None:
    """Write type stubs for the functions that a component exports.

    They have a dataclass for each record that has a name, an enum for each enum, and a Protocol for each interface,
    which what runtime.interface() gives fits. Functions with resources are left out, as they cannot be called.

    Example: starlette-wasm stubs shop -o stubs/shop.pyi
    """
    file, _ = find(module, config)
    text = stubs_of(_plan(file), file.stem)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")


def _plan(file: Path) -> FlatPlan:
    data = file.read_bytes()
    if not data.startswith(COMPONENT_PREAMBLE):
        raise ConfigError("is not a component", file=file, hint="only components have types; see docs/typed-calls.md")
    try:
        plan = flatten(read(data))
    except ComponentError as error:
        raise ConfigError(str(error), file=file, hint="starlette-wasm inspect shows why it would not load") from None
    if not functions_of(plan):
        raise ConfigError("exports no function", file=file, hint="export one in its world")
    return plan
