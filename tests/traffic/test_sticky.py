from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from starlette_wasm.traffic.sticky import Stickiness

CLIENTS = [f"client-{number}" for number in range(300)]


def places(weights: list[int], clients: list[str] = CLIENTS) -> list[int]:
    stickiness = Stickiness([f"v{index}" for index in range(len(weights))])
    return [stickiness.place(client, range(len(weights)), weights) for client in clients]


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), min_size=2, max_size=4), st.data())
def test_raising_one_weight_moves_clients_only_to_that_variant(weights: list[int], data: st.DataObject) -> None:
    raised = data.draw(st.integers(0, len(weights) - 1))
    higher = list(weights)
    higher[raised] += data.draw(st.integers(1, 1000))
    assume(any(weights))
    for before, after in zip(places(weights), places(higher), strict=True):
        assert after in (before, raised)


@settings(deadline=None)
@given(st.lists(st.integers(1, 99), min_size=2, max_size=6, unique=True))
def test_canary_keeps_its_clients_while_it_takes_them_from_stable(steps: list[int]) -> None:
    on_canary: set[str] = set()
    for step in sorted(steps):
        now = {c for c, at in zip(CLIENTS, places([100 - step, step]), strict=True) if at == 1}
        assert on_canary <= now
        on_canary = now


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=3, max_size=4), st.data())
def test_only_the_clients_of_a_variant_that_goes_are_moved(weights: list[int], data: st.DataObject) -> None:
    removed = data.draw(st.integers(0, len(weights) - 1))
    left = [index for index in range(len(weights)) if index != removed]
    stickiness = Stickiness([f"v{index}" for index in range(len(weights))])
    for client, before in zip(CLIENTS, places(weights), strict=True):
        after = stickiness.place(client, left, [weights[index] for index in left])
        assert after == before or before == removed


@pytest.mark.parametrize("weights", [[80, 20], [50, 30, 20], [1, 1, 1, 97]])
def test_shares_are_as_the_weights(weights: list[int]) -> None:
    clients = [f"user-{number}" for number in range(20_000)]
    placed = places(weights, clients)
    for index, weight in enumerate(weights):
        share, expected = placed.count(index) / len(clients), weight / sum(weights)
        assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / len(clients)) ** 0.5)


def test_places_are_the_same_in_each_process_and_release() -> None:
    assert places([50, 50], ["alice", "bob", "carol", "dave", "", "\udc80"]) == [0, 1, 1, 1, 0, 0]


def test_weight_zero_gets_nobody() -> None:
    assert set(places([0, 1, 0])) == {1}
