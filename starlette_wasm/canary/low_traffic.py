"""The verdict with ``lowTraffic``: exact tests at fixed times, for functions that see a few requests a minute."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, lgamma, log
from typing import TypeAlias

from ..config.router import CanaryConfig
from .statistics import alpha_of_look, p_value
from .verdict import (
    HARD_FLOOR,
    MIN_TO_ADVANCE,
    MIN_TO_CONDEMN,
    RESTART_AFTER_STEPS,
    SLOW_SHARE,
    Action,
    Baseline,
    Looks,
    Verdict,
    clearly_worse,
    judge,
    percent,
)
from .window import Window

LEAST_SAMPLES = 20
"""Canary requests without which nothing is promoted."""
_QUARTERS = 4
"""Looks in the time of a step."""
_DOUBT = 0.1
"""Below this chance a canary is taken to miss a threshold, and is held."""

Rule: TypeAlias = Callable[[CanaryConfig, Window, Baseline, float, Looks], Verdict]
"""As judge() of ``verdict.py``."""


def rule(config: CanaryConfig) -> Rule:
    """Return what judges the canary."""
    return judge_few if config.low_traffic else judge


def least_samples(config: CanaryConfig) -> int:
    """Return how many canary requests an advance takes, and a success rate that may be shown."""
    return LEAST_SAMPLES if config.low_traffic else MIN_TO_ADVANCE


def judge_few(config: CanaryConfig, canary: Window, rival: Baseline, seconds: float, looks: Looks) -> Verdict:
    """Decide what to do with a canary observed for ``seconds``; as judge() does, without its minimum of samples."""
    seconds_left = max(0.0, config.step_seconds - seconds)
    samples_left = max(0, LEAST_SAMPLES - canary.samples)
    quarter = int(seconds / config.step_seconds * _QUARTERS)
    worse = None
    if canary.samples > looks.samples and quarter > looks.quarter:
        looks = Looks(looks.count + 1, canary.samples, quarter)
        worse = _condemned(config, canary, rival, alpha_of_look(looks.count))
    missed = None if samples_left or seconds_left else _missed(config, canary)
    if worse is not None:
        action, reason = Action.ROLL_BACK, worse
    elif samples_left:
        action, reason = Action.HOLD, f"{canary.samples} of {LEAST_SAMPLES} samples"
    elif seconds_left:
        action, reason = Action.HOLD, "being observed"
    elif missed is not None:
        action, reason = Action.HOLD, missed
    else:
        action, reason = Action.ADVANCE, f"{canary.succeeded} of {canary.samples} requests succeeded"
    too_long = canary.samples >= MIN_TO_CONDEMN and seconds >= RESTART_AFTER_STEPS * config.step_seconds
    return Verdict(action, reason, seconds_left, samples_left, looks, action is Action.HOLD and too_long)


def _condemned(config: CanaryConfig, canary: Window, rival: Baseline, alpha: float) -> str | None:
    """Return why the canary is to be rolled back, if it is."""
    floor = HARD_FLOOR * config.success_rate_threshold
    p = binomial_tail(canary.failed, canary.samples, 1 - floor)
    if p <= alpha and not _hurt_alike(canary, rival):
        rate = canary.succeeded / canary.samples
        return f"success rate {percent(rate)}, clearly below {percent(floor)} (0.8 of the threshold, p={p:.1g})"
    return clearly_worse(config, canary, rival, alpha) if rival.window.samples else None


def _hurt_alike(canary: Window, rival: Baseline) -> bool:
    stable = rival.window
    if not rival.at_the_same_time or not stable.failed:
        return False
    return p_value(canary.failed, canary.samples, stable.failed, stable.samples) >= _DOUBT


def _missed(config: CanaryConfig, canary: Window) -> str | None:
    """Say which threshold the canary misses by more than chance, if it misses one."""
    threshold, samples = config.success_rate_threshold, canary.samples
    if binomial_tail(canary.failed, samples, 1 - threshold) < _DOUBT:
        rate = percent(canary.succeeded / samples)
        return f"success rate {rate} of {samples} requests, below the threshold {percent(threshold)}"
    limit = config.latency_p99_threshold_ms
    if limit is not None and binomial_tail(canary.slow, samples, SLOW_SHARE) < _DOUBT:
        return f"{canary.slow} of {samples} requests took more than {limit:g} ms"
    return None


def binomial_tail(least: int, total: int, share: float) -> float:
    """Return the chance that at least ``least`` of ``total`` fail, if each does with the chance ``share``."""
    if least <= 0:
        return 1.0
    if share <= 0:
        return 0.0
    if share >= 1:
        return 1.0
    return min(1.0, sum(_binomial(count, total, share) for count in range(least, total + 1)))


def _binomial(count: int, total: int, share: float) -> float:
    ways = lgamma(total + 1) - lgamma(count + 1) - lgamma(total - count + 1)
    return exp(ways + count * log(share) + (total - count) * log(1 - share))
