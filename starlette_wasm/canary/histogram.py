"""Durations in buckets whose bounds grow by a constant factor, so that sums of histograms lose nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

RELATIVE_ERROR = 0.01
"""The greatest error of a quantile, between LEAST and MOST seconds."""
LEAST = 1e-6
MOST = 1e5
_LOG_GROWTH = math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
_MIDDLE = 1 - RELATIVE_ERROR  # of a bucket's upper bound: as far from both of its bounds, in proportion
_OFFSET = math.log(LEAST)
SCALE = 1 / _LOG_GROWTH
BUCKETS = math.ceil((math.log(MOST) - _OFFSET) * SCALE) + 1


def bucket_of(seconds: float) -> int:
    """Return the bucket of a duration; what is shorter than LEAST or longer than MOST is in the first or last."""
    if seconds <= LEAST:
        return 0
    return min(int((math.log(seconds) - _OFFSET) * SCALE), BUCKETS - 1)


def quantile(buckets: Mapping[int, int], q: float) -> float | None:
    """Return the duration, in seconds, that the share ``q`` of the counts does not exceed (nearest rank), give or take
    RELATIVE_ERROR; None if nothing was counted.

    The buckets are those of DDSketch (Masson, Rim and Lee, VLDB 2019), without its bound on their number: there are
    1,267 at most.
    """
    total = sum(buckets.values())
    if not total:
        return None
    rank = max(math.ceil(q * total), 1)
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= rank:
            break
    return math.exp(_OFFSET + (bucket + 1) * _LOG_GROWTH) * _MIDDLE
