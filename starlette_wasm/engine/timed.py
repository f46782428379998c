"""``Timed``: an awaitable whose turns on the event loop are measured."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Timed(Generic[T]):
    """Measures an awaitable, once: ``book`` is given the CPU seconds of each of its turns on the event loop."""

    __slots__ = ("_book", "_of")

    def __init__(self, of: Awaitable[T], book: Callable[[float], None]) -> None:
        self._of = of
        self._book = book

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
                self._book(time.thread_time() - begin)
            try:
                yield found
            except BaseException as error:
                step = _throw(turns, error)
            else:
                step = lambda: next(turns)  # noqa: E731


def _throw(turns: Generator[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: turns.throw(error)
