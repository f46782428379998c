"""The verdict with ``lowTraffic``."""

from __future__ import annotations

import pytest
from scipy import stats
from test_verdict import ADVANCE, HOLD, ROLL_BACK, config, window

from starlette_wasm.canary.low_traffic import binomial_tail, judge_few, least_samples, rule
from starlette_wasm.canary.record import begin
from starlette_wasm.canary.state import CanaryState
from starlette_wasm.canary.store import Reading
from starlette_wasm.canary.verdict import Action, Baseline, Looks, Verdict
from starlette_wasm.canary.window import Window

CONFIG = config(low_traffic=True)


def verdict(canary: Window, stable: Window, seconds: float = 300, looks: Looks | None = None) -> Verdict:
    return judge_few(CONFIG, canary, Baseline(stable), seconds, looks or Looks())


@pytest.mark.parametrize(
    ("canary", "stable", "seconds", "action", "reason"),
    [
        (window(0), window(900), 9999, HOLD, "0 of 20 samples"),
        (window(19), window(180), 9999, HOLD, "19 of 20 samples"),
        (window(20), window(180), 299, HOLD, "being observed"),
        (window(20), window(180), 300, ADVANCE, "20 of 20 requests succeeded"),
        (window(19, 1), window(180), 300, ADVANCE, "19 of 20"),
        (window(18, 2), window(178, 2), 300, HOLD, "below the threshold 99 %"),
        (window(20, slow=2), window(180), 300, HOLD, "2 of 20 requests took more than 50 ms"),
        # Few requests of a version that always fails are enough, and few that fail by chance are not.
        (window(0, 3), window(27), 150, ROLL_BACK, "fails clearly more often than stable: 100 % to 0 %"),
        (window(2, 1), window(27), 150, HOLD, "3 of 20"),
        (window(0, 5), window(0), 150, ROLL_BACK, "clearly below 79.2 %"),
        (window(0, 8), window(2, 70), 150, HOLD, "8 of 20"),  # a dependency fails for both
        (window(0, 3), window(27), 74, HOLD, "3 of 20"),  # no quarter of the step is over
    ],
)
def test_verdicts(canary: Window, stable: Window, seconds: float, action: Action, reason: str) -> None:
    given = verdict(canary, stable, seconds)
    assert given.action is action, given.reason
    assert reason in given.reason


def test_looks_are_taken_each_quarter_of_a_step_with_new_requests() -> None:
    first = verdict(window(2), window(20), 80)
    assert first.looks == Looks(1, 2, 1)
    assert verdict(window(3), window(30), 149, first.looks).looks == first.looks
    assert verdict(window(3), window(30), 150, first.looks).looks == Looks(2, 3, 2)
    assert verdict(window(2), window(30), 500, first.looks).looks == first.looks


def test_an_observation_goes_on_until_it_has_evidence() -> None:
    assert not verdict(window(18, 2), window(178, 2), 9999).again
    assert verdict(window(46, 4), window(446, 4), 1200).again


def test_only_low_traffic_has_another_rule() -> None:
    assert rule(CONFIG) is judge_few
    assert rule(config()) is not judge_few
    assert (least_samples(CONFIG), least_samples(config())) == (20, 100)


@pytest.mark.parametrize(("least", "total", "share"), [(0, 5, 0.1), (1, 10, 0.01), (5, 5, 0.208), (30, 400, 0.1)])
def test_the_binomial_tail_is_that_of_scipy(least: int, total: int, share: float) -> None:
    assert binomial_tail(least, total, share) == pytest.approx(stats.binom.sf(least - 1, total, share))
    assert binomial_tail(1, total, 0) == 0
    assert binomial_tail(1, total, 1) == 1


@pytest.mark.parametrize(
    ("low_traffic", "samples", "note"),
    [
        (False, 30, "30 canary requests in 1800 s: 100 take 6000 s; with lowTraffic: true fewer are enough"),
        (False, 100, None),
        (True, 15, "15 canary requests in 1800 s: 20 take 2400 s"),
        (True, 20, None),
    ],
)
def test_too_few_requests_are_noted(low_traffic: bool, samples: int, note: str | None) -> None:
    given = config(low_traffic=low_traffic)
    live, record = CanaryState(given), begin(given, 0.0, None, 10, "")
    counts = {(1, "2"): {"ok": samples}}
    live.see(Reading(1800.0, counts=counts), record, 1)
    assert live.trouble(record, 1800.0) == note
    assert live.trouble(record, 1200.0) is None
