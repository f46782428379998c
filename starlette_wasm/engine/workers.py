"""The threads for guests that run longer than one epoch tick: as many as CPUs, at low priority, taking turns.

A guest sees at each tick that its time is over, but for one in a long instruction (``memory.copy`` of a gigabyte takes
seconds). The thread of one that was given up and goes on is stuck: another takes its place, and it ends when it can.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections import deque
from typing import Protocol

TURN = 0.01
"""Seconds a busy guest may run while others wait for a thread."""
STUCK_AFTER = 0.1
"""Seconds after which a guest that was given up counts as stuck: many ticks, as threads may wait for a CPU."""
logger = logging.getLogger("starlette_wasm.engine")


class Job(Protocol):
    def work(self, turn_ends: float, workers: Workers) -> bool:
        """Run until there is something to say, or the turn is over and others wait: then give False."""


class Workers:
    """A bounded pool of daemon threads, started when first needed."""

    def __init__(self, count: int, nice: int) -> None:
        self.count = count
        self._nice = nice
        self._queue: deque[Job] = deque()
        self._wake = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._resting = False
        self._leaving: list[int] = []  # as the kernel numbers them
        self._given_up: dict[Job, float] = {}
        self._stuck: dict[Job, bool] = {}  # and whether its thread was replaced
        self.busy = 0
        """Threads that run a guest, the stuck ones included."""
        self.replaced = 0
        """How many threads were replaced since the start."""

    @property
    def stuck(self) -> int:
        """How many threads run a guest that was given up and does not end."""
        return len(self._stuck)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread."""
        return len(self._queue)

    def submit(self, job: Job) -> None:
        if self._given_up:
            self.relieve()
        with self._wake:
            self._resting = False
            self._queue.append(job)
            if self._idle:
                self._wake.notify()
            elif self._threads < self.count:
                try:
                    self._start_thread()
                except RuntimeError:
                    if not self._threads:  # or it waits for one that is there
                        self._queue.remove(job)
                        raise
                else:
                    self._threads += 1

    def withdraw(self, job: Job) -> bool:
        """Take a job back that waits; False if a thread has it."""
        with self._wake:
            try:
                self._queue.remove(job)
            except ValueError:
                return False
            return True

    def give_up(self, job: Job) -> None:
        """A thread still has that job, which nobody waits for any more. Call relieve() after STUCK_AFTER."""
        with self._wake:
            self._given_up[job] = time.monotonic()

    def relieve(self) -> None:
        """Replace the threads whose guests were given up and do not end: as many at once as there are in all."""
        with self._wake:
            now = time.monotonic()
            for job, since in list(self._given_up.items()):
                if now - since < STUCK_AFTER or job in self._queue:
                    continue
                del self._given_up[job]
                self._stuck[job] = False
                what = f"not replaced, as {self.count} are already"
                if sum(self._stuck.values()) < self.count:
                    try:
                        self._start_thread()
                        self._stuck[job] = True
                        self.replaced += 1
                        what = "replaced"
                    except RuntimeError as error:
                        what = f"not replaced: {error}"
                logger.warning(
                    "%s was given up %.1f s ago and does not end: its thread is stuck, and %s", job, now - since, what
                )

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
            try:
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)
            except OSError as error:
                logger.warning("guest threads keep the priority of the process: %s", error)
        while True:
            with self._wake:
                self._idle += 1
                while not self._queue and not self._resting:
                    self._wake.wait()
                self._idle -= 1
                if not self._queue:
                    self._threads -= 1
                    self._leaving.append(threading.get_native_id())
                    return
                job = self._queue.popleft()
                self.busy += 1
            done = True
            try:
                done = job.work(time.monotonic() + TURN, self)
            except Exception:
                logger.exception("a guest thread failed")
            with self._wake:
                self.busy -= 1
                if not done:
                    self._queue.append(job)
                else:
                    self._given_up.pop(job, None)
                    if self._stuck.pop(job, False):
                        return
            del job  # or its module would live until the next one comes


def _exists(thread: int) -> bool:
    """Whether the kernel has that thread of this process, which may outlive what Python knows of it (Linux)."""
    return os.path.exists(f"/proc/self/task/{thread}")
