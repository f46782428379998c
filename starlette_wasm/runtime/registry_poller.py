"""``RegistryPoller``: asks ``functionsSource`` at the start and from time to time."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from ..config.router import Config, load_config
from ..config.settings import WasmSettings
from ..sync.own_thread import in_own_thread

if TYPE_CHECKING:
    from .functions_source import RegistrySource
    from .runtime import WasmRuntime


class RegistryPoller:
    """Belongs to one runtime. What asks a registry is imported with the first config that has a ``functionsSource``."""

    def __init__(self, runtime: WasmRuntime) -> None:
        self._runtime = runtime
        self._source: RegistrySource | None = None

    async def first(self, given: Config, settings: WasmSettings) -> None:
        """Fill functionsDir before the first load.

        If that fails, the runtime starts with what was pulled before. Raises ConfigError, and WasmError if nothing was.
        """
        config = await in_own_thread(lambda: load_config(given))
        if config.functions_source is not None:
            source = await self._loaded()
            await source.first(config, settings)

    async def run(self) -> None:
        """Ask the registry for ever; what has changed is compiled, put in place, and taken by a reload."""
        while True:
            seconds = self._runtime.deployment.config.functions_poll_seconds
            await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # not all nodes at the same moment
            if self._runtime.deployment.config.functions_source is not None:
                source = await self._loaded()
                await source.poll()

    async def _loaded(self) -> RegistrySource:
        if self._source is None:
            self._source = await in_own_thread(self._load)
        return self._source

    def _load(self) -> RegistrySource:
        from .functions_source import RegistrySource

        return RegistrySource(self._runtime)
