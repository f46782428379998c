"""``BackgroundTasks``: what a runtime loads in threads, which end soon if nobody waits for them any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from ..exceptions import RuntimeClosed
from ..functions.load_cancellation import LoadCancellation, LoadCancelled
from ..sync.own_thread import in_own_thread

T = TypeVar("T")


class BackgroundTasks:
    """The tasks under way."""

    def __init__(self) -> None:
        self._stops: set[LoadCancellation] = set()

    async def run(self, load: Callable[[LoadCancellation], T]) -> T:
        """Run ``load`` in a thread, to its end; a cancelled caller stops it. Raises RuntimeClosed after stop()."""
        stop = LoadCancellation()
        self._stops.add(stop)
        thread = asyncio.ensure_future(in_own_thread(partial(load, stop)))
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            stop.stop()
            while not thread.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([thread])
            if not thread.cancelled():
                thread.exception()  # nobody wants to know
            raise
        except LoadCancelled:
            raise RuntimeClosed("closed") from None
        finally:
            self._stops.discard(stop)

    def stop(self) -> None:
        """Stop all tasks; from any thread."""
        for stop in list(self._stops):
            stop.stop()
