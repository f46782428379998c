"""``Webhook``: sends events to one endpoint, one after the other, in the background."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from urllib.parse import urlsplit

from ...config.events import WebhookConfig
from ...sync.fair_queue import FairQueue, NoRoom
from .event import Event
from .post import Poster, PostFailed

logger = logging.getLogger("starlette_wasm")

_EACH = 20
"""Events of one function that may wait."""
_MOST = 500
"""Events that may wait, and one more of each function of which none does."""
_ATTEMPTS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Webhook:
    """Sends for one entry of ``events:``. An event that finds no place is dropped; functions take turns."""

    def __init__(self, key: str, config: WebhookConfig, source: str) -> None:
        """Raise ConfigError for a secret that cannot be had. ``key`` names the entry."""
        self.config = config
        url, headers = config.revealed(key)
        self.name = f"{key} ({urlsplit(url).hostname})"
        self.problem: str | None = None
        """What went wrong last, until an event is taken again."""
        self.dropped = 0
        self.first_pause = _FIRST_PAUSE
        self._source = source
        self._poster = Poster(url, headers, config.timeout_ms / 1000)
        self._queue: FairQueue[Event] = FairQueue(_EACH)
        self._size = 0
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def put(self, event: Event) -> None:
        """Send it later. Waits for nothing."""
        try:
            if self._size >= _MOST and self._queue.holds(event.function):
                raise NoRoom
            self._queue.put(event.function, event)
        except NoRoom:
            self._lost("too many events wait")
            return
        self._size += 1
        self._idle.clear()
        self._more.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"starlette-wasm {self.name}")

    async def close(self, seconds: float) -> None:
        """Wait that long for what is to be sent, then give it up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._size:
            logger.warning("%s: %d events are not sent: the app ends", self.name, self._size)

    async def _run(self) -> None:
        while True:
            await self._more.wait()
            event = self._queue.take()
            if event is None:
                self._more.clear()
                self._idle.set()
                continue
            try:
                await self._send(event)
            except Exception:  # the next one may do better
                logger.exception("%s: an event is lost", self.name)
                self._lost("an error of ours, see the log")
            self._size -= 1

    async def _send(self, event: Event) -> None:
        """Try until it is taken, or for good refused."""
        slack = self.config.format == "slack"
        document = event.to_slack(self._source) if slack else event.to_cloudevent(self._source)
        content_type = "application/json" if slack else "application/cloudevents+json"
        pause = self.first_pause
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._poster.post(document, content_type)
            except PostFailed as error:
                if not error.again or attempt == _ATTEMPTS:
                    self._lost(str(error))
                    return
                await asyncio.sleep(min(error.pause or pause * random.uniform(0.8, 1.2), _LONGEST_PAUSE))
                pause *= 2
            else:
                self.problem = None
                return

    def _lost(self, problem: str) -> None:
        self.dropped += 1
        if problem != self.problem:
            logger.warning("%s: an event is lost: %s", self.name, problem)
        self.problem = problem
