"""``routes``: every path of an app, in the order in which it is matched."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from ..asgi.route_table import Entry, app_table, rules_table
from ..exceptions import ConfigError
from ..runtime.runtime import WasmRuntime
from ..testing.runtime import Surroundings
from ..testing.stores import KvSpace
from ..testing.substitute import substituted
from . import output
from .inspection import without_files
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .table import Row

App = Annotated[
    str | None,
    typer.Argument(help="MODULE:NAME of an app, such as app:app; without it the rules alone.", metavar="APP"),
]


def routes(app: App = None, config: ConfigOption = DEFAULT_CONFIG, json: Json = False) -> None:
    """List every path of an app in the order in which it is matched.

    For each: whether a rule, a pipeline, a route of a function or a native route answers it, with its function,
    version, policy and methods, and the middleware and dependencies that guard it. Rules come first if WasmMiddleware
    serves them itself, and last behind WasmRules; the most specific pattern among them wins.

    Example: starlette-wasm routes app:app
    """
    rows = asyncio.run(_rows(app, config))
    output.show_rows(rows, json=json, empty="the app has no routes, and the config no rules")


async def _rows(app: str | None, config: Path) -> list[Row]:
    if app is None:
        async with WasmRuntime(config, without_files(aot_cache=False)) as runtime:
            return [_row(each) for each in rules_table(runtime, ())]
    loaded = load_app(app)
    around = Surroundings(kv=defaultdict(KvSpace), queues=defaultdict(list))
    async with AsyncExitStack() as stack:
        for runtime in stack.enter_context(substituted(loaded, around)):
            await stack.enter_async_context(runtime)
        return [_row(each) for each in app_table(loaded)]


def _row(entry: Entry) -> Row:
    return {
        "path": entry.path,
        "by": entry.by,
        "function": entry.function,
        "version": entry.version,
        "policy": entry.policy,
        "methods": entry.methods,
        "guards": ", ".join(entry.guards),
    }


def check_there(name: str) -> None:
    """Raise ConfigError for a name that is not MODULE:NAME, or whose module is not here; it is not imported."""
    module, colon, _ = name.partition(":")
    if not colon:
        raise ConfigError(f"{name!r} is not MODULE:NAME", hint="write for example app:app")
    top = module.partition(".")[0]
    sys.path.insert(0, str(Path.cwd()))
    try:
        there = importlib.util.find_spec(top) is not None
    finally:
        sys.path.pop(0)
    if not there:
        raise ConfigError(f"there is no module {module!r} here", hint=_modules_here())


def load_app(name: str) -> Any:
    """Import an app, from the current directory too. Raises ConfigError."""
    check_there(name)
    module, _, attributes = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        raise ConfigError(f"there is no module {module!r} here", hint=_modules_here()) from None
    finally:
        sys.path.pop(0)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise ConfigError(f"{module} has no {attributes!r}", hint="name the app in it, such as app")
        found = getattr(found, attribute)
    return found


def _modules_here() -> str:
    names = sorted(_apps_here())
    return f"run it where the module is; here are {', '.join(names)}" if names else "run it where the module is"


def _apps_here() -> Iterator[str]:
    for file in Path.cwd().glob("*.py"):
        if re.search(r"^app\b.*=", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE):
            yield f"{file.stem}:app"
