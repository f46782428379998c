"""The threads for busy guests: one whose guest does not end though it was given up is replaced."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Hashable
from contextlib import nullcontext

import pytest
from apps import eventually, wait_until
from support import GUESTS, invoke

from starlette_wasm.engine import capi, workers
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.invocation import Invocation
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits, Plan
from starlette_wasm.engine.workers import Workers, niceness

STUCK = """(module
  (memory (export "memory") 16384)
  (func (export "_start") (local $i i32)
    (loop $on ;; until it has gone on in a thread
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $on (i32.lt_u (local.get $i) (i32.const 10000000))))
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x40000000))))"""
"""A gigabyte is filled between two looks at the clock."""


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
        await eventually(lambda: engine.workers.replaced)
        assert (engine.workers.stuck, engine.workers.replaced) == (1, 1)
        assert engine.workers._threads == 1
        await eventually(lambda: not engine.workers.stuck and not engine.state.live)
        assert engine.workers.busy == 0
        assert (await invoke(spin, limits=Limits(time=0.1))).end is End.TIMEOUT
        assert engine.workers.replaced == 1

    asyncio.run(main())
    assert "a guest of stuck v1 was given up" in caplog.text
    assert "its thread is stuck, and replaced" in caplog.text


@pytest.mark.parametrize(("weight", "nice"), [(100, 0), (80, 1), (11, 10), (2, 18), (1, 19)])
def test_a_weight_is_a_niceness(weight: int, nice: int) -> None:
    assert niceness(weight) == nice


NICED = """
import os, threading
os.nice(2)
from starlette_wasm.engine.workers import Workers
found, done = [], threading.Event()
class Task:
    def run(self):
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        done.set()
Workers(2, 10).submit_task(Task())
assert done.wait(60)
print(os.getpriority(os.PRIO_PROCESS, os.getpid()), *found)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness on Linux")
def test_threads_are_nicer_than_a_process_that_is_niced() -> None:
    given = os.getpriority(os.PRIO_PROCESS, 0)
    done = subprocess.run([sys.executable, "-c", NICED], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == f"{min(given + 2, 19)} {min(given + 12, 19)}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness on Linux")
@pytest.mark.parametrize("weight", [100, 50])
def test_guests_of_a_weight_have_threads_of_their_own(engine: Engine, weight: int) -> None:
    spin = Module.compile(engine, (GUESTS / "spin.wasm").read_bytes())
    plan = Plan(spin, Limits(cpu_weight=weight))
    job = Job()
    try:
        plan.workers.submit(job)
        assert job.started.wait(60)
        assert job.nice == min(os.getpriority(os.PRIO_PROCESS, 0) + niceness(weight), 19)
        assert (job.policy == os.SCHED_BATCH) == (weight < 100)  # it takes no CPU from others as it wakes up
        assert (plan.workers is engine.workers) == (weight == 100)  # this engine's niceness is 0
        assert plan.workers in engine.pools
        assert Plan(spin, Limits(cpu_weight=weight)).workers is plan.workers
    finally:
        job.end.set()


def test_a_busy_guest_runs_in_the_threads_of_its_weight(engine: Engine) -> None:
    spin = Module.compile(engine, (GUESTS / "spin.wasm").read_bytes())

    async def main() -> None:
        limits = Limits(time=60, cpu_weight=20)
        task = asyncio.create_task(invoke(spin, limits=limits))
        await eventually(lambda: [pool.busy for pool in engine.pools] == [0, 1])
        task.cancel()
        await eventually(lambda: not any(pool.busy for pool in engine.pools) and not engine.state.live)
        await engine.rest(time.monotonic() + 60)
        assert not any(pool._threads for pool in engine.pools)

    asyncio.run(main())


class Job:
    """Runs until it is told to end."""

    def __init__(self, tenant: Hashable = None) -> None:
        self.tenant = self if tenant is None else tenant
        self.started, self.end = threading.Event(), threading.Event()
        self.thread = self.nice = self.policy = 0

    def work(self, turn_ends: float, workers: Workers) -> bool:
        self.thread = threading.get_native_id()
        if sys.platform == "linux":
            self.nice = os.getpriority(os.PRIO_PROCESS, self.thread)
            self.policy = os.sched_getscheduler(self.thread)
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


def test_two_jobs_that_come_at_once_get_two_threads_if_one_is_idle():
    pool = Workers(2, 0)
    first = Job()
    first.end.set()
    pool.submit(first)
    deadline = time.monotonic() + 60
    while not pool._idle or pool.busy:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    jobs = Job(), Job()
    with pool._wake:  # the idle thread cannot wake up between the two
        for job in jobs:
            pool._queue.put(job.tenant, job)
            pool._call_thread()
    for job in jobs:
        assert job.started.wait(60)
    for job in jobs:
        job.end.set()


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


def in_kernel(*jobs: Job) -> set[int]:
    """The threads of these jobs that are there."""
    return {job.thread for job in jobs} & {int(name) for name in os.listdir("/proc/self/task")}


def rest(pool: Workers, seconds: float) -> None:
    asyncio.run(pool.rest(time.monotonic() + seconds))


def test_at_rest_no_thread_is_left_until_the_next_job():
    pool = Workers(2, 10)
    for _ in range(3):
        jobs = [Job(), Job()]
        for job in jobs:
            pool.submit(job)
            assert job.started.wait(60)
        assert len(in_kernel(*jobs)) == 2
        for job in jobs:
            job.end.set()
        rest(pool, 60)
        assert not in_kernel(*jobs)
        assert (pool._threads, pool._idle, pool.busy) == (0, 0, 0)


def test_a_busy_thread_is_not_waited_for_longer_than_told_and_leaves_after_its_job():
    pool = Workers(1, 0)
    job = Job()
    pool.submit(job)
    assert job.started.wait(60)
    rest(pool, 0.01)
    assert (pool._threads, pool.busy) == (1, 1)
    job.end.set()
    rest(pool, 60)
    assert not in_kernel(job)


def test_a_replaced_thread_is_gone_at_rest(monkeypatch):
    pool = Workers(1, 0)
    job = Job()
    pool.submit(job)
    give_up(pool, job)
    assert pool.replaced == 1
    leave = Workers._leave

    def slowly(self, turn, done) -> bool:
        goes_on = leave(self, turn, done)
        time.sleep(0.3)  # what the thread still has to do, as its end in a busy process
        return goes_on

    monkeypatch.setattr(Workers, "_leave", slowly)
    job.end.set()
    while pool.busy:
        time.sleep(0.001)
    rest(pool, 60)
    assert not in_kernel(job)


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


class Slice:
    """Needs some turns, or all until it is told to end, and writes down each."""

    def __init__(self, tenant: str, turns: float, seen: list[str], begin: threading.Event) -> None:
        self.tenant, self.turns, self.seen, self.begin = tenant, turns, seen, begin

    def work(self, turn_ends: float, workers: Workers) -> bool:
        assert self.begin.wait(60)
        self.seen.append(self.tenant)
        self.turns -= 1
        return self.turns <= 0


@pytest.mark.parametrize("count", [1, 2, 4])
def test_many_busy_guests_of_one_tenant_delay_no_other(count):
    pool, seen, begin = Workers(count, 0), [], threading.Event()
    many = [Slice("many", math.inf, seen, begin) for _ in range(64)]
    for job in many:
        pool.submit(job)
    pool.submit(Slice("one", 20, seen, begin))
    begin.set()
    wait_until(lambda: seen.count("one") == 20)
    for job in many:
        job.turns = 0
    # They take turns; what the other threads do in the time of one turn depends on the machine.
    if count == 1:
        first, last = seen.index("one"), len(seen) - seen[::-1].index("one")
        assert seen[first:last].count("many") <= 20
        assert seen[:first].count("many") <= 2
    wait_until(lambda: not pool.busy and not pool.waiting)


def test_a_spinning_function_leaves_another_its_turns(monkeypatch):
    engine = Engine(EngineConfig(max_instances=100, workers=1, nice=0))
    spin = Plan(Module.compile(engine, (GUESTS / "spin.wasm").read_bytes()), Limits(time=60))
    count = """(module (memory (export "memory") 1) (func (export "_start") (local $i i32)
      (loop $on (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $i) (i32.const 50000000))))))"""
    other = Plan(Module.compile(engine, capi.assemble(count)), Limits(time=60))
    turns: list[Plan] = []
    work = Invocation.work

    def watched(invocation: Invocation, turn_ends: float, workers: Workers) -> bool:
        turns.append(invocation.plan)
        return work(invocation, turn_ends, workers)

    monkeypatch.setattr(Invocation, "work", watched)

    async def run(plan: Plan):
        return await Invocation(plan, b"").run(time.monotonic() + 60, nullcontext)

    async def main() -> None:
        spinning = [asyncio.create_task(run(spin)) for _ in range(64)]
        await eventually(lambda: engine.workers.waiting > 50)
        turns.clear()
        assert (await run(other)).end is End.OK
        assert turns.count(spin) <= turns.count(other) + 3
        assert not any(task.done() for task in spinning)
        for task in spinning:
            task.cancel()
        await asyncio.gather(*spinning, return_exceptions=True)
        await eventually(lambda: not engine.state.live)

    asyncio.run(main())


def test_one_tenant_with_stuck_guests_leaves_threads_to_others(caplog):
    """Nothing gives them up: they have time left."""
    caplog.set_level(logging.INFO)
    pool = Workers(2, 0)
    hogs, other = [Job("hog") for _ in range(6)], Job("other")

    async def main() -> None:
        for job in hogs:
            pool.submit(job)
        assert hogs[0].started.wait(60)
        assert hogs[1].started.wait(60)
        pool.submit(other)
        pool.watch(asyncio.get_running_loop())
        await eventually(other.started.is_set)
        assert not hogs[2].started.is_set()

    asyncio.run(main())
    assert "has had a thread for" in caplog.text
    other.end.set()
    for job in hogs:
        job.end.set()
    for job in hogs:
        assert job.started.wait(60)
    wait_until(lambda: not pool.busy)
    assert (pool.stuck, pool._threads) == (0, 2)


def test_withdrawing_takes_a_job_back_once():
    pool = Workers(1, 0)
    held, waiting = Job(), Job()
    pool.submit(held)
    assert held.started.wait(60)
    pool.submit(waiting)
    assert not pool.withdraw(held)
    assert pool.withdraw(waiting)
    assert not pool.withdraw(waiting)
    assert pool.waiting == 0
    held.end.set()


class Sweep:
    def __init__(self, done: threading.Event, fails: bool = False) -> None:
        self.done, self.fails = done, fails

    def run(self) -> None:
        self.done.set()
        if self.fails:
            raise ValueError("it fails")


def test_tasks_come_before_guests_and_are_done_at_rest(caplog):
    pool, done = Workers(1, 0), [threading.Event() for _ in range(3)]
    held, waiting = Job(), Job()
    pool.submit(held)
    assert held.started.wait(60)
    pool.submit(waiting)
    for number, each in enumerate(done):
        pool.submit_task(Sweep(each, fails=number == 0))
    assert pool.tasks == 3
    held.end.set()
    assert waiting.started.wait(60)
    assert all(each.is_set() for each in done)
    assert "a guest thread failed" in caplog.text
    waiting.end.set()
    rest(pool, 60)
    assert (pool.tasks, pool._threads) == (0, 0)
