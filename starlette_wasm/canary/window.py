"""What was counted of one version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .histogram import quantile

Counts = Mapping[str, int]
"""As stores keep them: the fields of ``Field``, and for each bucket of durations that is not empty ``b`` and its
number. Any two of one version add up field by field."""


class Field(StrEnum):
    SUCCEEDED = "ok"
    FAILED = "failed"
    """5xx, traps, non-zero exits, invalid responses, timeouts and memory limits."""
    SLOW = "slow"
    """Requests of both kinds that took longer than ``latencyP99ThresholdMs``."""
    TIMEOUTS = "timeouts"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Window:
    """Requests of one version over one observation."""

    succeeded: int = 0
    failed: int = 0
    slow: int = 0
    timeouts: int = 0
    memory_limits: int = 0
    buckets: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, *counts: Counts) -> Window:
        """Add windows up."""
        total: Counter[str] = Counter()
        for each in counts:
            total.update(each)
        return cls(
            total[Field.SUCCEEDED],
            total[Field.FAILED],
            total[Field.SLOW],
            total[Field.TIMEOUTS],
            total[Field.MEMORY],
            {int(name[1:]): count for name, count in total.items() if name[0] == "b"},
        )

    @property
    def samples(self) -> int:
        return self.succeeded + self.failed

    @property
    def success_rate(self) -> float | None:
        return self.succeeded / self.samples if self.samples else None

    def quantile_ms(self, q: float) -> float | None:
        seconds = quantile(self.buckets, q)
        return None if seconds is None else seconds * 1000
