"""``verify``: compares functionsDir with functions.lock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from ..exceptions import ConfigError
from . import output
from .inspection import in_order
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .registry import DEFAULT_ACCESS, Access, Keys, places, public_keys
from .table import Row


def verify(
    key: Keys = None,
    config: ConfigOption = DEFAULT_CONFIG,
    access: Access = DEFAULT_ACCESS,
    json: Json = False,
) -> None:
    """Compare functionsDir with functions.lock, changing nothing.

    The exit code is 1 if a module is missing, is another one, or is not named; with --key also if one is not signed.

    Example: starlette-wasm verify --key cosign.pub
    """
    rows = asyncio.run(_verify(access, config, key or ()))
    output.show_rows(rows, json=json, empty=in_order(config, "functions"))


async def _verify(access: Access, config: Path, keys: Sequence[Path]) -> list[Row]:
    from ..functions.registry import lockfile, transfer

    directory, lock_file = places(config)
    async with access.client() as client:
        results = await transfer.verify(client, directory, lockfile.read(lock_file), public_keys(keys, config))
    wrong = [f"{each.name} v{each.version}: {each.action}" for each in results if each.action != "ok"]
    if wrong:
        raise ConfigError("; ".join(wrong), file=lock_file, hint="run starlette-wasm sync, or lock what is meant")
    return [result.row() for result in results]
