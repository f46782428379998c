from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlette_wasm.traffic.weights import MAX_CYCLE, Cycle, interleave, process_phase

WEIGHTS = st.lists(st.integers(0, 40), max_size=6)


def take(cycle: Cycle, count: int) -> list[int | None]:
    return [cycle.next() for _ in range(count)]


def test_known_interleavings() -> None:
    assert interleave([80, 20]) == (0, 0, 1, 0, 0)
    assert interleave([5, 1, 1]) == (0, 0, 1, 0, 2, 0, 0)  # nginx's own example
    assert interleave([7]) == (0,)
    assert interleave([0, 3, 0]) == (1,)
    assert interleave([1, 1]) == (0, 1)


@pytest.mark.parametrize("weights", [[], [0], [0, 0]])
def test_no_weight_is_an_empty_cycle(weights: list[int]) -> None:
    assert interleave(weights) == ()
    assert Cycle(weights).next() is None


@given(WEIGHTS.filter(any), st.integers(0, 1000))
def test_any_window_of_the_sum_holds_exactly_the_weights(weights: list[int], offset: int) -> None:
    cycle = interleave(weights)
    total = sum(weights)
    assert len(cycle) == total // gcd(*weights)
    window = Counter(cycle[(offset + step) % len(cycle)] for step in range(total))
    assert window == {index: weight for index, weight in enumerate(weights) if weight}


@given(WEIGHTS.filter(any))
def test_picks_are_spread_smoothly(weights: list[int]) -> None:
    # After n picks, each index has its share of them, give or take less than one for each rival.
    cycle = interleave(weights)
    total = sum(weights)
    seen: Counter[int] = Counter()
    for count, index in enumerate(cycle, 1):
        seen[index] += 1
        for each, weight in enumerate(weights):
            assert abs(seen[each] - count * weight / total) < max(1, len(weights) - 1)


def test_any_ten_consecutive_requests_split_80_to_20_into_8_and_2() -> None:
    picks = take(Cycle([80, 20]), 500)
    for start in range(len(picks) - 9):
        assert Counter(picks[start : start + 10]) == {0: 8, 1: 2}


def test_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must not be negative: \[1, -1\]"):
        interleave([1, -1])


def test_cycle_that_is_too_long_is_refused_with_the_hint() -> None:
    assert len(interleave([MAX_CYCLE - 1, 1])) == MAX_CYCLE
    assert len(interleave([MAX_CYCLE * 80, MAX_CYCLE * 20])) == 5
    with pytest.raises(ValueError, match=r"only after 100001 requests.*use smaller weights"):
        interleave([MAX_CYCLE, 1])


def test_no_turn_is_lost_or_given_twice_under_threads() -> None:
    cycle = Cycle([50, 30, 13, 7])
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(lambda _: take(cycle, 12_500), range(8))
        picks = Counter(pick for part in parts for pick in part)
    assert picks == {0: 50_000, 1: 30_000, 2: 13_000, 3: 7_000}
    assert take(cycle, 100) == list(interleave([50, 30, 13, 7]))


@pytest.mark.parametrize("phase", [0.0, 0.2, 0.5, 0.999])
def test_a_phase_turns_the_cycle_and_changes_nothing_else(phase: float) -> None:
    cycle = interleave([80, 20])
    begin = int(phase * len(cycle))
    assert take(Cycle([80, 20], phase), 10) == [cycle[(begin + step) % len(cycle)] for step in range(10)]


def test_the_split_holds_over_many_workers_with_few_requests_each(monkeypatch: pytest.MonkeyPatch) -> None:
    phases = []
    for pid in range(31_000, 31_050):
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        phases.append(process_phase())
    for requests in range(1, 20):
        picks = Counter(pick for phase in phases for pick in take(Cycle([90, 10], phase), requests))
        assert abs(picks[1] - 50 * requests / 10) <= 3
    assert Counter(take(Cycle([90, 10]), 3))[1] == 0  # what each worker would give, were all to begin at 0
