"""``check``: finds what is wrong with a config."""

from __future__ import annotations

from . import inspection, output
from .options import ConfigArgument, ConfigToo, Json, config_of


def check(config: ConfigArgument = None, given: ConfigToo = None, json: Json = False) -> None:
    """Load a config as an app would at start, and print what is wrong with it.

    All functions are compiled, bound to their policies and probed, but none is run, and no file is made. What is wrong
    is printed with file, line, key, value and remedy, and the exit code is 1. What is right is listed:
    each rule and each pipeline.

    Example: starlette-wasm check deploy/wasm.yaml
    """
    file = config_of(config, given)
    with output.loading():
        rows = inspection.rules(file)
    output.show_rows(rows, json=json, empty=inspection.in_order(file, "rules"))
