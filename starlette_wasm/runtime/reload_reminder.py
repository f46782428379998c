"""``ReloadReminder``: logs a refused reload again, as one line in the log is soon out of sight."""

from __future__ import annotations

import asyncio
import logging
import time

logger = logging.getLogger("starlette_wasm")
FIRST, MOST = 60.0, 3600.0
"""Seconds until it is logged again: at first, and at most; each pause is twice as long as the one before."""


class ReloadReminder:
    """Logs that a reload was refused, at growing intervals, until one is taken or the runtime closes."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._text = ""
        self._timer: asyncio.TimerHandle | None = None

    def start(self, text: str) -> None:
        """Begin: a reload was refused, for the reason ``text``. On the event loop."""
        since = time.monotonic() if self._since is None else self._since
        self.stop()
        self._since, self._text = since, text
        self._next(FIRST)

    def stop(self) -> None:
        """End: a reload was taken, or the runtime closes."""
        if self._timer is not None:
            self._timer.cancel()
        self._since = self._timer = None

    def _next(self, pause: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(pause, self._say, pause)

    def _say(self, pause: float) -> None:
        assert self._since is not None
        minutes = (time.monotonic() - self._since) / 60
        logger.warning("a reload was refused %.0f min ago, what was served is served on: %s", minutes, self._text)
        self._next(min(2 * pause, MOST))
