"""``Timed``: an awaitable whose turns on the event loop are measured, and shared out among tenants."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Hashable
from typing import Any, Generic, TypeVar

from ..sync.pace import Pace

T = TypeVar("T")

_LEAST = 50e-6
"""Seconds of a turn that count: as many of these as there are guests take less than a turn of the others."""


class Timed(Generic[T]):
    """Measures an awaitable, once: ``book`` is given the CPU seconds of each of its turns on the event loop.

    What many guests wait for may be there at once, so that their turns would follow each other in one round of the
    loop. Those that take time come by the ``pace``.
    """

    __slots__ = ("_book", "_of", "_pace", "_tenant")

    def __init__(self, of: Awaitable[T], book: Callable[[float], None], pace: Pace, tenant: Hashable) -> None:
        self._of = of
        self._book = book
        self._pace = pace
        self._tenant = tenant

    def __await__(self) -> Generator[Any, Any, T]:
        turns = self._of.__await__()
        step: Callable[[], Any] = lambda: next(turns)  # noqa: E731
        while True:
            begin = time.thread_time()
            try:
                found = step()
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self._note(time.thread_time() - begin)
            try:
                yield found
                if not self._pace.is_free:
                    yield from self._pace.turn(self._tenant).__await__()
            except BaseException as error:
                step = _throw(turns, error)
            else:
                step = lambda: next(turns)  # noqa: E731

    def _note(self, seconds: float) -> None:
        self._book(seconds)
        if seconds > _LEAST:
            self._pace.book(seconds)


def _throw(turns: Generator[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: turns.throw(error)
