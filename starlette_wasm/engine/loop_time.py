"""``LoopTime``: how much of the event loop the guests of one plan used of late."""

from __future__ import annotations

import time

from .native.library import PlanState

FREE_US = 250
"""Microseconds of each invocation that are not counted: a thread would cost no less. Also in native.h."""
FREE_NS_PER_KIB = 512
"""Nanoseconds more of an invocation on the fast path for each KiB that it reads or prints, which the loop receives and
sends. Also in native.h."""
BUDGET_US = 10_000
"""The sum from which on guests begin in a thread. Also in native.h. From half of it on fast_path.c measures the CPU
time of each guest, as it does after a long one: a process that waits for a CPU spends no budget of its functions."""
HALF_LIFE = 2.0
"""Seconds in which half of the sum is forgotten. Also in native.h."""
CALM = 64
"""The number of invocations after which a long one counts as lone. Also in native.h."""
LONE_US = 500
"""What a lone one counts at most: the process may have waited for a CPU, which looks the same. Also in native.h."""
_MOST = 1 << 30


class LoopTime:
    """A sum that decays, in ``cpu_score`` of the plan, to which fast_path.c adds too."""

    __slots__ = ("_free_us", "_memory")

    def __init__(self, memory: PlanState, free_us: int = FREE_US) -> None:
        """Begin with nothing used; ``free_us`` of each invocation is not counted."""
        self._memory = memory
        self._free_us = free_us
        memory.decayed_ns = time.monotonic_ns()

    def add(self, seconds: float) -> None:
        """Book what one guest used at a stretch."""
        memory, used = self._memory, int(seconds * 1e6) - self._free_us
        if used <= 0:
            memory.calm = min(memory.calm + 1, CALM)
            return
        if memory.calm == CALM:
            used = min(used, LONE_US)
        memory.calm = 0
        self._decay()
        memory.cpu_score = min(memory.cpu_score + used, _MOST)

    @property
    def spent(self) -> bool:
        """Whether guests begin in a thread."""
        if self._memory.cpu_score < BUDGET_US:
            return False
        self._decay()
        return bool(self._memory.cpu_score >= BUDGET_US)

    def _decay(self) -> None:
        memory, now = self._memory, time.monotonic_ns()
        memory.cpu_score = int(memory.cpu_score * 0.5 ** ((now - memory.decayed_ns) / 1e9 / HALF_LIFE))
        memory.decayed_ns = now
