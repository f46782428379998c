"""``pull``: a function from a registry."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from . import output
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .registry import DEFAULT_ACCESS, Access, Keys, places, public_keys
from .table import Row

As = Annotated[
    str | None, typer.Option("--as", metavar="NAME@VERSION", help="Name and version, if the artifact has none.")
]
Component = Annotated[
    str | None, typer.Option(help="Which module of an artifact that has several, such as a Spin app.")
]


def pull(
    reference: Annotated[str, typer.Argument(help="oci://HOST/REPOSITORY[:TAG|@DIGEST].")],
    name: As = None,
    component: Component = None,
    key: Keys = None,
    config: ConfigOption = DEFAULT_CONFIG,
    access: Access = DEFAULT_ACCESS,
    json: Json = False,
) -> None:
    """Pull a function from a registry, and lock it.

    It lies in functionsDir afterwards, and functions.lock names its digest. With --key it must be signed.

    Example: starlette-wasm pull oci://registry.example.com/shop/greeter:1.2 --key cosign.pub
    """
    output.show_rows(asyncio.run(_pull(access, config, reference, name or "", component, key or ())), json=json)


async def _pull(
    access: Access, config: Path, reference: str, given: str, component: str | None, keys: Sequence[Path]
) -> list[Row]:
    from ..functions.registry import lockfile, transfer
    from ..functions.registry.reference import parse

    directory, lock_file = places(config)
    name, _, version = given.partition("@")
    async with access.client() as client:
        entry = await transfer.pull(
            client,
            directory,
            parse(reference),
            name=name or None,
            version=version or None,
            component=component,
            keys=public_keys(keys, config),
        )
    lockfile.write(lock_file, transfer.lock(directory, transfer.read_lock(lock_file), [entry]))
    source = f"{entry.source}@{entry.manifest}"
    return [transfer.Change(entry.name, entry.version, entry.module, "pulled", source).row()]
