"""``LoadCancellation``: ends the loading of modules when the runtime closes, from another thread."""

from __future__ import annotations

import subprocess
import threading


class LoadCancelled(Exception):
    """A module was not compiled, because nobody waits for it any more."""


class LoadCancellation:
    """Cancels one load, for good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def check(self) -> None:
        """Raise LoadCancelled if the load was cancelled."""
        if self._stopped:
            raise LoadCancelled

    def stop(self) -> None:
        """Kill the processes that compile, and those that are yet to come."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                process.kill()

    def add(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._processes.add(process)
            if self._stopped:
                process.kill()

    def discard(self, process: subprocess.Popen[bytes]) -> None:
        """Forget it before the process is waited for: its number may be another's then."""
        with self._lock:
            self._processes.discard(process)
