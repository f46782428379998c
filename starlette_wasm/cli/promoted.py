"""``canary promoted``: what was promoted, and writing that into the ``wasm.yaml``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

from ..canary.record import Record
from ..canary.status import Status
from ..canary.store import Reading
from ..config.promotion import Promotion, write_back
from ..config.router import CanaryConfig, EdgeRouterConfig
from ..config.yaml_edit import YamlEdit
from ..exceptions import CanaryConflict, ConfigError
from ..functions.catalog import Catalog


class Records(Protocol):
    """Where the records of canaries are: a store, or the admin API of an app."""

    async def read(self, function: str) -> Reading: ...


async def promoted(
    store: Records, file: Path, config: EdgeRouterConfig, function: str | None, *, write: bool
) -> list[dict[str, Any]]:
    """Return a row for each canary that is promoted; with ``write`` the file has it from now on.

    Raises CanaryConflict for a named function whose canary is not, and ConfigError for what cannot be written.
    """
    rows = []
    for canary in config.canaries:
        if function in (None, canary.function_name):
            row = await _one(store, file, config, canary, named=function is not None, write=write)
            rows += [] if row is None else [row]
    return rows


async def _one(
    store: Records, file: Path, config: EdgeRouterConfig, canary: CanaryConfig, *, named: bool, write: bool
) -> dict[str, Any] | None:
    reading = await store.read(canary.function_name)
    record = None if reading.record is None else Record.load(reading.record)
    problem = _not_yet(record, canary)
    if record is None or problem is not None:
        if named:
            raise CanaryConflict(canary.function_name, problem or "it has not begun", "see its status")
        return None
    catalog = Catalog(config.functions_dir)
    _check_digest(catalog, canary, record, file)
    edit = YamlEdit(file)
    highest = catalog.versions(canary.function_name)[-1]
    promotion = Promotion(canary.function_name, canary.stable_version, canary.canary_version, highest)
    changes = write_back(edit, promotion)
    if write:
        edit.write()
    return {
        "function": canary.function_name,
        "version": record.canary,
        "digest": f"sha256:{record.digest}",
        "changes": "; ".join(changes),
        "written": write,
    }


def _not_yet(record: Record | None, canary: CanaryConfig) -> str | None:
    if record is None:
        return "it has not begun"
    if record.versions != (canary.stable_version, canary.canary_version):
        return f"v{record.canary} over v{record.stable} has taken its place"
    if record.bakes:
        return "it bakes: it is promoted, and may still go back to stable"
    return None if record.status is Status.PROMOTED else f"it is {record.status}, and not promoted"


def _check_digest(catalog: Catalog, canary: CanaryConfig, record: Record, file: Path) -> None:
    """What was promoted is a module: raise ConfigError if another one lies in functionsDir."""
    source = catalog.get(canary.function_name, canary.canary_version)
    with source.open() as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    if record.digest and digest != record.digest:
        modules = f"(sha256:{digest[:12]}) than was promoted (sha256:{record.digest[:12]})"
        hint = "put the promoted module there"
        raise ConfigError(f"has another module as {source} {modules}", file=file, key="functionsDir", hint=hint)
