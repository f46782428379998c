from __future__ import annotations

import pytest

from starlette_wasm.sync.backoff import LONGEST_PAUSE, Backoff


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_never_failed_is_not_held_back():
    Backoff().check("a")


def test_a_failure_is_raised_again_until_its_pause_is_over_and_the_pause_doubles():
    clock = Clock()
    circuit = Backoff(clock)
    for pause in (1, 2, 4, 8):
        error = ValueError(f"failed, {pause}")
        assert circuit.failed("a", error) == pause
        clock.now += pause - 0.01
        with pytest.raises(ValueError, match=f"failed, {pause}"):
            circuit.check("a")
        circuit.check("b")
        clock.now += 0.01
        circuit.check("a")
        assert len(circuit) == 1


def test_in_another_state_it_is_tried_at_once_and_the_pause_begins_anew():
    clock = Clock()
    circuit = Backoff(clock)
    circuit.failed("a", ValueError(), "old")
    assert circuit.failed("a", ValueError(), "old") == 2
    circuit.check("a", "new")
    assert circuit.failed("a", KeyError(), "new") == 1
    circuit.check("a", "old")
    with pytest.raises(KeyError):
        circuit.check("a", "new")
    assert len(circuit) == 1


def test_the_pause_has_an_end():
    circuit = Backoff(Clock())
    assert [circuit.failed("a", ValueError()) for _ in range(20)][-1] == LONGEST_PAUSE


def test_a_success_forgets_the_failures():
    circuit = Backoff(Clock())
    circuit.failed("a", ValueError())
    circuit.failed("a", ValueError())
    circuit.succeeded("a")
    circuit.succeeded("never failed")
    circuit.check("a")
    assert len(circuit) == 0
    assert circuit.failed("a", ValueError()) == 1


def test_only_so_many_are_remembered():
    circuit = Backoff(Clock())
    for key in range(1500):
        circuit.failed(key, KeyError(key))
    assert len(circuit) == 1000
    circuit.check(0)
    with pytest.raises(KeyError):
        circuit.check(1499)
