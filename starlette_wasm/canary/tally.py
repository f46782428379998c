"""Counts how a version does, in the process that serves it."""

from __future__ import annotations

from collections import Counter
from math import log

from ..exceptions import ExecutionTimeout, FunctionError, MemoryLimitExceeded
from .histogram import BUCKETS, LEAST, SCALE
from .window import Counts, Field

_OFFSET = log(LEAST)
_LAST = BUCKETS - 1


class VersionTally:
    """One version over one observation. Outcomes are classed here, by what the host saw."""

    __slots__ = ("_buckets", "_counts", "slow_after", "succeeded")

    def __init__(self, slow_after: float) -> None:
        """Take ``slow_after``, the seconds from which on a request is slow."""
        self.slow_after = slow_after
        self._start()

    def _start(self) -> None:
        self.succeeded = 0
        self._buckets = [0] * BUCKETS
        self._counts: Counter[str] = Counter()

    def answered(self, seconds: float, status: int) -> None:
        # As histogram.bucket_of(): a call would be half of what this costs.
        bucket = int((log(seconds) - _OFFSET) * SCALE) if seconds > LEAST else 0
        self._buckets[bucket if bucket < _LAST else _LAST] += 1
        if seconds > self.slow_after:
            self._counts[Field.SLOW] += 1
        if status < 500:
            self.succeeded += 1
        else:
            self._counts[Field.FAILED] += 1

    def failed(self, seconds: float, error: FunctionError) -> None:
        self.answered(seconds, 500)
        if isinstance(error, ExecutionTimeout):
            self._counts[Field.TIMEOUTS] += 1
        elif isinstance(error, MemoryLimitExceeded):
            self._counts[Field.MEMORY] += 1

    def take(self) -> Counts:
        """Return what came since the last time."""
        counts = self.peek()
        if counts:
            self._start()
        return counts

    def peek(self) -> Counts:
        """Return what take() would, and leave it here."""
        counts = {str(field): count for field, count in self._counts.items()}
        if self.succeeded:
            counts[Field.SUCCEEDED] = self.succeeded
        if not counts:
            return counts
        counts |= {f"b{bucket}": count for bucket, count in enumerate(self._buckets) if count}
        return {str(field): count for field, count in counts.items()}
