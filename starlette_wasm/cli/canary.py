"""``canary``: what canaries do, and by hand, from another process than the app's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..canary.backends import open_store
from ..canary.manual import ManualControl
from ..canary.place import Place
from ..canary.record import Record
from ..canary.report import describe
from ..canary.state import CanaryState
from ..canary.store import KEY, Store
from ..canary.waves import Waves
from ..capabilities import CapabilityError
from ..capabilities.backends import without_making, without_secrets
from ..config.error_text import nearest
from ..config.router import CanaryConfig, load_config
from ..config.settings import load_settings
from ..exceptions import CanaryConflict, ConfigError
from . import output
from .admin_api import TOKEN, AdminApi
from .canary_wait import finish
from .inspection import in_order
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .promoted import StoredRollouts, promoted

Action = Literal["status", "start", "pause", "resume", "promote", "abort", "promoted", "wait"]
_COLUMNS = ("function", "stable_version", "canary_version", "status", "weight", "verdict", "reason", "report")
_Url = Annotated[
    str | None,
    typer.Option("--url", metavar="ADMIN", help=f"Through the admin API of an app; its token is in {TOKEN}."),
]


@dataclass(frozen=True, slots=True)
class Whose:
    """The function whose canary is meant: a group of options."""

    function: Annotated[
        str | None,
        typer.Argument(help="Whose canary; may be left out if the config has one.", show_default=False),
    ] = None
    named: Annotated[list[str] | None, typer.Option("--function", help="The same.", show_default=False)] = None

    def one(self) -> str | None:
        """Return the function, None if none is named. Raises BadParameter if there are several."""
        names = dict.fromkeys([*([] if self.function is None else [self.function]), *(self.named or ())])
        if len(names) > 1:
            raise typer.BadParameter(f"one function at a time: {' or '.join(names)}")
        return next(iter(names), None)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What ``wait`` waits for, and how long: a group of options."""

    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="With wait: how long, in seconds.", min=0)
    ] = 3600
    canary_version: Annotated[
        str | None,
        typer.Option("--canary-version", metavar="VERSION", help="With wait: pass over a canary of another version."),
    ] = None


_ANY = Whose()
_AN_HOUR = Waiting()


def canary(
    action: Annotated[Action, typer.Argument(help="What to do.")] = "status",
    whose: Whose = _ANY,
    full: Annotated[bool, typer.Option("--full", help="With promote: all steps at once.")] = False,
    write: Annotated[bool, typer.Option("--write", help="With promoted: write it into the wasm.yaml.")] = False,
    url: _Url = None,
    waiting: Waiting = _AN_HOUR,
    config: ConfigOption = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Show canaries, move one by hand, or wait until one is over.

    wait prints a line whenever something has changed. The exit code is 0 for a canary that was promoted, 1 for one that
    was rolled back or aborted, and 2 if neither has happened within --timeout, or nobody can be asked.

    promoted lists what was promoted, and what that changes in the wasm.yaml; with --write it is changed: the rules
    name the promoted version, the canary is taken out, and everything else stays as it is, comments too.

    What is done goes through the store of canary_url (STARLETTE_WASM_CANARY_URL), as the app's own workers do it: they
    follow within a second.

    Example: starlette-wasm canary promote greeter --full
    """
    wanted = whose.one()
    api = None if url is None else AdminApi(url, os.environ.get(TOKEN))
    if action == "wait":
        look = partial(api.canaries, wanted) if api is not None else partial(_run, "status", config, wanted, full=False)
        raise typer.Exit(finish(look, waiting.canary_version, waiting.timeout))
    if action == "promoted":
        if wanted and wanted.endswith((".yaml", ".yml")):  # no name of a function has a dot
            config, wanted = Path(wanted), None
        rows = asyncio.run(_promoted(config, wanted, api, write=write))
        output.show_rows(rows, json=json, empty=f"no canary of {config} is promoted")
        return
    rows = asyncio.run(_remote(api, action, wanted, full=full) if api else _run(action, config, wanted, full=full))
    if not json:
        rows = [{column: row.get(column, "") for column in _COLUMNS} for row in rows]
    output.show_rows(rows, json=json, empty=in_order(config, "canaries"))


async def _run(action: Action, config: Path, function: str | None, *, full: bool) -> list[dict[str, Any]]:
    """Raise ConfigError and CanaryConflict."""
    canaries = load_config(config).canaries
    async with _opened(making=action == "start") as (store, url):
        place, waves = _place()
        if action != "status":
            await _act(ManualControl(store, _one(canaries, config, function), place=place), action, full=full)
        wanted = canaries if function is None else [_one(canaries, config, function)]
        try:
            return [await _row(store, waves, CanaryState(canary, place=place), url) for canary in wanted]
        finally:
            await waves.close()


def _place() -> tuple[Place, Waves]:
    """Return where the settings say that this is, and the waves as seen from there."""
    settings = load_settings()
    place = Place(settings.region, settings.canary_prefix)
    waves_url = without_making(settings.canary_waves_url, KEY) if settings.canary_waves_url else ""
    return place, Waves(place, waves_url)


async def _remote(api: AdminApi, action: Action, function: str | None, *, full: bool) -> list[dict[str, Any]]:
    """Raise ConfigError and CanaryConflict."""
    if action != "status":
        names = [str(row.get("function")) for row in await api.canaries()] if function is None else [function]
        if len(names) != 1:
            raise ConfigError(f"there are {len(names)} canaries", hint=f"name one of {', '.join(names) or 'none'}")
        [function] = names
        await api.act(action, function, full=full)
    rows = await api.canaries(function)
    if function is not None and not rows:
        names = [str(row.get("function")) for row in await api.canaries()]
        raise ConfigError(f"there is no canary of {function!r}", hint=_name_one(function, names))
    return rows


async def _promoted(config: Path, function: str | None, api: AdminApi | None, *, write: bool) -> list[dict[str, Any]]:
    """Raise ConfigError and CanaryConflict."""
    loaded = load_config(config)
    if function is not None:
        _one(loaded.canaries, config, function)
    if api is not None:
        return await promoted(api, config, loaded, function, write=write)
    async with _opened(making=False) as (store, _):
        place, waves = _place()
        try:
            return await promoted(StoredRollouts(store, place, waves), config, loaded, function, write=write)
        finally:
            await waves.close()


@asynccontextmanager
async def _opened(*, making: bool) -> AsyncIterator[tuple[Store, str]]:
    """Give the store of canary_url, and the URL to show; ``making``: a file that is not there is made."""
    url = load_settings().canary_url
    # To look makes no file. Nothing but the start of a rollout can be done if there is none.
    store = open_store(url if making else without_making(url, KEY))
    await store.open()
    try:
        yield store, without_secrets(url)
    except CanaryConflict as error:
        hint = f"{error.hint}; this is by {without_secrets(url)}, STARLETTE_WASM_CANARY_URL names another store"
        raise CanaryConflict(error.function, error.problem, hint) from None
    except CapabilityError as error:
        hint = "start it, or set STARLETTE_WASM_CANARY_URL to that of the app"
        raise ConfigError(f"{error}: {error.detail}", key="canary_url", hint=hint) from None
    finally:
        await store.close()


def _one(canaries: list[CanaryConfig], config: Path, function: str | None) -> CanaryConfig:
    known = {canary.function_name: canary for canary in canaries}
    if function in known:
        return known[function]
    if function is None and len(known) == 1:
        return canaries[0]
    problem = "has several" if function is None else f"has none of {function!r}"
    if not known:
        raise ConfigError("has none", file=config, key="canaries", hint="add one")
    raise ConfigError(problem, file=config, key="canaries", hint=_name_one(function, known))


def _name_one(function: str | None, known: Iterable[str]) -> str:
    """Return the hint for a name that is missing or wrong."""
    near = "" if function is None else nearest(function, known)
    return near if near.startswith("did you mean") else f"name one of {', '.join(sorted(known)) or 'none'}"


async def _act(hands: ManualControl, action: Action, *, full: bool) -> None:
    if action == "promote":
        await hands.promote(full=full)
    else:
        await getattr(hands, action)()


async def _row(store: Store, waves: Waves, live: CanaryState, url: str) -> dict[str, Any]:
    function = live.config.function_name
    if live.config.waves:
        await waves.look(store, live)
    if not live.takes_part:
        region = live.place.region or "none: STARLETTE_WASM_REGION is not set"
        return describe(function, live) | {"reason": f"the region is {region}"}
    reading = await store.read(live.key)
    if reading.record is None:
        reason = f"nothing of it is in {url}; STARLETTE_WASM_CANARY_URL names another store"
        return describe(function, live) | {"status": "not begun", "reason": reason}
    live.see(reading, Record.load(reading.record), reading.revision)
    return describe(function, live)
