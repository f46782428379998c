"""Jobs of several tenants for a few threads."""

from __future__ import annotations

import time

from starlette_wasm.sync.fair_scheduler import FairScheduler


def jobs(scheduler: FairScheduler[str], count: int) -> list[str]:
    """The next ones, none of which ends."""
    return [found[1] for found in (scheduler.take() for _ in range(count)) if found is not None]


def test_a_tenant_with_many_jobs_does_not_delay_another() -> None:
    scheduler: FairScheduler[str] = FairScheduler(4)
    for number in range(64):
        scheduler.put("a", f"a{number}")
    scheduler.put("b", "b0")
    assert jobs(scheduler, 3) == ["a0", "b0", "a1"]


def test_the_tenant_with_the_fewest_running_is_next() -> None:
    scheduler: FairScheduler[str] = FairScheduler(4)
    for name in ("a0", "a1", "a2", "b0", "b1"):
        scheduler.put(name[0], name)
    assert jobs(scheduler, 2) == ["a0", "b0"]
    scheduler.release("b")
    assert jobs(scheduler, 2) == ["b1", "a1"]


def test_tenants_of_which_nothing_runs_take_turns() -> None:
    scheduler: FairScheduler[str] = FairScheduler(4)
    for name in ("a0", "a1", "b0", "b1", "c0"):
        scheduler.put(name[0], name)
    order = []
    while found := scheduler.take():
        order.append(found[1])
        scheduler.release(found[0])
    assert order == ["a0", "b0", "c0", "a1", "b1"]


def test_no_tenant_runs_more_than_its_share() -> None:
    scheduler: FairScheduler[str] = FairScheduler(2)
    for number in range(5):
        scheduler.put("a", f"a{number}")
    assert jobs(scheduler, 5) == ["a0", "a1"]
    assert len(scheduler) == 3
    scheduler.put("b", "b0")
    assert scheduler.starved
    assert jobs(scheduler, 5) == ["b0"]
    assert not scheduler.starved
    scheduler.release("a")
    assert jobs(scheduler, 5) == ["a2"]


def test_a_job_is_removed_once() -> None:
    scheduler: FairScheduler[str] = FairScheduler(2)
    scheduler.put("a", "a0")
    assert not scheduler.remove("a", "a1")
    assert not scheduler.remove("b", "a0")
    assert scheduler.remove("a", "a0")
    assert not scheduler.remove("a", "a0")
    assert (len(scheduler), scheduler.take(), scheduler.starved) == (0, None, False)


def seconds(count: int) -> float:
    """Of CPU, to remove this many jobs of one tenant, the newest first, and to take as many."""
    scheduler: FairScheduler[int] = FairScheduler(count)
    for number in range(2 * count):
        scheduler.put("a", number)
    begin = time.thread_time()
    for number in reversed(range(count, 2 * count)):
        assert scheduler.remove("a", number)
    for _ in range(count):
        assert scheduler.take()
    return time.thread_time() - begin


def test_the_cost_of_a_job_does_not_depend_on_how_many_wait() -> None:
    few = min(seconds(1_000) for _ in range(3))
    assert seconds(30_000) < 30 * 10 * few  # were each looked for, it would be 900 times as much
