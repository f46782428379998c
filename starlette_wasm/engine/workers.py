"""The threads for guests that run longer than one epoch tick: as many as CPUs, at low priority, taking turns."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from typing import Protocol

TURN = 0.01
"""Seconds a busy guest may run while others wait for a thread."""
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
        self.busy = 0

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread."""
        return len(self._queue)

    def submit(self, job: Job) -> None:
        with self._wake:
            self._queue.append(job)
            if self._idle:
                self._wake.notify()
            elif self._threads < self.count:
                self._threads += 1
                threading.Thread(target=self._run, name=f"starlette-wasm-{self._threads}", daemon=True).start()

    def withdraw(self, job: Job) -> bool:
        """Take a job back that waits; False where a thread has it."""
        with self._wake:
            try:
                self._queue.remove(job)
            except ValueError:
                return False
            return True

    def _run(self) -> None:
        if self._nice and sys.platform == "linux":
            try:
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)
            except OSError as error:
                logger.warning("guest threads keep the priority of the process: %s", error)
        while True:
            with self._wake:
                self._idle += 1
                while not self._queue:
                    self._wake.wait()
                self._idle -= 1
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
            del job  # or its module would live until the next one comes
