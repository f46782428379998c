"""``SharedWork``: work in threads whose result is the same for all who ask for it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

from .threads import FairThreads

T = TypeVar("T")


class SharedWork(Generic[T]):
    """Work that has not begun is done for whoever asks until it does: nobody gets what is older than the request."""

    def __init__(self, threads: FairThreads) -> None:
        """Take the threads, for which all of it is the work of one tenant."""
        self._threads = threads
        self._waiting: dict[Hashable, asyncio.Future[T]] = {}

    async def run(self, key: Hashable, work: Callable[[], T]) -> T:
        """Return the result of ``work``, which is the same for each who asks for ``key`` on this event loop.

        There must be few keys: each may wait.
        """
        place = asyncio.get_running_loop(), key
        shared = self._waiting.get(place)
        if shared is None:
            shared = asyncio.ensure_future(self._threads.run(self, partial(self._begin, place, work)))
            self._waiting[place] = shared
            shared.add_done_callback(partial(self._ended, place))
        return await asyncio.shield(shared)

    def _begin(self, place: Hashable, work: Callable[[], T]) -> T:
        self._waiting.pop(place, None)
        return work()

    def _ended(self, place: Hashable, shared: asyncio.Future[T]) -> None:
        if self._waiting.get(place) is shared:  # it never began
            del self._waiting[place]
        if not shared.cancelled():
            shared.exception()  # all who asked may have gone
