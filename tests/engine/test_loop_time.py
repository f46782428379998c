"""The budget of loop time that the guests of one plan share."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest
from support import command

from starlette_wasm.engine import instance, loop_time
from starlette_wasm.engine.instance import Instance
from starlette_wasm.engine.loop_time import BUDGET_US, CALM, FREE_NS_PER_KIB, FREE_US, HALF_LIFE, LONE_US
from starlette_wasm.engine.plan import Limits, Plan
from starlette_wasm.engine.timed import Timed
from starlette_wasm.sync.pace import SLICE, Pace

HEADER = Path(loop_time.__file__).parent / "native" / "native.h"


def test_short_stretches_are_free_and_long_ones_spend(wat):
    plan = Plan(wat(command("")), Limits())
    for _ in range(1000):
        plan.loop_time.add(FREE_US / 2e6)
    assert not plan.loop_time.spent
    for _ in range(10):
        plan.loop_time.add(0.002)
    assert plan.loop_time.spent


def test_a_lone_long_stretch_counts_little(wat):
    plan = Plan(wat(command("")), Limits())
    for _ in range(8):
        for _ in range(CALM):
            plan.loop_time.add(FREE_US / 2e6)
        plan.loop_time.add(0.02)  # the process may have waited for a CPU
    assert not plan.loop_time.spent
    plan.loop_time.add(0.02)
    assert plan.loop_time.spent


def test_a_budget_comes_back_with_time(wat):
    plan = Plan(wat(command("")), Limits())
    plan.loop_time.add(3 * BUDGET_US / 1e6)
    assert plan.loop_time.spent
    plan.memory.decayed_ns -= int(2 * HALF_LIFE * 1e9)
    assert not plan.loop_time.spent


def test_one_plan_does_not_spend_the_budget_of_another(wat):
    module = wat(command(""))
    heavy, light = Plan(module, Limits()), Plan(module, Limits())
    heavy.loop_time.add(1)
    assert heavy.loop_time.spent
    assert not light.loop_time.spent


def test_the_c_library_has_the_same_budget():
    text = HEADER.read_text()
    found = re.search(r"CPU_THRESHOLD = (\d+), FREE_NS = (\d+)", text)
    assert found is not None
    assert [int(each) for each in found.groups()] == [BUDGET_US, FREE_US * 1000]
    found = re.search(r"HALF_LIFE_NS (\d+)", text)
    assert found is not None
    assert int(found[1]) == HALF_LIFE * 1e9
    found = re.search(r"FREE_NS_PER_KIB = (\d+)", text)
    assert found is not None
    assert int(found[1]) == FREE_NS_PER_KIB
    found = re.search(r"CALM = (\d+), LONE = (\d+)", text)
    assert found is not None
    assert [int(each) for each in found.groups()] == [CALM, LONE_US]


def test_guests_with_much_memory_keep_off_the_loop(wat):
    assert not Plan(wat(command("")), Limits(memory_pages=256)).slow
    assert Plan(wat(command("")), Limits(memory_pages=257)).slow


def test_turns_of_an_awaitable_are_booked():
    booked: list[float] = []

    async def work() -> int:
        end = time.thread_time() + 0.005
        while time.thread_time() < end:
            pass
        return 7

    async def main() -> int:
        return await Timed(work(), booked.append, Pace(), "a")

    assert asyncio.run(main()) == 7
    assert len(booked) == 1
    assert booked[0] >= 0.005


def test_turns_that_take_long_do_not_follow_each_other():
    """What many guests wait for is there at once: of their turns, one is in each round of the loop."""
    order: list[str] = []

    async def work(there: asyncio.Event) -> None:
        await there.wait()
        end = time.thread_time() + 2 * SLICE
        while time.thread_time() < end:
            pass
        order.append("guest")

    async def rounds() -> None:
        for _ in range(100):
            order.append("round")
            await asyncio.sleep(0)

    async def main() -> None:
        pace, there = Pace(), asyncio.Event()

        async def guest() -> None:
            await Timed(work(there), lambda _: None, pace, "a")

        guests = [asyncio.create_task(guest()) for _ in range(4)]
        await asyncio.sleep(0)
        there.set()
        await asyncio.gather(*guests, rounds())

    asyncio.run(main())
    assert "guest guest" not in " ".join(order)
    assert order.count("guest") == 4


def test_a_wait_for_a_turn_can_be_cancelled():
    async def main() -> None:
        pace, there, seen = Pace(), asyncio.Event(), []

        async def work() -> None:
            try:
                await there.wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        async def guest() -> None:
            await Timed(work(), lambda _: None, pace, "a")

        task = asyncio.create_task(guest())
        await asyncio.sleep(0)
        there.set()
        pace.book(1.0)
        await asyncio.sleep(0)  # it would go on, and waits for its turn instead
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["cancelled"]

    asyncio.run(main())


def test_a_wait_for_a_cpu_is_no_work(wat, monkeypatch):
    monkeypatch.setattr(instance, "native", None)
    monkeypatch.setattr(instance.time, "thread_time", lambda: 1.0)  # no CPU was had, however much time has passed
    guest = Instance(Plan(wat(command("")), Limits()), b"")

    async def main() -> bool:
        guest.engine.ticker.ensure_armed()
        return guest.start()

    assert asyncio.run(main())
    guest.finish()
    assert guest.cpu == 0
