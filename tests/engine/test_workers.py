"""The threads for busy guests: one whose guest does not end though it was given up is replaced."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable

import pytest
from support import GUESTS, invoke

from starlette_wasm.engine import capi, workers
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits
from starlette_wasm.engine.workers import Workers

STUCK = """(module
  (memory (export "memory") 16384)
  (func (export "_start") (local $i i32)
    (loop $on ;; until it has gone on in a thread
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $on (i32.lt_u (local.get $i) (i32.const 10000000))))
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x40000000))))"""
"""A gigabyte is filled between two looks at the clock."""


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def engine():
    return Engine(EngineConfig(max_instances=10, workers=1, nice=0))


def test_a_guest_in_a_long_instruction_is_counted_reported_and_its_thread_replaced(engine, caplog):
    stuck = Module.compile(engine, capi.assemble(STUCK))
    stuck.label = "stuck v1"
    spin = Module.compile(engine, (GUESTS / "spin.wasm").read_bytes())

    async def main() -> None:
        begin = time.monotonic()
        task = asyncio.create_task(invoke(stuck, limits=Limits(memory_pages=16384, time=0.1)))
        outcome = await task
        assert outcome.end is End.TIMEOUT
        assert time.monotonic() - begin < 30
        await until(lambda: engine.workers.replaced)
        assert (engine.workers.stuck, engine.workers.replaced) == (1, 1)
        assert engine.workers._threads == 1
        await until(lambda: not engine.workers.stuck and not engine.state.live)
        assert engine.workers.busy == 0
        assert (await invoke(spin, limits=Limits(time=0.1))).end is End.TIMEOUT
        assert engine.workers.replaced == 1

    asyncio.run(main())
    assert "a guest of stuck v1 was given up" in caplog.text
    assert "its thread is stuck, and replaced" in caplog.text


class Job:
    """Runs until it is told to end."""

    def __init__(self) -> None:
        self.started, self.end = threading.Event(), threading.Event()

    def work(self, turn_ends: float, workers: Workers) -> bool:
        self.started.set()
        assert self.end.wait(60)
        return True


def give_up(pool: Workers, *jobs: Job) -> None:
    for job in jobs:
        assert job.started.wait(60)
        pool.give_up(job)
    time.sleep(workers.STUCK_AFTER)
    pool.relieve()


def test_no_more_threads_are_replaced_than_there_are(caplog):
    pool = Workers(2, 0)
    jobs = [Job() for _ in range(6)]
    for job in jobs:
        pool.submit(job)
    give_up(pool, *jobs[:2])
    assert (pool.stuck, pool.replaced) == (2, 2)
    give_up(pool, *jobs[2:4])
    assert (pool.stuck, pool.replaced, pool.busy, pool.waiting) == (4, 2, 4, 2)
    assert not jobs[4].started.is_set()
    assert "not replaced, as 2 are already" in caplog.text
    for job in jobs:
        job.end.set()
    for job in jobs[4:]:
        assert job.started.wait(60)
    deadline = time.monotonic() + 60
    while pool.busy or pool.stuck:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert pool._threads == 2


def test_where_no_thread_can_be_started_the_stuck_one_goes_on_when_it_can(monkeypatch, caplog):
    pool = Workers(1, 0)
    stuck, after = Job(), Job()
    pool.submit(stuck)
    assert stuck.started.wait(60)

    def refuse(self) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Workers, "_start_thread", refuse)
        give_up(pool, stuck)
        assert (pool.stuck, pool.replaced) == (1, 0)
        assert "not replaced: can't start new thread" in caplog.text
        pool.submit(after)
        stuck.end.set()
        assert after.started.wait(60)
    after.end.set()


def test_a_job_that_ends_in_time_is_not_stuck():
    pool = Workers(1, 0)
    job = Job()
    pool.submit(job)
    assert job.started.wait(60)
    pool.give_up(job)
    pool.relieve()
    assert pool.stuck == 0
    job.end.set()
    give = Job()
    pool.submit(give)
    assert give.started.wait(60)
    time.sleep(workers.STUCK_AFTER)
    pool.relieve()
    assert (pool.stuck, pool.replaced) == (0, 0)
    give.end.set()


def test_the_next_job_replaces_a_stuck_thread_where_no_event_loop_did():
    pool = Workers(1, 0)
    stuck, after = Job(), Job()
    pool.submit(stuck)
    assert stuck.started.wait(60)
    pool.give_up(stuck)
    time.sleep(workers.STUCK_AFTER)
    pool.submit(after)
    assert after.started.wait(60)
    assert pool.replaced == 1
    stuck.end.set()
    after.end.set()


def of_kernel() -> set[str]:
    return set(os.listdir("/proc/self/task"))


def rest(pool: Workers, seconds: float) -> None:
    asyncio.run(pool.rest(time.monotonic() + seconds))


def test_at_rest_no_thread_is_left_until_the_next_job():
    before = of_kernel()
    pool = Workers(2, 10)
    for _ in range(3):
        jobs = [Job(), Job()]
        for job in jobs:
            pool.submit(job)
            assert job.started.wait(60)
        assert len(of_kernel() - before) == 2
        for job in jobs:
            job.end.set()
        rest(pool, 60)
        assert of_kernel() <= before
        assert (pool._threads, pool._idle, pool.busy) == (0, 0, 0)


def test_a_busy_thread_is_not_waited_for_longer_than_told_and_leaves_after_its_job():
    before = of_kernel()
    pool = Workers(1, 0)
    job = Job()
    pool.submit(job)
    assert job.started.wait(60)
    rest(pool, 0.01)
    assert (pool._threads, pool.busy) == (1, 1)
    job.end.set()
    rest(pool, 60)
    assert of_kernel() <= before


def test_a_job_that_comes_while_the_threads_rest_is_done():
    async def main() -> None:
        pool = Workers(1, 0)
        first, second = Job(), Job()
        pool.submit(first)
        assert first.started.wait(60)
        resting = asyncio.create_task(pool.rest(time.monotonic() + 600))
        await asyncio.sleep(0)
        pool.submit(second)
        first.end.set()
        async with asyncio.timeout(60):
            await resting
        assert second.started.wait(60)
        second.end.set()
        await pool.rest(time.monotonic() + 60)
        assert pool._threads == 0

    asyncio.run(main())
