"""What fast_path.c books for its guests: as LoopTime does."""

from __future__ import annotations

import asyncio
import time

import pytest
from asking import ANSWER, ask, fast_path, fresh_engine, run
from support import command

from starlette_wasm.engine.fast_path import Completed, FastPath, Started
from starlette_wasm.engine.loop_time import BUDGET_US, CALM, FREE_US, HALF_LIFE, LONE_US

pytestmark = pytest.mark.native
SPINS = command(
    f"""(local $left i32) (local.set $left (i32.const 1500000))
    (loop $on (br_if $on (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (call $print (i32.const 0) (i32.const {len(ANSWER)}))""",
    more=f"(data (i32.const 0) {ANSWER.replace(chr(34), chr(92) + chr(34)).join((chr(34), chr(34)))})",
)
"""Takes some tenths of a millisecond on a quick machine, and ends there before the tick."""


def booked(asked: FastPath, score: int) -> list[tuple[int, int]]:
    """How long calm guests have run, in microseconds beyond what is free, and what was added to that score."""
    memory, found = asked._plan.memory, []

    async def main() -> None:
        for _ in range(50):
            memory.calm, memory.cpu_score, memory.decayed_ns = CALM, score, time.monotonic_ns() + 10**12
            answer = ask(asked)
            if isinstance(answer, Completed):
                used = max(answer.ran_ns - FREE_US * 1000, 0) // 1000
                found.append((used, memory.cpu_score - score))
            elif isinstance(answer, Started):  # the machine is slow
                answer.invocation.drop()
            await asyncio.sleep(0)

    run(main)
    return found


def test_a_lone_long_guest_counts_little() -> None:
    for used, added in booked(fast_path(fresh_engine(), SPINS), 0):
        assert abs(added - min(used, LONE_US)) <= 1


def test_many_long_guests_count_what_they_took() -> None:
    """From half of the budget on time of CPU is measured: it is no longer the process that may have waited."""
    for used, added in booked(fast_path(fresh_engine(), SPINS), BUDGET_US // 2):
        assert abs(added - used) <= 1


def test_the_score_is_forgotten_with_time() -> None:
    asked, score = fast_path(fresh_engine()), BUDGET_US // 2 + 1000
    memory = asked._plan.memory

    async def main() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            memory.calm, memory.cpu_score = CALM, score
            memory.decayed_ns = time.monotonic_ns() - int(HALF_LIFE * 1e9)
            answer = ask(asked)
            if isinstance(answer, Completed):
                assert memory.cpu_score <= score // 2 + max(answer.ran_ns // 1000, LONE_US)
                return
            assert isinstance(answer, Started)
            answer.invocation.drop()
            await asyncio.sleep(0.01)
        raise AssertionError("no guest has ended")

    run(main)
