"""The threads for guests that run longer than one epoch tick: as many as CPUs, at low priority, taking turns.

Tenants share them: a free thread goes to the tenant that holds the fewest, and none holds more than there are CPUs.

A guest sees at each tick that its time is over, but for one in a long instruction (``memory.copy`` of a gigabyte takes
seconds) or in a read of a large directory. The thread of one that was given up and goes on is stuck, and so is one that
does not leave its thread while a tenant waits that has none: another takes its place, and it ends when it can.

They also free stores that are too large to be freed on the event loop (reclaim.py), before anything else: what a guest
leaves takes less time than what it did, and its memory is wanted.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from ..sync.fair_scheduler import FairScheduler

TURN = 0.01
"""Seconds a busy guest may run while others wait for a thread."""
STUCK_AFTER = 0.1
"""Seconds after which a guest that was given up counts as stuck: many ticks, as threads may wait for a CPU."""
OVERDUE_AFTER = 0.5
"""Seconds after which a guest that does not leave its thread counts as stuck, while a tenant waits that has none."""
logger = logging.getLogger("starlette_wasm.engine")


def niceness(weight: int) -> int:
    """Return the niceness that gives a thread ``weight`` percent of what a busy one at niceness 0 has.

    Each step is a quarter in the kernel's scheduler.
    """
    return min(19, round(math.log(100 / weight, 1.25)))


class Job(Protocol):
    """Work for a worker thread. Hashed by identity."""

    @property
    def tenant(self) -> Hashable:
        """Whose share of the threads it uses."""

    def work(self, turn_ends: float, workers: Workers) -> bool:
        """Run until there is something to report, or the turn is over and others wait: then give False."""


class Task(Protocol):
    """Work that is done at once, for no tenant."""

    def run(self) -> None: ...


@dataclass(eq=False, slots=True)
class _Turn:
    """A job in a thread."""

    tenant: Hashable
    job: Job
    began: float
    given_up: float | None = None
    stuck: bool = False
    replaced: bool = False

    def overdue(self, now: float, starved: bool) -> bool:
        if self.stuck:
            return False
        if self.given_up is not None and now - self.given_up >= STUCK_AFTER:
            return True
        return starved and now - self.began >= OVERDUE_AFTER

    def describe(self, now: float) -> str:
        """Explain how the job holds its thread up."""
        if self.given_up is not None:
            return f"{self.job} was given up {now - self.given_up:.1f} s ago and does not end"
        return f"{self.job} has had a thread for {now - self.began:.1f} s while others wait"


class Workers:
    """A bounded pool of daemon threads, started when first needed. All have one niceness: only root may lower it."""

    def __init__(self, count: int, nice: int) -> None:
        self.count = count
        self._nice = nice
        self._queue: FairScheduler[Job] = FairScheduler(count)
        self._tasks: deque[Task] = deque()
        self._wake = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._resting = False
        self._leaving: list[int] = []  # as the kernel numbers them
        self._turns: set[_Turn] = set()
        self._watching: asyncio.AbstractEventLoop | None = None
        self._tasks_open = 0
        self.replaced = 0
        """How many threads were replaced since the start."""

    @property
    def busy(self) -> int:
        """Threads that run a guest, the stuck ones included."""
        return len(self._turns)

    @property
    def stuck(self) -> int:
        """How many threads are held by a guest that does not leave them."""
        with self._wake:
            return sum(turn.stuck for turn in self._turns)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread."""
        return len(self._queue)

    @property
    def tasks(self) -> int:
        """How many tasks are not done."""
        return self._tasks_open

    def submit(self, job: Job) -> None:
        """Queue a job. Raises RuntimeError if no thread can be started, and none is there."""
        with self._wake:
            self._queue.put(job.tenant, job)
            try:
                self._call_thread()
            except RuntimeError:
                self._queue.remove(job.tenant, job)
                raise
        if self.waiting:
            self.relieve()

    def submit_task(self, task: Task) -> None:
        """Queue what is done before all jobs. Raises RuntimeError as submit()."""
        with self._wake:
            self._tasks.append(task)
            try:
                self._call_thread()
            except RuntimeError:
                self._tasks.remove(task)
                raise
            self._tasks_open += 1

    def _call_thread(self) -> None:
        self._resting = False
        if self._idle:
            self._wake.notify()
        # One that was given other work, and is yet to wake up, is still among the idle.
        if self._idle < len(self._queue) + len(self._tasks) and self._threads < self.count:
            try:
                self._start_thread()
            except RuntimeError:
                if not self._threads:  # else it waits for one that is there
                    raise
            else:
                self._threads += 1

    def withdraw(self, job: Job) -> bool:
        """Take a job back that waits; False if a thread has it."""
        with self._wake:
            return self._queue.remove(job.tenant, job)

    def give_up(self, job: Job) -> None:
        """Note that nobody waits any more for a job that a thread still has. Call relieve() after STUCK_AFTER."""
        with self._wake:
            for turn in self._turns:
                if turn.job is job:
                    turn.given_up = time.monotonic()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call relieve() from that loop, again and again, as long as a tenant waits that has no thread."""
        with self._wake:
            watched = self._watching is not None and self._watching.is_running()
            if watched or not self._queue.starved:
                return
            self._watching = loop
        loop.call_later(STUCK_AFTER, self._look_after, loop)

    def _look_after(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watching = None
        self.relieve()
        self.watch(loop)

    def relieve(self) -> None:
        """Replace the threads whose guests do not leave them: as many at once as there are in all."""
        with self._wake:
            now, starved = time.monotonic(), self._queue.starved
            for turn in self._turns:
                if turn.overdue(now, starved):
                    self._replace(turn, now)

    def _replace(self, turn: _Turn, now: float) -> None:
        turn.stuck = True
        what = f"not replaced, as {self.count} are already"
        if sum(each.replaced for each in self._turns) < self.count:
            try:
                self._start_thread()
                turn.replaced = True
                self.replaced += 1
                what = "replaced"
            except RuntimeError as error:
                what = f"not replaced: {error}"
        level = logging.INFO if turn.given_up is None else logging.WARNING  # the machine may only be busy
        logger.log(level, "%s: its thread is stuck, and %s", turn.describe(now), what)

    async def rest(self, grace: float) -> None:
        """End the threads, and wait until they are gone, or until ``grace``, on time.monotonic(), is over.

        A job that comes meanwhile, or later, starts them again.

        The last thread of a process frees its memory. Were that one of these, at their low priority, which root alone
        may raise, the end of the process would take long where other processes want the CPUs.
        """
        with self._wake:
            self._resting = True
            self._wake.notify_all()
        while self._resting and time.monotonic() < grace:
            with self._wake:
                self._leaving = [number for number in self._leaving if _exists(number)]
                if not self._threads and not self._leaving:
                    return
            await asyncio.sleep(0.001)

    def _start_thread(self) -> None:
        number = self._threads + self.replaced + 1
        threading.Thread(target=self._run, name=f"starlette-wasm-{number}", daemon=True).start()

    def _run(self) -> None:
        if self._nice and sys.platform == "linux":
            _lower(threading.get_native_id(), self._nice)
        while self._work_on():
            pass

    def _work_on(self) -> bool:
        """Do what is next, if anything. False if the thread is to end. Nothing is held when it returns."""
        found = self._next()
        if found is None:
            return False
        if not isinstance(found, _Turn):
            self._do(found)
            return True
        done = True
        try:
            done = found.job.work(found.began + TURN, self)
        except Exception:
            logger.exception("a guest thread failed")
        return self._leave(found, done)

    def _do(self, task: Task) -> None:
        try:
            task.run()
        except Exception:
            logger.exception("a guest thread failed")
        with self._wake:
            self._tasks_open -= 1

    def _next(self) -> Task | _Turn | None:
        """Wait for something to do; None if the thread is to end."""
        with self._wake:
            self._idle += 1
            try:
                while True:
                    if self._tasks:
                        return self._tasks.popleft()
                    found = self._queue.take()
                    if found is not None:
                        turn = _Turn(*found, time.monotonic())
                        self._turns.add(turn)
                        return turn
                    if self._resting:
                        self._threads -= 1
                        self._leaving.append(threading.get_native_id())
                        return None
                    self._wake.wait()
            finally:
                self._idle -= 1

    def _leave(self, turn: _Turn, done: bool) -> bool:
        """End a turn. Returns False if its thread was replaced, and ends."""
        with self._wake:
            self._turns.discard(turn)
            self._queue.release(turn.tenant)
            if not done:
                self._queue.put(turn.tenant, turn.job)
            if turn.replaced:
                self._wake.notify()  # this tenant may have a thread again
                self._leaving = [number for number in self._leaving if _exists(number)]
                self._leaving.append(threading.get_native_id())
            return not turn.replaced


def _lower(thread: int, nice: int) -> None:
    """Make a thread nicer than the process, and let it take no CPU from another thread as it wakes up.

    A guest that calls the host again and again wakes up as often: the event loop would lose its CPU each time.
    """
    try:
        of_process = os.getpriority(os.PRIO_PROCESS, os.getpid())  # the main thread's
        os.setpriority(os.PRIO_PROCESS, thread, min(of_process + nice, 19))
    except OSError as error:
        logger.warning("guest threads keep the priority of the process: %s", error)
    try:
        os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
    except OSError as error:  # musl has no such call
        logger.debug("guest threads are scheduled as all others: %s", error)


def _exists(thread: int) -> bool:
    """Return whether the kernel has that thread of this process, which may outlive what Python knows of it (Linux)."""
    return os.path.exists(f"/proc/self/task/{thread}")
