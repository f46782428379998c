from __future__ import annotations

import itertools
import math
import os
import platform
import zlib
from collections.abc import Sequence

MAX_CYCLE = 100_000
_GOLDEN = (math.sqrt(5) - 1) / 2


def interleave(weights: Sequence[int]) -> tuple[int, ...]:
    """Make one cycle of smooth weighted round-robin: indices of `weights`, sum / gcd of them long.

    Repeated without end, any window as long as the sum of the weights holds each index exactly as
    often as its weight, and the picks of one index are spread, not bunched: (80, 20) gives
    0 0 1 0 0. An index of weight 0 never appears; if all are 0, the cycle is empty.

    The algorithm is that of nginx's upstream module: in each round every index gains its weight, and
    the one that has most, the first among equals, is picked and pays the sum.

    Raises ValueError for a negative weight, and if the cycle is longer than MAX_CYCLE.
    """
    if any(weight < 0 for weight in weights):
        raise ValueError(f"weights must not be negative: {list(weights)}")
    divisor = math.gcd(*weights)
    if divisor == 0:
        return ()
    gains = [(index, weight // divisor) for index, weight in enumerate(weights) if weight]
    length = sum(gain for _, gain in gains)
    if length > MAX_CYCLE:
        raise ValueError(
            f"weights repeat only after {length} requests, and at most {MAX_CYCLE} are allowed: "
            "use smaller weights, or weights with a common divisor"
        )
    current = [0] * len(weights)
    cycle = []
    for _ in range(length):
        for index, gain in gains:
            current[index] += gain
        best = max(gains, key=lambda pair: current[pair[0]])[0]
        current[best] -= length
        cycle.append(best)
    return tuple(cycle)


class Cycle:
    """Walks the cycle of `interleave` for ever; the n-th call gives its n-th pick, under threads too.

    `phase`, from 0 to 1, is where in the cycle it begins.
    """

    __slots__ = ("_calls", "_length", "_picks")

    def __init__(self, weights: Sequence[int], phase: float = 0.0) -> None:
        self._picks = interleave(weights)
        self._length = len(self._picks)
        self._calls = itertools.count(int(phase * self._length))

    def next(self) -> int | None:
        """Return the index whose turn it is; None if all weights are 0."""
        if not self._length:
            return None
        # One step of count() is atomic, so that no two threads get the same turn and none is lost.
        return self._picks[next(self._calls) % self._length]


def process_phase() -> float:
    """Return the offset at which this process begins its cycles, far from that of the process with the next id.

    Were all to begin at 0, the first requests of each would go to the same rule, and with many workers and few
    requests the split would not hold in the whole. Multiples of the golden ratio spread evenly (Weyl); the name of
    the machine separates containers in which each worker has the same id.
    """
    return (os.getpid() * _GOLDEN + zlib.crc32(platform.node().encode()) / (1 << 32)) % 1.0
