"""``push``: a function to a registry."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..functions.catalog import Catalog
from . import output
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .registry import Access, Ca, Mirror, PlainHttp, places
from .table import Row

Reference = Annotated[
    str, typer.Argument(help="oci://HOST/REPOSITORY[:TAG]; the tag is the version by default.", metavar="REFERENCE")
]
Sign = Annotated[
    Path | None, typer.Option("--sign", metavar="KEY", help="PEM file of a private key; see --password-env.")
]
PasswordEnv = Annotated[
    str | None, typer.Option("--password-env", metavar="NAME", help="Environment variable with the key's password.")
]


def push(
    function: Annotated[str, typer.Argument(help="NAME, for its highest version, or NAME@VERSION.")],
    reference: Reference,
    sign: Sign = None,
    password_env: PasswordEnv = None,
    revision: Annotated[str, typer.Option(help="Revision of the source, kept in the artifact.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    ca: Ca = None,
    plain_http: PlainHttp = False,
    mirror: Mirror = None,
    json: Json = False,
) -> None:
    """Push a version of a function to a registry, and lock it.

    Module and function.yaml become one artifact in the Wasm OCI layout. With --sign it is signed, in a form that cosign
    verifies. functions.lock then names its digest.

    Example: starlette-wasm push greeter@1.2 oci://registry.example.com/shop/greeter
    """
    access = Access(ca, plain_http, mirror or ())
    key = (sign, os.environ.get(password_env) if password_env else None) if sign is not None else None
    output.show_rows(asyncio.run(_push(access, config, function, reference, revision, key)), json=json)


async def _push(
    access: Access,
    config: Path,
    function: str,
    reference: str,
    revision: str,
    sign: tuple[Path, str | None] | None,
) -> list[Row]:
    from ..registry import lockfile, signatures, transfer
    from ..registry.reference import parse

    directory, lock_file = places(config)
    name, _, version = function.partition("@")
    version = Catalog(directory).get(name, version or None).version
    key = signatures.load_private_key(sign[0], sign[1] or _ask_password(sign[0])) if sign else None
    async with access.client() as client:
        entry = await transfer.push(client, directory, name, version, parse(reference), revision=revision, key=key)
    lockfile.write(lock_file, transfer.lock(directory, transfer.read_lock(lock_file), [entry]))
    return [transfer.Change(name, version, entry.module, "pushed", f"{entry.source}@{entry.manifest}").row()]


def _ask_password(file: Path) -> str | None:
    """Ask for the password of an encrypted key, if somebody can answer."""
    encrypted = file.is_file() and b"ENCRYPTED" in file.read_bytes()[:100]
    return getpass.getpass(f"password of {file}: ") if encrypted and sys.stdin.isatty() else None
