"""``History``: the traffic of the last minutes, for the charts of the dashboard."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable

SLOTS = 60
SLOT_SECONDS = 5


class History:
    """Counts requests and errors in 60 slots of 5 seconds; the oldest is overwritten."""

    __slots__ = ("_clock", "_errors", "_last", "_requests")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requests = array("L", [0]) * SLOTS
        self._errors = array("L", [0]) * SLOTS
        self._last = self._now()

    def add(self, failed: bool) -> None:
        """Count one request."""
        slot = self._forget_old() % SLOTS
        self._requests[slot] += 1
        self._errors[slot] += failed

    def counts(self) -> tuple[list[int], list[int]]:
        """Return requests and errors of each whole slot, the oldest first. The slot that runs is left out."""
        first = self._forget_old() + 1
        order = [(first + i) % SLOTS for i in range(SLOTS - 1)]
        return [self._requests[i] for i in order], [self._errors[i] for i in order]

    def _now(self) -> int:
        return int(self._clock() / SLOT_SECONDS)

    def _forget_old(self) -> int:
        """Clear the slots that have passed without a request; return the number of the slot that runs."""
        now = self._now()
        for passed in range(max(self._last + 1, now - SLOTS + 1), now + 1):
            self._requests[passed % SLOTS] = self._errors[passed % SLOTS] = 0
        self._last = now
        return now
