"""Counts over the recent past."""

from __future__ import annotations

from collections.abc import Callable

_SLOTS = 10


class Window:
    """Calls, and those of them that were marked, over the last ``seconds``, exact to a tenth of it."""

    __slots__ = ("_clock", "_slots", "_width")

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._width = seconds / _SLOTS
        self._slots = [[-_SLOTS, 0, 0] for _ in range(_SLOTS)]

    def add(self, calls: int, marked: int = 0) -> None:
        now = int(self._clock() / self._width)
        slot = self._slots[now % _SLOTS]
        if slot[0] != now:
            slot[:] = now, 0, 0
        slot[1] += calls
        slot[2] += marked

    def totals(self) -> tuple[int, int]:
        """Count the calls, and the marked ones."""
        since = int(self._clock() / self._width) - _SLOTS
        recent = [slot for slot in self._slots if slot[0] > since]
        return sum(slot[1] for slot in recent), sum(slot[2] for slot in recent)
