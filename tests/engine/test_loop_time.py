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
    plan.loop_time._since -= 2 * HALF_LIFE
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

    turns = Timed(work(), booked.append).__await__()
    with pytest.raises(StopIteration) as ended:
        next(turns)
    assert ended.value.value == 7
    assert len(booked) == 1
    assert booked[0] >= 0.005


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
