"""``sign``: a version of a function, without a registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import output
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .registry import PasswordEnv, places, private_key, version_of, warn_of_quick

Key = Annotated[Path, typer.Option("--key", metavar="KEY", help="PEM file of a private key.")]


def sign(
    function: Annotated[str, typer.Argument(help="NAME, for its highest version, or NAME@VERSION.")],
    key: Key,
    password_env: PasswordEnv = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Sign a version of a function where it lies, for requireSignatures, without a registry.

    The signature covers the module, its function.yaml, and its name and version. It is put beside the module, as
    signatures.json.

    Example: starlette-wasm sign greeter@1.2 --key key.pem
    """
    from ..functions.registry import pack, transfer
    from ..functions.registry.reference import digest_of

    directory, _ = places(config)
    name, version = version_of(directory, function)
    warn_of_quick(directory, [(name, version)])
    packed = pack.sign(directory, name, version, private_key(key, password_env))
    output.show_rows(
        [transfer.Change(name, version, digest_of(packed.module), "signed", str(packed.file)).row()], json=json
    )
