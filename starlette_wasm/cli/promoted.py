"""``canary promoted``: what was promoted, and writing that into the ``wasm.yaml``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..canary.place import Place
from ..canary.record import Record
from ..canary.report import describe
from ..canary.state import CanaryState
from ..canary.status import Status
from ..canary.store import Store
from ..canary.waves import Waves
from ..config.promotion import Promotion, write_back
from ..config.router import CanaryConfig, EdgeRouterConfig
from ..config.yaml_edit import YamlEdit
from ..exceptions import CanaryConflict, ConfigError
from ..functions.catalog import Catalog


class Rollouts(Protocol):
    """Gives the records of canaries, from a store or from the admin API of an app."""

    async def record(self, canary: CanaryConfig) -> str | None:
        """Return the record of a canary, as a store has it."""

    async def waves(self, canary: CanaryConfig) -> Sequence[Mapping[str, Any]]:
        """Return how each of its regions stands, as describe() has it."""


class StoredRollouts:
    """Reads a store, for the region that the settings name."""

    def __init__(self, store: Store, place: Place, waves: Waves) -> None:
        self._store = store
        self._place = place
        self._waves = waves

    async def record(self, canary: CanaryConfig) -> str | None:
        return (await self._store.read(self._place.record(canary))).record

    async def waves(self, canary: CanaryConfig) -> Sequence[Mapping[str, Any]]:
        """Raise CapabilityError and ConfigError."""
        live = CanaryState(canary, place=self._place)
        _, live.board = await self._waves.read(self._store, live)
        return list(describe(canary.function_name, live)["waves"])


async def promoted(
    store: Rollouts, file: Path, config: EdgeRouterConfig, function: str | None, *, write: bool
) -> list[dict[str, Any]]:
    """Return a row for each canary that is promoted; with ``write`` it is written to the file.

    Raises CanaryConflict for a named function whose canary is not, and ConfigError for what cannot be written.
    """
    rows = []
    for canary in config.canaries:
        if function in (None, canary.function_name):
            row = await _one(store, file, config, canary, named=function is not None, write=write)
            rows += [] if row is None else [row]
    return rows


async def _one(
    store: Rollouts, file: Path, config: EdgeRouterConfig, canary: CanaryConfig, *, named: bool, write: bool
) -> dict[str, Any] | None:
    text = await store.record(canary)
    record = None if text is None else Record.load(text)
    problem = _not_yet(record, canary)
    if problem is None and canary.waves:
        problem = _not_everywhere(canary.waves, await store.waves(canary))
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


def _not_everywhere(regions: Sequence[str], waves: Sequence[Mapping[str, Any]]) -> str | None:
    """Return which regions have not promoted it for good: all of them read the same ``wasm.yaml``."""
    through = {each.get("region") for each in waves if each.get("status") == Status.PROMOTED and not each.get("bakes")}
    behind = [region for region in regions if region not in through]
    return f"it is promoted here, and not yet in {', '.join(behind)}" if behind else None


def _check_digest(catalog: Catalog, canary: CanaryConfig, record: Record, file: Path) -> None:
    """Raise ConfigError if another module lies in functionsDir than the one that was promoted."""
    source = catalog.get(canary.function_name, canary.canary_version)
    with source.open() as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    if record.digest and digest != record.digest:
        modules = f"(sha256:{digest[:12]}) than was promoted (sha256:{record.digest[:12]})"
        hint = "put the promoted module there"
        raise ConfigError(f"has another module as {source} {modules}", file=file, key="functionsDir", hint=hint)
