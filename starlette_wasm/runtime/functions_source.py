"""``RegistrySource``: brings functionsDir to what ``functionsSource`` holds, from within the app."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.named import named_versions
from ..config.router import EdgeRouterConfig, load_config
from ..config.settings import WasmSettings
from ..exceptions import ConfigError, WasmError
from ..functions.admission import admit
from ..functions.registry import lockfile, place
from ..functions.registry.directory_lock import directory_lock
from ..functions.registry.lockfile import Entry
from ..functions.registry.reference import parse
from ..functions.required_signatures import load_required
from ..sync.own_thread import in_own_thread

if TYPE_CHECKING:
    from ..functions.registry.client import Client
    from ..functions.registry.keys import PublicKey
    from .runtime import WasmRuntime

logger = logging.getLogger("starlette_wasm")

_PLACED = ".source.lock"
"""The file that lists what the poller has put into functionsDir; it removes nothing else."""
_INSTALL = "run python -m pip install 'starlette-wasm[registry]'"
TOPIC = "functionsSource"
"""The topic of the note in ``/ready``."""


class RegistrySource:
    """Belongs to one runtime. Processes that share a functionsDir take turns."""

    def __init__(self, runtime: WasmRuntime) -> None:
        self._runtime = runtime
        self._last_error: str | None = None
        self._wanted: Sequence[Entry] = ()

    async def first(self, config: EdgeRouterConfig, settings: WasmSettings) -> None:
        """Fill functionsDir before the first load. Raises WasmError if nothing was pulled before."""
        try:
            async with directory_lock(config.functions_dir):
                await self._sync(config, settings, first=True)
        except WasmError as error:
            if isinstance(error, ConfigError) or not _placed(config.functions_dir):
                raise
            self._tell(error)

    async def poll(self) -> None:
        """Ask once. What goes wrong is logged, and noted in the body of ``/ready``."""
        try:
            await self._poll()
            self._tell(None)
        except WasmError as error:
            self._tell(error)
        except Exception:
            logger.exception("functionsSource: what is served is served on")

    async def _poll(self) -> None:
        """Poll once, by the config on disk, whose reload may need the functions pulled here. Raises WasmError."""
        runtime = self._runtime
        config = await in_own_thread(lambda: load_config(runtime.reloader.config))
        if config.functions_source is None:
            return
        async with directory_lock(config.functions_dir):
            pulled = await self._sync(config, runtime.settings)
            kept = {entry.key for entry in self._wanted} | self._named(config)
            removed = await in_own_thread(lambda: _remove_unnamed(config.functions_dir, kept))
            if removed or pulled:
                await runtime.reload()

    def _tell(self, error: WasmError | None) -> None:
        """Report what is wrong: once in the log and, without values, in the body of ``/ready``."""
        text = None if error is None else str(error)
        if text != self._last_error and text is not None:
            logger.error("functionsSource: what is served is served on: %s", text)
        elif self._last_error is not None and text is None:
            logger.info("functionsSource: as it should be again")
        self._last_error = text
        if error is None:
            self._runtime.notes.pop(TOPIC, None)
        else:
            self._runtime.notes[TOPIC] = f"the last look failed ({error.slug})"

    async def _sync(self, config: EdgeRouterConfig, settings: WasmSettings, *, first: bool = False) -> bool:
        """Pull what is missing or differs. Says whether anything has changed."""
        from ..functions.registry import source, transfer

        required = load_required(config.require_signatures or (), None)
        keys: Sequence[PublicKey] = required.keys if required else ()
        references = [parse(each) for each in config.functions_source or ()]
        async with _client(settings) as client:
            entries = await source.resolve(client, references, named_versions(config), config.keep_versions, keys)
            config.functions_dir.mkdir(parents=True, exist_ok=True)
            _remember(config.functions_dir, [*_placed(config.functions_dir), *entries])
            changes = await transfer.sync(
                client, config.functions_dir, entries, keys=keys, admit=None if first else self._admit
            )
        self._wanted = entries
        pulled = [change for change in changes if change.action == "pulled"]
        for change in pulled:
            logger.info("functionsSource: %s v%s is %s", change.name, change.version, change.module)
        return bool(pulled)

    async def _admit(self, entry: Entry, part: Path, manifest: str | None) -> None:
        """Compile a module before it is put in place. Raises ModuleLoadError and ConfigError."""
        engine, settings = self._runtime.engine, self._runtime.settings
        await in_own_thread(lambda: admit(engine, settings, entry.name, entry.version, part, manifest))

    def _named(self, config: EdgeRouterConfig) -> set[tuple[str, str]]:
        """Return the versions that rules, canaries, pipelines, routes, calls and the records of rollouts name."""
        named = {(name, version) for name, versions in named_versions(config).items() for version in versions}
        deployment = self._runtime.deployment
        asked = [*(key[:2] for key in deployment.targets), *(key[1:] for key in deployment.imported)]
        named |= {(name, version) for name, version in asked if version is not None}
        for function, live in self._runtime.canaries.all.items():
            if live.record is not None:
                named |= {(function, version) for version in live.record.versions}
        return named


def _remove_unnamed(directory: Path, kept: Set[tuple[str, str]]) -> bool:
    """Remove what the poller has placed and nothing names any more. Says whether it did."""
    placed = _placed(directory)
    left = [entry for entry in placed if entry.key in kept]
    for entry in placed:
        if entry.key not in kept and place.module_file(directory, *entry.key).exists():
            place.remove(directory, *entry.key)
            logger.info("functionsSource: removed %s, which nothing names any more", entry)
    _remember(directory, left)
    return len(left) < len(placed)


def _placed(directory: Path) -> list[Entry]:
    file = directory / _PLACED
    return lockfile.read(file) if file.exists() else []


def _remember(directory: Path, entries: Sequence[Entry]) -> None:
    lockfile.write(directory / _PLACED, {entry.key: entry for entry in entries}.values())


def _client(settings: WasmSettings) -> Client:
    try:
        from ..functions.registry.client import Client
    except ImportError:
        raise ConfigError("needs httpx and cryptography", key="functionsSource", hint=_INSTALL) from None
    return Client(plain_http=settings.registry_plain_http, ca=settings.registry_ca)
