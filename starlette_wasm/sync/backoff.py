"""Remembers what failed, so that it is not tried again and again: a pause first, twice as long each time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
_MOST = 1000


@dataclass(frozen=True, slots=True)
class _Failure:
    state: Hashable
    error: Exception
    pause: float
    until: float


class Backoff:
    """Failures by key, at most a thousand. For several threads.

    ``state`` is what of the thing the failure depends on: in another state it is tried at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[Hashable, _Failure] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many failed when last tried."""
        return len(self._failures)

    def check(self, key: Hashable, state: Hashable = None) -> None:
        """Raise the error of the last try as long as its pause lasts."""
        failure = self._failures.get(key)
        if failure is not None and failure.state == state and self._clock() < failure.until:
            raise failure.error.with_traceback(None)  # or it grows with each time it is raised

    def failed(self, key: Hashable, error: Exception, state: Hashable = None) -> float:
        """Give the pause in seconds."""
        with self._lock:
            before = self._failures.pop(key, None)
            if len(self._failures) >= _MOST:
                del self._failures[next(iter(self._failures))]
            pause = FIRST_PAUSE
            if before is not None and before.state == state:
                pause = min(before.pause * 2, LONGEST_PAUSE)
            self._failures[key] = _Failure(state, error, pause, self._clock() + pause)
        return pause

    def succeeded(self, key: Hashable) -> None:
        with self._lock:
            self._failures.pop(key, None)
