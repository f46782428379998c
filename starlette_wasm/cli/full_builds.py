"""Builds, behind what a quick build serves already, the modules that stay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ..exceptions import WasmError
from .build_commands import Commands, Stopped
from .build_runner import Buildable, Built, build

_PAUSE = 0.5
"""Seconds after a quick build: whoever saves again and again pays for nothing."""
_NICE = 10


@dataclass(slots=True)
class _Build:
    """One build. ``runs``: whether its commands run, or may at any moment."""

    commands: Commands = field(default_factory=lambda: Commands(nice=_NICE))
    runs: bool = False
    task: asyncio.Task[None] | None = None


class FullBuilds:
    """One build at a time. ``built`` and ``failed`` learn what came of each that was not stopped."""

    def __init__(
        self,
        serving: asyncio.Event,
        built: Callable[[Built], Awaitable[None]],
        failed: Callable[[WasmError], None],
    ) -> None:
        """Take ``serving``: no build begins before it is set."""
        self._serving = serving
        self._built = built
        self._failed = failed
        self._turn = asyncio.Lock()
        self._under_way: dict[str, _Build] = {}

    def begin(self, buildable: Buildable) -> None:
        """Build that version, soon; ``stop()`` was called before."""
        under_way = self._under_way[str(buildable)] = _Build()
        under_way.task = asyncio.create_task(self._make(buildable, under_way))

    async def stop(self, buildable: Buildable) -> None:
        """End the build of that version, and wait until nothing of it runs."""
        await self._stop(str(buildable))

    async def stop_all(self) -> None:
        """End all builds, and wait for that."""
        for name in list(self._under_way):
            await self._stop(name)

    async def _stop(self, name: str) -> None:
        under_way = self._under_way.pop(name, None)
        if under_way is None or under_way.task is None:
            return
        under_way.commands.stop()
        if not under_way.runs:  # a thread that builds is waited for
            under_way.task.cancel()
        await asyncio.gather(under_way.task, return_exceptions=True)

    async def _make(self, buildable: Buildable, under_way: _Build) -> None:
        await self._serving.wait()
        await asyncio.sleep(_PAUSE)
        async with self._turn:
            under_way.runs = True
            try:
                built = await asyncio.to_thread(build, buildable, commands=under_way.commands)
            except Stopped:
                return
            except WasmError as error:
                self._failed(error)
                return
        await self._built(built)
