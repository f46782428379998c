"""``lock``: writes functions.lock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..exceptions import ConfigError
from . import output
from .inspection import in_order
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .registry import DEFAULT_ACCESS, Access, PasswordEnv, places, private_key, warn_of_quick

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from ..functions.registry.lockfile import Entry

Push = Annotated[
    str | None,
    typer.Option("--push", metavar="REFERENCE", help="Publish it, for functionsSource: oci://HOST/REPOSITORY:TAG."),
]
Sign = Annotated[
    Path | None,
    typer.Option("--sign", metavar="KEY", help="With --push: PEM file of a private key; see --password-env."),
]
Check = Annotated[bool, typer.Option("--check", help="Change nothing; fail if the file is not up to date.")]


def lock(
    check: Check = False,
    push: Push = None,
    sign: Sign = None,
    password_env: PasswordEnv = None,
    config: ConfigOption = DEFAULT_CONFIG,
    access: Access = DEFAULT_ACCESS,
    json: Json = False,
) -> None:
    """Write functions.lock: every version in functionsDir, by its digest.

    Commit the file: sync brings another node to it, verify compares. With --push it is published too, under a tag that
    functionsSource of wasm.yaml names: nodes that run then follow it.

    Example: starlette-wasm lock --push oci://registry.example.com/shop/fleet:live
    """
    from ..functions.registry import lockfile, transfer

    directory, lock_file = places(config)
    entries = transfer.lock(directory, transfer.read_lock(lock_file))
    warn_of_quick(directory, [each.key for each in entries])
    if not check:
        lockfile.write(lock_file, entries)
    elif not lock_file.exists() or lockfile.render(entries) != lock_file.read_text(encoding="utf-8"):
        raise ConfigError("is not up to date", file=lock_file, hint="run starlette-wasm lock")
    if push is not None:
        key = None if sign is None else private_key(sign, password_env)
        asyncio.run(_publish(access, push, entries, key))
    changes = [transfer.Change(entry.name, entry.version, entry.module, "locked", entry.source) for entry in entries]
    output.show_rows([change.row() for change in changes], json=json, empty=in_order(config, "functions"))


async def _publish(access: Access, reference: str, entries: Sequence[Entry], key: PrivateKeyTypes | None) -> None:
    from ..functions.registry import source
    from ..functions.registry.reference import parse

    async with access.client() as client:
        await source.publish(client, parse(reference), entries, key)
