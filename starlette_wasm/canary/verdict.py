"""The verdict on a canary: a pure function of what was counted. The simulation runs this very code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from ..config.router import CanaryConfig
from .statistics import alpha_of_look, p_value
from .window import Window

MIN_TO_ADVANCE = 100
"""Canary requests without which nothing is promoted."""
MIN_TO_CONDEMN = 50
"""Canary requests without which nothing is rolled back."""
HARD_FLOOR = 0.8
"""The share of the threshold below which a success rate condemns by itself."""
_ALIKE = 0.001
"""The p-value from which on such a canary and a stable version that fails as well are hurt alike."""
SLOW_SHARE = 0.01  # a p99 is at or below the threshold if no more than this share is above
_MARGIN = 0.1
"""How much of what the threshold allows a canary may be worse than stable, however certain that is."""
RESTART_AFTER_STEPS = 4
"""How many times the step's time an observation goes on below a threshold, gathering evidence, before another begins
without what lies behind."""
_GROWTH = 1.2
"""From one look to the next the sample grows by this factor, so that looks are few."""


class Action(StrEnum):
    ADVANCE = "advance"
    HOLD = "hold"
    ROLL_BACK = "roll back"


@dataclass(frozen=True, slots=True)
class Looks:
    """How often the versions were compared: ``count`` in the whole rollout, last at ``samples`` of this observation."""

    count: int = 0
    samples: int = 0
    quarter: int = 0
    """With ``lowTraffic``: of which quarter of a step the last one was, from the begin of the observation."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from what was counted. ``seconds`` and ``samples`` are what at least lacks for an advance."""

    action: Action
    reason: str
    seconds: float
    samples: int
    looks: Looks
    again: bool = False
    """The observation has gone on for too long without an advance: a new one begins."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the canary is compared with."""

    window: Window
    at_the_same_time: bool = True
    """False for what stable did before the canary got all of the traffic."""


def judge(config: CanaryConfig, canary: Window, rival: Baseline, seconds: float, looks: Looks) -> Verdict:
    """Decide what to do with a canary that was observed for ``seconds``.

    Raises nothing; ``looks`` of the verdict are to be kept and given the next time.
    """
    stable = rival.window
    threshold = config.success_rate_threshold
    samples, rate = canary.samples, canary.success_rate
    seconds_left = max(0.0, config.step_seconds - seconds)
    samples_left = max(0, MIN_TO_ADVANCE - samples)

    def verdict(action: Action, reason: str) -> Verdict:
        again = action is Action.HOLD and not samples_left and seconds >= RESTART_AFTER_STEPS * config.step_seconds
        return Verdict(action, reason, seconds_left, samples_left, looks, again)

    if samples >= MIN_TO_CONDEMN and rate is not None:
        if rate < HARD_FLOOR * threshold and not _hurt_alike(canary, rival):
            reason = f"success rate {percent(rate)}, below {percent(HARD_FLOOR * threshold)} (0.8 of the threshold)"
            return verdict(Action.ROLL_BACK, reason)
        if stable.samples and samples >= looks.samples * _GROWTH:
            looks = Looks(looks.count + 1, samples)
            worse = clearly_worse(config, canary, rival, alpha_of_look(looks.count))
            if worse is not None:
                return verdict(Action.ROLL_BACK, worse)
    if samples_left:
        return verdict(Action.HOLD, f"{samples} of {MIN_TO_ADVANCE} samples")
    if seconds_left:
        return verdict(Action.HOLD, "being observed")
    assert rate is not None
    if rate < threshold:
        return verdict(Action.HOLD, f"success rate {percent(rate)}, below the threshold {percent(threshold)}")
    if config.latency_p99_threshold_ms is not None and canary.slow > SLOW_SHARE * samples:
        p99 = canary.quantile_ms(0.99) or math.nan
        reason = f"p99 {p99:.4g} ms, above the threshold {config.latency_p99_threshold_ms:g} ms"
        return verdict(Action.HOLD, reason)
    return verdict(Action.ADVANCE, f"success rate {percent(rate)} of {samples} requests")


def _hurt_alike(canary: Window, rival: Baseline) -> bool:
    stable = rival.window
    if not rival.at_the_same_time or stable.samples < MIN_TO_CONDEMN:
        return False
    return p_value(canary.failed, canary.samples, stable.failed, stable.samples) >= _ALIKE


def clearly_worse(config: CanaryConfig, canary: Window, rival: Baseline, alpha: float) -> str | None:
    """Explain how the canary is worse than its rival; None if it is not."""
    stable, allowed = rival.window, 1 - config.success_rate_threshold
    than = "stable" if rival.at_the_same_time else "stable was before"
    failing, stable_failing = canary.failed / canary.samples, stable.failed / stable.samples
    # Stable's past is not evidence about a dependency that fails now: within the threshold it does not count.
    bad_enough = rival.at_the_same_time or failing > allowed
    if failing - stable_failing > _MARGIN * allowed and bad_enough:
        p = p_value(canary.failed, canary.samples, stable.failed, stable.samples)
        if p <= alpha:
            return f"fails clearly more often than {than}: {percent(failing)} to {percent(stable_failing)} (p={p:.1g})"
    if config.latency_p99_threshold_ms is None:
        return None
    slow, stable_slow = canary.slow / canary.samples, stable.slow / stable.samples
    if slow > SLOW_SHARE and slow - stable_slow > _MARGIN * SLOW_SHARE:
        p = p_value(canary.slow, canary.samples, stable.slow, stable.samples)
        if p <= alpha:
            return (
                f"exceeds {config.latency_p99_threshold_ms:g} ms clearly more often than {than}: "
                f"{percent(slow)} to {percent(stable_slow)} (p={p:.1g})"
            )
    return None


def percent(rate: float) -> str:
    return f"{rate * 100:.4g} %"
