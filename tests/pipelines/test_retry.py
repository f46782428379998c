"""Backoff, retry budget, and what may be repeated."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from starlette_wasm.config.pipelines import RetryBudgetConfig
from starlette_wasm.exceptions import FunctionOverloaded
from starlette_wasm.messages import EdgeResponse
from starlette_wasm.pipelines.retry import Backoff, RetryBudget, asked_pause, may_repeat
from starlette_wasm.pipelines.window import Window


def test_the_bound_doubles_up_to_the_most_and_jitter_is_full() -> None:
    backoff = Backoff(0.025, 0.15)
    assert [backoff.bound(retry) for retry in (1, 2, 3, 4, 50)] == [0.025, 0.05, 0.1, 0.15, 0.15]
    delays = [backoff.delay(3) for _ in range(2000)]
    assert 0 <= min(delays) < 0.01
    assert 0.09 < max(delays) <= 0.1
    assert 0.045 < sum(delays) / len(delays) < 0.055
    assert Backoff(0, 0).delay(1) == 0


def test_retries_are_a_share_of_the_calls_of_the_last_seconds() -> None:
    now = [50.0]
    budget = RetryBudget(RetryBudgetConfig(percent=20, per_second=0), lambda: now[0])
    assert not budget.take()
    for _ in range(100):
        budget.first_attempt()
    assert sum(budget.take() for _ in range(100)) == 20
    now[0] += 11
    assert not budget.take()
    for _ in range(10):
        budget.first_attempt()
    assert [budget.take() for _ in range(3)] == [True, True, False]


def test_a_few_retries_a_second_are_free() -> None:
    now = [50.0]
    budget = RetryBudget(RetryBudgetConfig(percent=0, per_second=0.5), lambda: now[0])
    assert sum(budget.take() for _ in range(100)) == 5
    now[0] += 11
    assert sum(budget.take() for _ in range(100)) == 5


@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        ("GET", {}, True),
        ("HEAD", {}, True),
        ("PUT", {}, True),
        ("DELETE", {}, True),
        ("POST", {}, False),
        ("PATCH", {}, False),
        ("LOCK", {}, False),
        ("POST", {"idempotency-key": "1"}, True),
    ],
)
def test_the_client_says_whether_a_request_may_be_repeated(method: str, headers: dict[str, str], allowed: bool) -> None:
    assert may_repeat(method, headers) is allowed


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("30", 30, 30),
        (" 2 ", 2, 2),
        ("0", 0, 0),
        ("9" * 400, 1e8, 1e9),
        ("-5", 0, 0),
        ("1.5", 0, 0),
        ("soon", 0, 0),
        ("", 0, 0),
        ("\u0665", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        (["5", "6"], 0, 0),
    ],
)
def test_a_pause_that_a_step_asks_for_is_read(value: str | list[str], least: float, most: float) -> None:
    assert least <= asked_pause(EdgeResponse(503, {"Retry-After": value})) <= most


def test_a_date_asks_for_the_pause_until_then() -> None:
    date = formatdate(time.time() + 100, usegmt=True)
    assert 60 <= asked_pause(EdgeResponse(503, {"retry-after": date})) <= 101


def test_a_fault_or_an_answer_without_the_header_asks_for_no_pause() -> None:
    assert asked_pause(FunctionOverloaded("f", "full")) == asked_pause(EdgeResponse(503)) == 0


def test_a_window_forgets_by_tenths() -> None:
    now = [0.0]
    window = Window(10, lambda: now[0])
    window.add(1, 1)
    now[0] = 5.5
    window.add(2)
    assert window.totals() == (3, 1)
    now[0] = 9.9
    assert window.totals() == (3, 1)
    now[0] = 10.0
    assert window.totals() == (2, 0)
    now[0] = 1000.0
    assert window.totals() == (0, 0)
    window.add(1)
    assert window.totals() == (1, 0)
