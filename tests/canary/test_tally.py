from __future__ import annotations

import pytest

from starlette_wasm.canary.histogram import bucket_of
from starlette_wasm.canary.tally import VersionTally
from starlette_wasm.canary.window import Window
from starlette_wasm.exceptions import (
    ExecutionTimeout,
    FunctionError,
    FunctionExited,
    FunctionTrapped,
    InvalidFunctionResponse,
    MemoryLimitExceeded,
)


@pytest.mark.parametrize(("status", "failed"), [(200, 0), (301, 0), (404, 0), (429, 0), (499, 0), (500, 1), (503, 1)])
def test_the_callers_faults_are_no_failures(status: int, failed: int) -> None:
    tally = VersionTally(0.05)
    tally.answered(0.001, status)
    window = Window.of(tally.take())
    assert (window.succeeded, window.failed) == (1 - failed, failed)


@pytest.mark.parametrize(
    ("error", "timeouts", "memory"),
    [
        (ExecutionTimeout("f", "1", limit_ms=5), 1, 0),
        (MemoryLimitExceeded("f", "1", limit_pages=1, asked_pages=2), 0, 1),
        (FunctionTrapped("f", "1", reason="unreachable"), 0, 0),
        (FunctionExited("f", "1", code=3), 0, 0),
        (InvalidFunctionResponse("f", "1", problem="no JSON", offset=0), 0, 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_fault_of_the_function_is_a_failure(error: FunctionError, timeouts: int, memory: int) -> None:
    tally = VersionTally(0.05)
    tally.failed(0.06, error)
    window = Window.of(tally.take())
    assert (window.succeeded, window.failed, window.slow) == (0, 1, 1)
    assert (window.timeouts, window.memory_limits) == (timeouts, memory)


def test_what_is_taken_adds_up_to_what_was_counted() -> None:
    whole, parts, durations = VersionTally(0.05), VersionTally(0.05), [10 ** (at / 20 - 5) for at in range(200)]
    taken = []
    for at, seconds in enumerate(durations):
        for tally in (whole, parts):
            tally.answered(seconds, 500 if at % 7 == 0 else 200)
        if at % 30 == 0:
            taken.append(parts.take())
    window = Window.of(*taken, parts.take())
    assert window == Window.of(whole.take())
    assert window.samples == sum(window.buckets.values()) == 200
    assert window.slow == sum(seconds > 0.05 for seconds in durations)
    assert set(window.buckets) == set(map(bucket_of, durations))
    assert whole.take() == parts.take() == {}
