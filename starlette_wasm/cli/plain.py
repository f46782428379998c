"""The commands that an installation without the extra ``cli`` has: ``check`` and ``compile``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version

from ..exceptions import WasmError
from . import inspection
from .lines import with_lines
from .table import Row, plain_table

INSTALL = "python -m pip install 'starlette-wasm[cli]'"
OTHERS = (
    *(
        "bench",
        "build",
        "call",
        "canary",
        "dev",
        "doctor",
        "gc",
        "inspect",
        "lock",
        "new",
        "nodes",
        "pipeline",
        "policy",
    ),
    *("pull", "push", "routes", "sign", "stubs", "sync", "test", "verify"),
)
"""The commands of the extra."""


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command. Return the exit code: 0 only on success."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in OTHERS:
        print(f"starlette-wasm {given[0]}: needs the extra cli; run {INSTALL}", file=sys.stderr)
        return 1
    try:
        return _run(_parser().parse_args(given))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1


def _run(options: argparse.Namespace) -> int:
    try:
        rows: list[Row] = options.rows(options.config)
    except WasmError as error:
        print(f"starlette-wasm {options.command}: {with_lines(str(error))}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(rows, indent=2))
    elif rows:
        print(plain_table(rows))
    else:
        print(inspection.in_order(options.config, options.of))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="starlette-wasm",
        description="WebAssembly functions for Starlette apps.",
        epilog=f"The other commands ({', '.join(OTHERS)}) come with: {INSTALL}",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('starlette-wasm')}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, rows, of, text in (
        ("check", inspection.rules, "rules", "load a config as an app would at start, and say what is wrong with it"),
        ("compile", inspection.compiled, "functions", "compile the functions of a config into the AOT cache"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "config", nargs="?", default="wasm.yaml", help="path of a wasm.yaml (default: %(default)s)"
        )
        command.add_argument("--json", action="store_true", help="print JSON instead of a table")
        command.set_defaults(rows=rows, of=of)
    return parser
