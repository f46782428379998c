"""The table of verdicts."""

from __future__ import annotations

from typing import Any

import pytest

from starlette_wasm import CanaryConfig
from starlette_wasm.canary.verdict import Action, Baseline, Looks, Verdict, judge
from starlette_wasm.canary.window import Window

ADVANCE, HOLD, ROLL_BACK = Action.ADVANCE, Action.HOLD, Action.ROLL_BACK


def config(**keys: Any) -> CanaryConfig:
    return CanaryConfig(function_name="f", stable_version="1", canary_version="2", **keys)


def window(succeeded: int, failed: int = 0, slow: int = 0) -> Window:
    return Window(succeeded, failed, slow)


def verdict(
    canary: Window, stable: Window | None = None, seconds: float = 300, looks: Looks | None = None, **keys: Any
) -> Verdict:
    return judge(config(**keys), canary, Baseline(stable or Window()), seconds, looks or Looks())


@pytest.mark.parametrize(
    ("canary", "stable", "seconds", "action", "reason"),
    [
        (window(0), window(900), 300, HOLD, "0 of 100 samples"),
        (window(99), window(900), 9999, HOLD, "99 of 100 samples"),
        (window(100), window(900), 299, HOLD, "being observed"),
        (window(100), window(900), 300, ADVANCE, "success rate 100 %"),
        (window(99, 1), window(900), 300, ADVANCE, "success rate 99 %"),
        (window(98, 2), window(880, 20), 300, HOLD, "below the threshold 99 %"),
        (window(0, 49), window(900), 300, HOLD, "49 of 100"),
        (window(0, 50), window(900), 0, ROLL_BACK, "below 79.2 %"),
        (window(39, 11), None, 0, ROLL_BACK, "success rate 78 %, below 79.2 %"),
        (window(40, 10), None, 0, HOLD, "50 of 100 samples"),
        # Clearly worse than stable, though above 0.8 of the threshold, or above the threshold itself.
        (window(475, 25), window(4500), 60, ROLL_BACK, "fails clearly more often than stable: 5 % to 0 %"),
        (window(9920, 80), window(89_990, 10), 60, ROLL_BACK, "0.8 % to 0.01111 %"),
        # Not by more than a tenth of what the threshold allows, however certain.
        (window(9_994_000, 6000), window(89_946_000, 50_000), 300, ADVANCE, "success rate 99.94 %"),
        # A dependency that is down hurts both alike.
        (window(60, 40), window(540, 360), 300, HOLD, "below the threshold"),
        (window(0, 100), window(0, 900), 300, HOLD, "below the threshold"),
        (window(40, 60), window(550, 350), 300, ROLL_BACK, "below 79.2 %"),
        # p99: one in a hundred may be slower than the threshold.
        (window(200, 0, slow=2), window(900), 300, ADVANCE, "success rate 100 %"),
        (window(200, 0, slow=3), window(1800, 0, slow=27), 300, HOLD, "above the threshold 50 ms"),
        (window(200, 0, slow=100), window(1800), 10, ROLL_BACK, "exceeds 50 ms clearly more often than stable"),
    ],
)
def test_verdicts(canary: Window, stable: Window | None, seconds: float, action: Action, reason: str) -> None:
    given = verdict(canary, stable, seconds)
    assert given.action is action, given.reason
    assert reason in given.reason


def test_it_says_what_is_missing() -> None:
    given = verdict(window(60), window(540), 100)
    assert (given.seconds, given.samples) == (200, 40)
    assert verdict(window(500), window(540), 400).seconds == 0


def test_an_observation_that_stays_below_a_threshold_is_followed_by_another() -> None:
    assert verdict(window(98, 2), window(880, 20), 1200).again
    assert verdict(window(200, 0, slow=3), window(1800, 0, slow=27), 1200).again
    assert not verdict(window(98, 2), window(880, 20), 1199).again
    assert not verdict(window(100), window(900), 3000).again
    assert not verdict(window(50), window(880, 20), 3000).again


def test_latency_is_not_looked_at_without_a_threshold() -> None:
    assert verdict(window(200, 0, slow=200), window(1800), latency_p99_threshold_ms=None).action is ADVANCE


def test_a_look_is_taken_where_the_sample_has_grown_by_a_fifth() -> None:
    first = verdict(window(50), window(450), 10)
    assert first.looks == Looks(1, 50)
    assert verdict(window(59), window(530), 11, first.looks).looks == first.looks
    assert verdict(window(60), window(540), 12, first.looks).looks == Looks(2, 60)
    assert verdict(window(49), window(540), 12).looks == Looks(0, 0)
    assert verdict(window(60), None, 12).looks == Looks(0, 0)


def test_each_look_needs_stronger_evidence_than_the_one_before() -> None:
    canary, stable = window(96, 4), window(900, 0)
    assert verdict(canary, stable, 10, Looks(0)).action is ROLL_BACK
    assert verdict(canary, stable, 10, Looks(20)).action is HOLD


def test_with_all_of_the_traffic_stables_past_counts_only_below_the_threshold() -> None:
    past = Baseline(window(10_000, 0), at_the_same_time=False)
    assert judge(config(), window(950, 50), past, 10, Looks()).action is ROLL_BACK
    assert "than stable was before" in judge(config(), window(950, 50), past, 10, Looks()).reason
    assert judge(config(), window(991, 9), past, 300, Looks()).action is ADVANCE
    assert judge(config(), window(0, 60), Baseline(window(0, 900), at_the_same_time=False), 10, Looks()).action is (
        ROLL_BACK
    )
