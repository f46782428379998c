"""``starlette-wasm canary``: what canaries do, and by hand, from another process than the app's."""

from __future__ import annotations

import argparse
from typing import Any

from ..canary.backends import open_store
from ..canary.manual import ManualControl
from ..canary.record import Record
from ..canary.report import describe
from ..canary.state import CanaryState
from ..canary.store import KEY, Store
from ..capabilities import CapabilityError
from ..capabilities.backends import without_making, without_secrets
from ..config.router import CanaryConfig, load_config
from ..config.settings import load_settings
from ..exceptions import CanaryConflict, ConfigError

_ACTIONS = ("status", "start", "pause", "resume", "promote", "abort")
_COLUMNS = ("function", "stable_version", "canary_version", "status", "weight", "verdict", "reason", "report")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "show canaries, or move one by hand: through the store of canary_url, as the app's own workers do"
    command = commands.add_parser("canary", help=text, description=text)
    command.add_argument("action", nargs="?", choices=_ACTIONS, default="status", help="status where none is given")
    command.add_argument("--config", default="wasm.yaml", help="path of the wasm.yaml (default: %(default)s)")
    whose = "whose canary; may be left out where the config has one"
    command.add_argument("function", nargs="?", default=argparse.SUPPRESS, action=_Once, help=whose)
    command.add_argument("--function", action=_Once, help="the same")
    command.add_argument("--full", action="store_true", help="with promote: all steps at once")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(run=run, of="canaries")


class _Once(argparse.Action):
    """Refuses another value than it was given before."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, None)
        if before not in (None, values):
            parser.error(f"one {self.dest} at a time: {before} or {values}")
        setattr(namespace, self.dest, values)


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Raises ConfigError and CanaryConflict."""
    canaries = load_config(options.config).canaries
    url = load_settings().canary_url
    # Who only looks makes no file. Nothing but the start of a rollout can be done if there is none.
    store = open_store(url if options.action == "start" else without_making(url, KEY))
    await store.open()
    try:
        if options.action != "status":
            await _act(ManualControl(store, _one(canaries, options)), options)
        wanted = (canary for canary in canaries if options.function in (None, canary.function_name))
        rows = [await _row(store, canary, without_secrets(url)) for canary in wanted]
    except CanaryConflict as error:
        hint = f"{error.hint}; this is by {without_secrets(url)}, STARLETTE_WASM_CANARY_URL names another store"
        raise CanaryConflict(error.function, error.problem, hint) from None
    except CapabilityError as error:
        hint = "start it, or set STARLETTE_WASM_CANARY_URL to that of the app"
        raise ConfigError(f"{error}: {error.detail}", key="canary_url", hint=hint) from None
    finally:
        await store.close()
    if options.json:
        return rows
    return [{column: row.get(column, "") for column in _COLUMNS} for row in rows]


def _one(canaries: list[CanaryConfig], options: argparse.Namespace) -> CanaryConfig:
    known = {canary.function_name: canary for canary in canaries}
    if options.function in known:
        return known[options.function]
    if options.function is None and len(known) == 1:
        return canaries[0]
    problem = "has several" if options.function is None else f"has none of {options.function!r}"
    if not known:
        raise ConfigError("has none", file=options.config, key="canaries", hint="add one")
    hint = f"name one of {', '.join(sorted(known))}"
    raise ConfigError(problem, file=options.config, key="canaries", hint=hint)


async def _act(hands: ManualControl, options: argparse.Namespace) -> None:
    if options.action == "promote":
        await hands.promote(full=options.full)
    else:
        await getattr(hands, options.action)()


async def _row(store: Store, config: CanaryConfig, url: str) -> dict[str, Any]:
    reading = await store.read(config.function_name)
    live = CanaryState(config)
    if reading.record is None:
        reason = f"nothing of it is in {url}; STARLETTE_WASM_CANARY_URL names another store"
        return describe(config.function_name, live) | {"status": "not begun", "reason": reason}
    live.see(reading, Record.load(reading.record), reading.revision)
    return describe(config.function_name, live)
