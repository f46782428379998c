"""``push``: a function to a registry."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .registry import DEFAULT_ACCESS, Access, PasswordEnv, places, private_key, version_of, warn_of_quick
from .table import Row

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

Reference = Annotated[
    str, typer.Argument(help="oci://HOST/REPOSITORY[:TAG]; the tag is the version by default.", metavar="REFERENCE")
]
Sign = Annotated[
    Path | None, typer.Option("--sign", metavar="KEY", help="PEM file of a private key; see --password-env.")
]


def push(
    function: Annotated[str, typer.Argument(help="NAME, for its highest version, or NAME@VERSION.")],
    reference: Reference,
    sign: Sign = None,
    password_env: PasswordEnv = None,
    revision: Annotated[str, typer.Option(help="Revision of the source, kept in the artifact.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    access: Access = DEFAULT_ACCESS,
    json: Json = False,
) -> None:
    """Push a version of a function to a registry, and lock it.

    Module and function.yaml become one artifact in the Wasm OCI layout. With --sign it is signed, in a form that cosign
    verifies. functions.lock then names its digest.

    Example: starlette-wasm push greeter@1.2 oci://registry.example.com/shop/greeter
    """
    key = None if sign is None else private_key(sign, password_env)
    output.show_rows(asyncio.run(_push(access, config, function, reference, revision, key)), json=json)


async def _push(
    access: Access,
    config: Path,
    function: str,
    reference: str,
    revision: str,
    key: PrivateKeyTypes | None,
) -> list[Row]:
    from ..functions.registry import lockfile, transfer
    from ..functions.registry.reference import parse

    directory, lock_file = places(config)
    name, version = version_of(directory, function)
    async with access.client() as client:
        warn_of_quick(directory, [(name, version)])
        entry = await transfer.push(client, directory, name, version, parse(reference), revision=revision, key=key)
    lockfile.write(lock_file, transfer.lock(directory, transfer.read_lock(lock_file), [entry]))
    return [transfer.Change(name, version, entry.module, "pushed", f"{entry.source}@{entry.manifest}").row()]
