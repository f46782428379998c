"""``Pace``: how much of an event loop's time goes into one kind of work, of which much may be due at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Hashable, Iterable
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

SLICE = 0.001
"""Seconds of such work, before the loop turns to what else is to be done."""


class Pace:
    """One for an event loop. Those who wait are served in turn: first by tenant, then in the order they came."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._armed = False
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @property
    def is_free(self) -> bool:
        """Whether turn() would not wait."""
        return self._spent < SLICE and not self._waiting

    async def turn(self, tenant: Hashable) -> float:
        """Return how many seconds the caller may use now."""
        if self.is_free:
            return SLICE - self._spent
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        self._arm()
        await turn
        return SLICE

    async def in_turns(self, tenant: Hashable, things: Iterable[T]) -> AsyncIterator[T]:
        """Yield things, in turn with what others do: the work on each, which does not wait, counts."""
        left = await self.turn(tenant)
        for each in things:
            begin = time.perf_counter()
            yield each
            left -= self.spend(begin)
            if left <= 0:
                left = await self.turn(tenant)

    def spend(self, since: float) -> float:
        """Book the time since ``since``, on time.perf_counter(), and give it."""
        took = time.perf_counter() - since
        self.book(took)
        return took

    def book(self, seconds: float) -> None:
        """Book time that was used; without a loop if it is that of a coroutine that is closed after its loop."""
        self._spent += seconds
        if asyncio._get_running_loop() is not None:
            self._arm()

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Let one of those who wait go on, in the loop's next round."""
        self._armed = False
        self._spent = 0.0
        while self._waiting:
            turn = self._pop()
            if not turn.done():  # else its request was cancelled
                turn.set_result(None)
                break
        if self._waiting:
            self._arm()

    def _pop(self) -> asyncio.Future[None]:
        tenant = next(iter(self._waiting))
        turns = self._waiting.pop(tenant)
        turn = turns.popleft()
        if turns:
            self._waiting[tenant] = turns  # behind the others
        return turn


class Paces:
    """One Pace for each event loop."""

    def __init__(self) -> None:
        self._paces: WeakKeyDictionary[asyncio.AbstractEventLoop, Pace] = WeakKeyDictionary()

    def here(self) -> Pace:
        """Return that of the loop that runs."""
        loop = asyncio.get_running_loop()
        pace = self._paces.get(loop)
        if pace is None:
            pace = self._paces[loop] = Pace()
        return pace
