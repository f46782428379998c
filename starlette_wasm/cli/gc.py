"""``gc``: removes old versions of functions."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from typing import Annotated

import typer

from ..canary.backends import open_store
from ..canary.place import Place
from ..canary.record import Record
from ..canary.store import KEY
from ..capabilities import CapabilityError
from ..capabilities.backends import without_making
from ..config.named import named_versions
from ..config.names import version_key
from ..config.router import EdgeRouterConfig, load_config
from ..config.settings import load_settings
from ..exceptions import ConfigError
from . import output
from .options import DEFAULT_CONFIG, ConfigOption, Json

Keep = Annotated[int, typer.Option("--keep", min=1, metavar="N", help="The highest versions of each function to keep.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what would be removed.")]


def gc(keep: Keep = 3, dry_run: DryRun = False, config: ConfigOption = DEFAULT_CONFIG, json: Json = False) -> None:
    """Remove old versions of functions that nothing names.

    What rules, canaries and pipelines of the config name stays, and so do the versions of rollouts in the store of
    canary_url, and the highest ones. The rest goes from functionsDir and from functions.lock. Versions that only routes
    in the app's code name are not known here: keep enough.

    Example: starlette-wasm gc --keep 2 --dry-run
    """
    from ..functions.registry import lockfile, place, transfer

    loaded = load_config(config)
    lock_file = config.parent / lockfile.NAME
    named = asyncio.run(_named(loaded))
    old = superfluous(set(place.installed(loaded.functions_dir)), named, keep)
    entries = transfer.read_lock(lock_file)
    if not dry_run:
        for name, version in old:
            place.remove(loaded.functions_dir, name, version)
        if lock_file.exists():
            lockfile.write(lock_file, [entry for entry in entries if entry.key not in old])
    action = "would be removed" if dry_run else "removed"
    rows = [transfer.Change(name, version, "", action).row() for name, version in sorted(old)]
    output.show_rows(rows, json=json, empty=f"{loaded.functions_dir} has no version to remove")


def superfluous(installed: Set[tuple[str, str]], named: Set[tuple[str, str]], keep: int) -> set[tuple[str, str]]:
    """Return the versions that are neither named nor among the ``keep`` highest of their function."""
    versions: dict[str, list[str]] = {}
    for name, version in installed:
        versions.setdefault(name, []).append(version)
    highest = {(name, each) for name, known in versions.items() for each in sorted(known, key=version_key)[-keep:]}
    return set(installed - highest - named)


async def _named(config: EdgeRouterConfig) -> set[tuple[str, str]]:
    """Return what the config and the records of rollouts name. Raises ConfigError if the store cannot be read."""
    named = {(name, version) for name, versions in named_versions(config).items() for version in versions}
    settings = load_settings()
    place = Place(settings.region, settings.canary_prefix)
    store = open_store(without_making(settings.canary_url, KEY))
    await store.open()
    try:
        for canary in config.canaries:
            record = (await store.read(place.record(canary))).record
            if record is not None:
                named |= {(canary.function_name, version) for version in Record.load(record).versions}
    except CapabilityError as error:
        hint = "start it, or set STARLETTE_WASM_CANARY_URL to that of the app"
        raise ConfigError(f"{error}: {error.detail}", key="canary_url", hint=hint) from None
    finally:
        await store.close()
    return named
