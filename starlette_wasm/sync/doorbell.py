"""Wakes one coroutine of an event loop, from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


class Doorbell:
    """A wake-up for one coroutine that waits. Made on its event loop."""

    __slots__ = ("_awaited", "_event", "_loop", "_thread")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._event = asyncio.Event()
        self._awaited = False

    def ring(self) -> None:
        """Wake whoever waits, as something has changed. Costs next to nothing if nobody does."""
        if self._awaited:
            self._awaited = False
            if threading.get_ident() == self._thread:
                self._event.set()
                return
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._event.set)

    async def until(self, ready: Callable[[], object]) -> None:
        """Return once ``ready()`` is true; it is asked after each ring()."""
        while not ready():
            self._event.clear()
            self._awaited = True
            if ready():  # it has become so in another thread, which saw nobody wait
                break
            await self._event.wait()
        self._awaited = False
