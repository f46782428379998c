"""``lock``: writes functions.lock."""

from __future__ import annotations

from typing import Annotated

import typer

from ..exceptions import ConfigError
from . import output
from .inspection import in_order
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .registry import Ca, Mirror, PlainHttp, places

Check = Annotated[bool, typer.Option("--check", help="Change nothing; fail if the file is not up to date.")]


def lock(
    check: Check = False,
    config: ConfigOption = DEFAULT_CONFIG,
    ca: Ca = None,
    plain_http: PlainHttp = False,
    mirror: Mirror = None,
    json: Json = False,
) -> None:
    """Write functions.lock: every version in functionsDir, by its digest.

    Commit the file: sync brings another node to it, verify compares. --ca, --plain-http and --mirror change nothing
    here.

    Example: starlette-wasm lock --check
    """
    from ..registry import lockfile, transfer

    directory, lock_file = places(config)
    entries = transfer.lock(directory, transfer.read_lock(lock_file))
    if not check:
        lockfile.write(lock_file, entries)
    elif not lock_file.exists() or lockfile.render(entries) != lock_file.read_text(encoding="utf-8"):
        raise ConfigError("is not up to date", file=lock_file, hint="run starlette-wasm lock")
    changes = [transfer.Change(entry.name, entry.version, entry.module, "locked", entry.source) for entry in entries]
    output.show_rows([change.row() for change in changes], json=json, empty=in_order(config, "functions"))
