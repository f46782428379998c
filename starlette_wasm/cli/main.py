"""``starlette-wasm``: ``check``, ``compile`` and ``canary``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from ..capabilities.backends import without_making
from ..config.settings import WasmSettings, load_settings
from ..exceptions import WasmError
from ..runtime.runtime import WasmRuntime
from . import canary, nodes, registry


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Gives the exit code: 0 only on success."""
    options = _parser().parse_args(argv)
    try:
        rows: list[dict[str, Any]] = asyncio.run(options.run(options))
    except WasmError as error:
        print(f"starlette-wasm {options.command}: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(rows, indent=2))
    elif rows:
        _print_table(rows)
    else:
        print(f"{options.config} is in order, and has no {options.of} to list")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="starlette-wasm", description="WebAssembly functions for Starlette apps.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('starlette-wasm')}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, of, text in (
        ("check", _check, "rules", "load a config as an app would at start, and say what is wrong with it"),
        ("compile", _compile, "functions", "compile the functions of a config into the AOT cache"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("config", help="path of a wasm.yaml")
        command.add_argument("--json", action="store_true", help="print JSON instead of a table")
        command.set_defaults(run=run, of=of)
    canary.add_parser(commands)
    registry.add_parsers(commands)
    nodes.add_parser(commands)
    return parser


async def _check(options: argparse.Namespace) -> list[dict[str, Any]]:
    settings = _settings(aot_cache=False)
    async with WasmRuntime(options.config, settings) as runtime:
        return [
            {
                "path": rule.path_pattern,
                "function": rule.function_name,
                "version": rule.version or "highest",
                "weight": rule.weight,
                "regions": ", ".join(rule.regions) or "all",
                "policy": rule.policy or settings.default_policy,
            }
            for rule in runtime.deployment.config.rules
        ] + [
            {
                "path": pipeline.route,
                "function": str(pipeline),
                "version": ", ".join(target.version for target in pipeline.targets),
                "weight": 100,
                "regions": "all",
                "policy": ", ".join(dict.fromkeys(target.policy.name for target in pipeline.targets)),
            }
            for pipeline in runtime.deployment.pipelines.all
        ]


async def _compile(options: argparse.Namespace) -> list[dict[str, Any]]:
    async with WasmRuntime(options.config, _settings()) as runtime:
        return [
            {
                "function": name,
                "version": version,
                "digest": f"sha256:{function.digest}",
                "code": "in the AOT cache already" if function.cached else "compiled",
            }
            for (name, version), function in sorted(runtime.deployment.functions.items())
        ]


def _settings(**given: Any) -> WasmSettings:
    """For who makes no files, and begins no rollout."""
    settings = load_settings(canary_url="", **given)
    stores = {key: without_making(getattr(settings, key), key) for key in ("kv_url", "queue_url")}
    return settings.model_copy(update=stores)


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    table = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
