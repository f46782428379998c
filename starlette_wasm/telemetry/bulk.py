"""``Series``: what ordinary invocations add to the histograms of OpenTelemetry's SDK, handed over at collection.

A call of ``Histogram.record()`` or ``Counter.add()`` takes some 20 us, and an invocation has four. Here it adds to
plain numbers; when a reader collects, they go into the points that the SDK has for the same attributes. The first
observation of a series, and one for an exemplar each second, are recorded by the API.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Sequence

from opentelemetry.metrics import Counter, Histogram
from opentelemetry.util.types import Attributes

from . import sdk
from .observation import Observation

_EXEMPLAR_EVERY = 1.0
"""Seconds between two sampled invocations that are recorded by the API, which makes exemplars of them."""


class Bulk:
    """Observations of one histogram that the SDK does not have yet."""

    __slots__ = ("bounds", "counts", "high", "low", "points", "total")

    def __init__(self, bounds: Sequence[float], points: list[sdk.HistogramPoint]) -> None:
        self.bounds = bounds
        self.points = points
        self.clear()

    def clear(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
        if value < self.low:
            self.low = value
        if value > self.high:
            self.high = value

    def hand_over(self) -> None:
        for point in self.points:
            point.add(self.counts, self.total, self.low, self.high)
        self.clear()


class Series:
    """Successful invocations with the same attributes. Not safe for threads: Metrics has a lock."""

    __slots__ = ("_count", "_counter", "_cpu", "_duration", "_exemplar_at", "_memory", "attributes")

    def __init__(
        self, attributes: Attributes, counter: Counter, histograms: Sequence[tuple[Histogram, Sequence[float]]]
    ) -> None:
        """``histograms`` are those of duration, CPU time and memory, with their bounds; all have been recorded on.

        Raises LookupError if the SDK keeps them in another way: a view has other bounds, for example.
        """
        self.attributes = attributes
        self._counter = counter
        self._count = 0
        self._exemplar_at = 0.0
        self._duration, self._cpu, self._memory = [
            Bulk(bounds, sdk.histogram_points(histogram, attributes, tuple(bounds))) for histogram, bounds in histograms
        ]

    def takes(self, seen: Observation) -> bool:
        """Whether nothing is lost if an observation is added here: it may be due for an exemplar."""
        if not seen.ran or seen.cold or seen.waited is not None:
            return False
        if not seen.sampled:
            return True
        now = time.monotonic()
        if now < self._exemplar_at:
            return True
        self._exemplar_at = now + _EXEMPLAR_EVERY
        return False

    def add(self, seen: Observation) -> None:
        self._count += 1
        self._duration.add(seen.duration)
        self._cpu.add(seen.cpu)
        self._memory.add(seen.memory)

    def hand_over(self) -> None:
        if self._count:
            self._counter.add(self._count, self.attributes)
            self._count = 0
            for each in (self._duration, self._cpu, self._memory):
                each.hand_over()
