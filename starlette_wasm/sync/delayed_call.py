"""``DelayedCall``: calls a function a moment after it was asked for, once for all who ask meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_LATE = 1.0
"""Seconds after which a call that is due is no longer expected: its event loop does not run."""


class DelayedCall:
    """Calls on the event loop that asks first; at once if none runs, or if the one that was to call does not."""

    __slots__ = ("_due", "_seconds", "_what", "delays")

    def __init__(self, seconds: float, what: Callable[[], None]) -> None:
        self._seconds = seconds
        self._what = what
        self._due: float | None = None
        """On time.monotonic()."""
        self.delays = True
        """Whether it delays; else it calls at once, such as for a process that is about to end."""

    def schedule(self) -> None:
        """Have the function called, unless that is about to be."""
        if not self.delays:
            self._call()
            return
        now, due = time.monotonic(), self._due
        if due is not None and now < due + _LATE:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._call()
            return
        if due is not None:
            self._call()
            return
        self._due = now + self._seconds
        loop.call_later(self._seconds, self._call)

    def forget(self) -> None:
        """Expect no call any more, such as in a forked child."""
        self._due = None

    def _call(self) -> None:
        self._due = None
        self._what()
