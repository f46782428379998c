"""What a figure is, and how contenders take turns."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .processes import Failed

Better = Literal["higher", "lower"]
RATIO = "x"


@dataclass(frozen=True)
class Row:
    """One figure. ``ours`` and ``theirs`` are what a ratio was made of, in ``measure``."""

    id: str
    """Group, then what and against what, with slashes. The same from run to run."""
    title: str
    value: float | None
    """None if there is none: ``note`` says why."""
    better: Better
    unit: str = RATIO
    goal: float | None = None
    ours: float | None = None
    theirs: float | None = None
    measure: str = ""
    against: str = ""
    checked: bool = True
    """Whether --check holds it against the baseline: ratios and memory are, times are not."""
    margin: float | None = None
    """By how much --check lets it be worse; None for the margin of the run."""
    note: str = ""
    """Why there is no figure: what the peer did instead."""

    @property
    def group(self) -> str:
        return self.id.split("/", 1)[0]

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is none, or no figure."""
        if self.goal is None or self.value is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    quick: bool
    wrk: str | None
    peers: frozenset[str] = frozenset()
    """Names of the installed peers."""
    workers: int | None = None
    """How many server processes the group ``workers`` goes up to."""

    def pick(self, quick: int, full: int) -> int:
        return quick if self.quick else full


class OutOfTime(Exception):
    """The run has taken as long as it may."""


@dataclass
class Progress:
    """Says on stderr what is being done: in place on a terminal, a line each elsewhere."""

    begin: float = field(default_factory=time.monotonic)
    most: float = float("inf")
    """Seconds that the run may take. All that takes long says so before it begins, and ends here if it is over."""
    _width: int = 0

    def __call__(self, text: str) -> None:
        if time.monotonic() - self.begin > self.most:
            raise OutOfTime(f"the run has taken {self.most / 60:g} minutes, at: {text}")
        line = f"[{time.monotonic() - self.begin:5.0f} s] {text}"
        if sys.stderr.isatty():
            sys.stderr.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def done(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r" + " " * self._width + "\r")
            self._width = 0


def interleave(
    contenders: Mapping[str, Callable[[], float]],
    rounds: int,
    progress: Callable[[str], None],
    what: str,
    *,
    peers: Collection[str] = (),
    broken: dict[str, str] | None = None,
) -> dict[str, list[float]]:
    """Measure each contender once a round; every other round in reverse order, so that drift cancels.

    One of ``peers`` that fails takes no further part and has no figures: ``broken`` is told why. Another's failure is
    raised.
    """
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            if name not in figures:
                continue
            progress(f"{what}: round {number + 1} of {rounds}, {name}")
            try:
                figures[name].append(contenders[name]())
            except Failed as error:
                if name not in peers or broken is None:
                    raise
                del figures[name]
                broken[name] = error.reason
    return figures


def ratio(above: Iterable[float], below: Iterable[float]) -> float:
    """Return the median of the ratios within each round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def percentile(values: Iterable[float], percent: float) -> float:
    """Take the percentile by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100).__int__() - 1))]
