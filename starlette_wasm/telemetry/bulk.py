"""``InBulk``: adds up the figures of ordinary invocations, and hands the sums to a metrics library when it is read.

Each invocation updates one counter and three histograms. An update takes some 20 us in OpenTelemetry's SDK, and 3 us in
prometheus-client; adding to plain numbers takes far less. The first invocation of a series, and one a second as an
exemplar, still go to the library one by one.
"""

from __future__ import annotations

import math
import os
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Protocol
from weakref import WeakSet

from .observation import Key

_EXEMPLAR_EVERY = 1.0
"""Seconds between two sampled invocations that are recorded one by one, to be exemplars."""
MOST_SERIES = 4096
_SETTLED_EVERY = 512
"""Observations of a series. To sort them takes a tenth of a millisecond."""


class Point(Protocol):
    """A histogram of a library that takes many observations at once."""

    def add(self, counts: Sequence[int], total: float, low: float, high: float) -> None:
        """Add observations: how many are in each bucket, their sum, the lowest and the highest."""


class Bulk:
    """Observations of one histogram that the library does not have yet."""

    __slots__ = ("_counts", "_high", "_low", "_total", "_values", "add", "bounds", "points")

    def __init__(self, bounds: Sequence[float], points: Sequence[Point]) -> None:
        self.bounds = bounds
        self.points = points
        self._values = array("d")
        self.add = self._values.append
        """Adds one; call settle() now and then."""
        self.clear()

    def clear(self) -> None:
        del self._values[:]
        self._counts = [0] * (len(self.bounds) + 1)
        self._total = 0.0
        self._low, self._high = math.inf, -math.inf

    def settle(self) -> None:
        """Put what was added into the buckets: many at once take less time."""
        values = sorted(self._values)
        if not values:
            return
        del self._values[:]
        ends = [0, *(bisect_right(values, bound) for bound in self.bounds), len(values)]
        self._counts = [count + end - begin for count, begin, end in zip(self._counts, ends, ends[1:], strict=False)]
        self._total += math.fsum(values)
        self._low, self._high = min(self._low, values[0]), max(self._high, values[-1])

    def hand_over(self) -> None:
        self.settle()
        for point in self.points:
            point.add(self._counts, self._total, self._low, self._high)
        self.clear()


class Series:
    """Successful invocations with the same attributes."""

    __slots__ = ("_count", "_cpu", "_duration", "_exemplar_at", "_invocations", "_memory")

    def __init__(self, invocations: Callable[[int], object], duration: Bulk, cpu: Bulk, memory: Bulk) -> None:
        """Take ``invocations``, which adds to the counter."""
        self._invocations = invocations
        self._duration, self._cpu, self._memory = duration, cpu, memory
        self._count = 0
        self._exemplar_at = 0.0

    def add(self, sampled: bool, duration: float, cpu: float, memory: int) -> bool:
        """Add an invocation. False: it was sampled, and is to be recorded by itself, as the exemplar of this second."""
        if sampled and (now := time.monotonic()) >= self._exemplar_at:
            self._exemplar_at = now + _EXEMPLAR_EVERY
            return False
        self._duration.add(duration)
        self._cpu.add(cpu)
        self._memory.add(memory)
        self._count += 1
        if not self._count % _SETTLED_EVERY:
            for each in (self._duration, self._cpu, self._memory):
                each.settle()
        return True

    def hand_over(self) -> None:
        if self._count:
            self._invocations(self._count)
            self._count = 0
            for each in (self._duration, self._cpu, self._memory):
                each.hand_over()

    def forget(self) -> None:
        self._count = 0
        for each in (self._duration, self._cpu, self._memory):
            each.clear()


class InBulk:
    """The series of one library. Safe for threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._series: dict[Key, Series | None] = {}
        _all.add(self)

    def forget(self) -> None:
        """Drop, in a forked child, what is yet to be handed over: the parent does that."""
        self._lock = Lock()  # a thread of the parent may have held it
        for series in self._series.values():
            if series is not None:
                series.forget()

    def add(self, key: Key, sampled: bool, duration: float, cpu: float, memory: int) -> bool:
        """Add a warm invocation that succeeded and did not wait. False: it is to be recorded by itself."""
        with self._lock:
            series = self._series.get(key)
            return series is not None and series.add(sampled, duration, cpu, memory)

    def begin(self, key: Key, make: Callable[[], Series]) -> None:
        """Begin to add up the invocations of a series, the first of which has been recorded by itself.

        If ``make`` raises LookupError, as with an unknown version of the library, each is recorded by itself.
        """
        if key in self._series:
            return
        try:
            series = make()
        except LookupError:
            series = None
        with self._lock:
            if key in self._series:  # from another thread, and it may hold observations already
                return
            if len(self._series) >= MOST_SERIES:
                self._hand_over()
                self._series.clear()
            self._series[key] = series

    def hand_over(self) -> None:
        with self._lock:
            self._hand_over()

    def _hand_over(self) -> None:
        for series in self._series.values():
            if series is not None:
                series.hand_over()


_all: WeakSet[InBulk] = WeakSet()


def _after_fork() -> None:
    for each in list(_all):
        each.forget()


os.register_at_fork(after_in_child=_after_fork)
