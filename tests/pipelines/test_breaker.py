"""The circuit breaker, with a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from starlette_wasm.config.pipelines import CircuitBreakerConfig
from starlette_wasm.pipelines.breaker import Breaker, Breakers, Circuit

CONFIG = CircuitBreakerConfig(window_seconds=10, minimum_calls=4, failure_percent=50, open_seconds=5, probes=2)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("f v1", CONFIG, clock)


def calls(breaker: Breaker, outcomes: str) -> None:
    """``.`` for a call that succeeds, ``x`` for one that fails, ``-`` for one that says nothing."""
    told = {".": breaker.succeeded, "x": breaker.failed, "-": breaker.dropped}
    for outcome in outcomes:
        admitted = breaker.admit()
        assert admitted
        told[outcome](admitted)


def opened(breaker: Breaker) -> None:
    calls(breaker, "xxxx")
    assert breaker.state is Circuit.OPEN


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("xxx", Circuit.CLOSED),
        ("xxxx", Circuit.OPEN),
        ("..xx", Circuit.OPEN),
        ("...x", Circuit.CLOSED),
        ("xxx-", Circuit.CLOSED),
        ("xxx.", Circuit.CLOSED),  # only a failure opens it
        ("xxx.x", Circuit.OPEN),
    ],
)
def test_it_opens_at_the_share_of_failures_and_not_before_the_minimum_of_calls(
    breaker: Breaker, outcomes: str, state: Circuit
) -> None:
    calls(breaker, outcomes)
    assert breaker.state is state


def test_what_is_older_than_the_window_is_forgotten(breaker: Breaker, clock: Clock) -> None:
    calls(breaker, "xxx")
    clock.now += 11
    calls(breaker, "x..")
    assert breaker.state is Circuit.CLOSED


def test_an_open_one_refuses_and_says_for_how_long(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    assert breaker.admit() == 0
    assert breaker.retry_after == 5
    clock.now += 4.5
    assert breaker.admit() == 0
    assert breaker.retry_after == 1


def test_a_half_open_one_lets_its_probes_through_and_closes_when_all_succeed(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 5
    assert breaker.state is Circuit.HALF_OPEN
    first, second = breaker.admit(), breaker.admit()
    assert first
    assert second
    assert breaker.admit() == 0
    breaker.succeeded(first)
    assert breaker.state is Circuit.HALF_OPEN
    assert breaker.admit() == 0  # one has proven it, one is under way
    breaker.succeeded(second)
    assert breaker.state is Circuit.CLOSED
    calls(breaker, "xxx")  # what was before it opened is forgotten
    assert breaker.state is Circuit.CLOSED


def test_one_failed_probe_opens_it_again_for_the_whole_time(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 5
    first, second = breaker.admit(), breaker.admit()
    breaker.failed(first)
    assert breaker.state is Circuit.OPEN
    assert breaker.retry_after == 5
    breaker.succeeded(second)
    assert breaker.state is Circuit.OPEN


def test_a_probe_that_was_given_up_gives_its_place_back(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 5
    for _ in range(10):
        breaker.dropped(breaker.admit())
    calls(breaker, "..")
    assert breaker.state is Circuit.CLOSED


def test_calls_from_before_it_opened_count_no_more(breaker: Breaker, clock: Clock) -> None:
    late = [breaker.admit() for _ in range(3)]
    opened(breaker)
    breaker.failed(late[0])
    clock.now += 5
    probe = breaker.admit()
    breaker.dropped(late[1])
    breaker.failed(late[2])
    assert breaker.state is Circuit.HALF_OPEN
    breaker.succeeded(probe)
    calls(breaker, ".")
    assert breaker.state is Circuit.CLOSED


def test_there_is_one_for_each_version_and_policy_and_none_opens_where_it_is_off() -> None:
    on, off = Breakers(CONFIG), Breakers(CONFIG.model_copy(update={"enabled": False}))
    for breakers in (on, off):
        calls(breakers.get("f", "1", "p"), "xxxx")
        calls(breakers.get("f", "2", "p"), "x")
        assert breakers.get("f", "1", "p") is breakers.get("f", "1", "p")
        calls(breakers.get("f", "1", "q"), "x")
    assert on.states() == {"f v1 (p)": Circuit.OPEN, "f v1 (q)": Circuit.CLOSED, "f v2 (p)": Circuit.CLOSED}
    assert set(off.states().values()) == {Circuit.CLOSED}


class Machine(RuleBasedStateMachine):
    """Any order of calls, answers and time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker("f v1", CONFIG, self.clock)
        self.under_way: list[int] = []

    @rule()
    def call(self) -> None:
        before = self.breaker.state
        admitted = self.breaker.admit()
        if before is Circuit.OPEN:
            assert not admitted
        if before is Circuit.CLOSED:
            assert admitted
        if admitted:
            self.under_way.append(admitted)
            if self.breaker.state is Circuit.HALF_OPEN:
                assert self.under_way.count(admitted) <= CONFIG.probes

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "failed", "dropped"]))
    def answer(self, data: st.DataObject, outcome: str) -> None:
        admitted = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        getattr(self.breaker, outcome)(admitted)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    def teardown(self) -> None:
        """Whatever happened, a function that works again is called again."""
        for admitted in self.under_way:
            self.breaker.dropped(admitted)
        self.clock.now += CONFIG.open_seconds
        for _ in range(CONFIG.probes):
            admitted = self.breaker.admit()
            assert admitted
            self.breaker.succeeded(admitted)
        assert self.breaker.state is Circuit.CLOSED


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
