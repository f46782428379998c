"""``sync``: brings functionsDir to the state of functions.lock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from . import output
from .inspection import in_order
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .registry import DEFAULT_ACCESS, Access, Keys, places, public_keys
from .table import Row

Prune = Annotated[bool, typer.Option("--prune", help="Remove versions that the file does not name.")]
Watch = Annotated[
    float | None, typer.Option("--watch", metavar="SECONDS", help="Go on, and look at the file this often.")
]


def sync(
    prune: Prune = False,
    watch: Watch = None,
    key: Keys = None,
    config: ConfigOption = DEFAULT_CONFIG,
    access: Access = DEFAULT_ACCESS,
    json: Json = False,
) -> None:
    """Bring functionsDir to the state of functions.lock.

    What is missing or differs is pulled, checked by its digest, and put in place; an app that runs takes it. With
    --watch it goes on until it is stopped, and says what it changes.

    Example: starlette-wasm sync --prune --key cosign.pub
    """
    rows = asyncio.run(_sync(access, config, key or (), prune=prune, watch=watch))
    output.show_rows(rows, json=json, empty=in_order(config, "functions"))


async def _sync(access: Access, config: Path, keys: Sequence[Path], *, prune: bool, watch: float | None) -> list[Row]:
    from ..functions.registry import lockfile, transfer
    from ..functions.registry.errors import RegistryError

    trusted = public_keys(keys, config)
    async with access.client() as client:
        while True:
            directory, lock_file = places(config)
            try:
                entries = lockfile.read(lock_file)
                changes = await transfer.sync(client, directory, entries, keys=trusted, prune=prune)
            except RegistryError as error:
                if watch is None:
                    raise
                output.fail("sync", error)
                changes = []
            if watch is None:
                return [change.row() for change in changes]
            for change in changes:
                if change.action != "unchanged":
                    print(f"{change.name} v{change.version}: {change.action} {change.module}", flush=True)
            await asyncio.sleep(max(watch, 1.0))
