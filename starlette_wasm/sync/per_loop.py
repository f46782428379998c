"""Things that belong to one event loop, such as connection pools, for an app that may see several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One T for each event loop, made at first use and closed with its loop.

    It hangs on an asynchronous generator, which a loop closes as it shuts down (``loop.shutdown_asyncgens()``:
    ``asyncio.run``, ``asyncio.Runner``, anyio and uvloop all call it). ``TestClient`` without lifespan has a new
    loop for every request.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> None:
        self._make = make
        self._close = close
        self._held: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[T, None]]] = {}

    async def get(self) -> T:
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is None:
            for other in list(self._held):
                if other.is_closed():  # without shutdown_asyncgens(): nothing of it can be closed any more
                    self._held.pop(other, None)
            life = self._live(loop)
            held = self._held[loop] = await anext(life), life  # nothing is awaited in there before the yield
        return held[0]

    def here(self) -> T | None:
        """Return the one of this event loop, if it was made."""
        held = self._held.get(asyncio.get_running_loop())
        return None if held is None else held[0]

    async def _live(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[T, None]:
        value = self._make()
        try:
            yield value
        finally:
            self._held.pop(loop, None)
            await self._close(value)

    async def close(self) -> None:
        """Close what belongs to this loop; the rest is closed with its own."""
        if held := self._held.get(asyncio.get_running_loop()):
            await held[1].aclose()
