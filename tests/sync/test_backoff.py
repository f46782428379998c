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
    backoff = Backoff(clock)
    for pause in (1, 2, 4, 8):
        error = ValueError(f"failed, {pause}")
        assert backoff.failed("a", error) == pause
        clock.now += pause - 0.01
        with pytest.raises(ValueError, match=f"failed, {pause}"):
            backoff.check("a")
        backoff.check("b")
        clock.now += 0.01
        backoff.check("a")
        assert len(backoff) == 1


def test_in_another_state_it_is_tried_at_once_and_the_pause_begins_anew():
    clock = Clock()
    backoff = Backoff(clock)
    backoff.failed("a", ValueError(), "old")
    assert backoff.failed("a", ValueError(), "old") == 2
    backoff.check("a", "new")
    assert backoff.failed("a", KeyError(), "new") == 1
    backoff.check("a", "old")
    with pytest.raises(KeyError):
        backoff.check("a", "new")
    assert len(backoff) == 1


def test_the_pause_has_an_end():
    backoff = Backoff(Clock())
    assert [backoff.failed("a", ValueError()) for _ in range(20)][-1] == LONGEST_PAUSE


def test_a_success_forgets_the_failures():
    backoff = Backoff(Clock())
    backoff.failed("a", ValueError())
    backoff.failed("a", ValueError())
    backoff.succeeded("a")
    backoff.succeeded("never failed")
    backoff.check("a")
    assert len(backoff) == 0
    assert backoff.failed("a", ValueError()) == 1


def test_only_so_many_are_remembered():
    backoff = Backoff(Clock())
    for key in range(1500):
        backoff.failed(key, KeyError(key))
    assert len(backoff) == 1000
    backoff.check(0)
    with pytest.raises(KeyError):
        backoff.check(1499)
