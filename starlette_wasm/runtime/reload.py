"""``Reloader``: puts a new deployment in the place of the one that is served, or refuses it whole."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..config.router import Config
from ..config.watch import Snapshot, WatchedFiles
from ..exceptions import RuntimeClosed, WasmError
from ..sync.own_thread import in_own_thread
from .announcements import reload_refused
from .reload_reminder import ReloadReminder

if TYPE_CHECKING:
    from .deployment import Deployment
    from .runtime import WasmRuntime

logger = logging.getLogger("starlette_wasm")
REFUSED = "reload refused, what was served is served on"
"""How the log begins a record of one."""
_REST = 50
"""How many times the CPU time of a part of a look is the rest after it: that bounds the share of thousands of files."""
_MOST_REST = 1.5
"""Seconds of rest within a look, which bounds how late a change is seen."""


class Rests:
    """The rest after one look, in its thread: as long as it has worked, by CPU time, times ``_REST``."""

    def __init__(self) -> None:
        self._left = _MOST_REST
        self._ended = threading.Event()
        self._worked: float | None = None

    def rest(self) -> None:
        now = time.thread_time()
        pause = min((now - (self._worked or now)) * _REST, self._left)
        self._left -= pause
        if pause > 0:
            self._ended.wait(pause)
        self._worked = time.thread_time()

    def end(self) -> None:
        """Rest no more, in a look for whose result nobody waits."""
        self._ended.set()


@dataclass(frozen=True, slots=True)
class Reload:
    """When the last reload was, and why it was refused, as anybody may read it; None if it was not."""

    at: datetime
    refused: str | None


class Reloader:
    """The reloads of one runtime: one at a time, when asked and when files change."""

    def __init__(self, runtime: WasmRuntime, config: Config) -> None:
        self._runtime = runtime
        self._config = config
        self._files = WatchedFiles(config)
        self._tried: Snapshot = frozenset()
        self._asked: asyncio.Event
        self._turn: asyncio.Lock
        self._reminder = ReloadReminder()
        self.last: Reload | None = None
        """None before the first."""

    @property
    def config(self) -> Config:
        """What is loaded at a start and, unless it is given another, by a reload."""
        return self._config

    def first(self, load: Callable[[Config], Deployment]) -> Deployment:
        """Load the config at start, in a thread, and return what ``load`` makes of it."""
        self._asked, self._turn = asyncio.Event(), asyncio.Lock()  # of the event loop that starts the runtime
        self._tried = self._files.snapshot()
        return load(self._config)

    async def reload(self, config: Config | None = None) -> None:
        """Reload as WasmRuntime.reload() does."""
        self._check_open()
        async with self._turn:
            self._check_open()
            begin = time.perf_counter()
            try:
                deployment = await self._swap(config)
            except Exception as error:
                # Errors of others have messages that do not suffice.
                text = str(error) if isinstance(error, WasmError) else f"{type(error).__name__}: {error}"
                public = error.public if isinstance(error, WasmError) else type(error).__name__
                self.last = Reload(datetime.now(UTC), public)
                logger.error(
                    f"{REFUSED}: %s",
                    text,
                    exc_info=None if isinstance(error, WasmError) else error,
                )
                if not isinstance(error, RuntimeClosed):
                    self._reminder.start(text)
                    self._runtime.telemetry.reload_refused(True)
                    for event in reload_refused(error):
                        self._runtime.events.emit(event)
                raise
            self.last = Reload(datetime.now(UTC), None)
            self._reminder.stop()
            self._runtime.telemetry.reload_refused(False)
            logger.info(
                "reloaded in %.0f ms: %d functions, %d rules",
                (time.perf_counter() - begin) * 1e3,
                len(deployment.functions),
                len(deployment.config.rules),
            )

    async def _swap(self, config: Config | None) -> Deployment:
        runtime = self._runtime
        before = runtime.deployment
        files = self._files if config is None else WatchedFiles(config)
        wanted = self._config if config is None else config
        # Before the load: what changes meanwhile is a change to the one who looks next.
        tried = await in_own_thread(files.snapshot)
        if config is None:
            self._tried = tried
        binders = list(runtime.binders)
        deployment = await runtime.loads.run(lambda stop: runtime.load(wanted, binders, stop))
        self._check_open(before)
        await runtime.capabilities.open()
        self._check_open(before)
        self._config, self._files, self._tried = wanted, files, tried
        runtime.adopt(deployment)
        return deployment

    def _check_open(self, deployment: Deployment | None = None) -> None:
        """Raise RuntimeClosed, also if it was closed and started again since it served ``deployment``."""
        if self._runtime.state != "open" or (deployment is not None and self._runtime.deployment is not deployment):
            raise RuntimeClosed(self._runtime.state)

    def request(self) -> None:
        """Reload soon. On the event loop that run() runs on; several that come at once are one."""
        self._asked.set()

    async def run(self, interval: float) -> None:
        """Reload if asked and, with an ``interval`` in seconds, if files have changed.

        A change is taken when two looks in a row find the same, so that no half of a copy is loaded; what was refused
        is tried again at the next change.
        """
        try:
            await self._watch(interval)
        finally:
            self._reminder.stop()

    async def _watch(self, interval: float) -> None:
        before = self._tried
        while True:
            asked = await self._pause(interval)
            if not asked:
                now = await self._look(spread=before == self._tried)
                quiet, before = now == before, now
                if now == self._tried or not quiet:
                    continue
            with suppress(Exception):  # it is in the log
                await self.reload()

    async def _look(self, *, spread: bool) -> Snapshot:
        """Look at the files, with rests in between if ``spread``: a change that was seen is soon to be taken."""
        files, rests = self._files, Rests()
        try:
            return await in_own_thread(lambda: files.snapshot(rests.rest if spread else None))
        finally:
            rests.end()

    async def _pause(self, interval: float) -> bool:
        """Wait for somebody to ask, and return whether one has; False if the interval is over."""
        try:
            async with asyncio.timeout(interval or None):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True
