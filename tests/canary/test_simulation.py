"""The short form of ``python -m benchmarks.rollouts``, which is in docs/canary.md with 10,000 rollouts."""

from __future__ import annotations

from benchmarks.rollouts import A_FEW, World, run


def test_equal_versions_are_promoted() -> None:
    figures = run(World("equal"), range(100), processes=1)
    assert figures["rolled back"] <= 0.01
    assert figures["promoted"] >= 0.99


def test_a_bad_canary_is_caught_before_it_gets_half_of_the_traffic() -> None:
    assert run(World("bad", canary=0.975), range(100), processes=1)["before 50 %"] >= 0.95
    assert run(World("slow", canary_slow=0.03), range(100), processes=1)["before 50 %"] >= 0.95


def test_a_dependency_that_fails_for_both_rolls_nothing_back() -> None:
    assert run(World("outage", outage=(400, 500, 0.6)), range(40), processes=1)["promoted"] >= 0.99


def test_a_few_requests_a_minute_are_enough_with_low_traffic() -> None:
    few = {"per_second": A_FEW, "low_traffic": True}
    assert run(World("equal", **few), range(20), processes=1)["promoted"] >= 0.9
    assert run(World("broken", canary=0.0, **few), range(20), processes=1)["before 50 %"] == 1
