"""Runs the commands of builds: each in a process group of its own, so that what nobody waits for can be ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..functions.compiler import Compiler

SECONDS = 1200
"""What a command may take."""


class Stopped(Exception):
    """A build was ended, because a newer one takes its place or ``dev`` ends."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command has ended, and what it printed."""

    code: int
    output: str


class Commands:
    """Runs one command after the other. ``stop()``, from another thread, ends the one that runs and all that follow."""

    def __init__(self, *, nice: int = 0) -> None:
        """Take ``nice``, which is added to the niceness of what is run."""
        self._nice = nice
        self.compilers: list[Compiler] | None = None
        """Compile processes for the modules that come out, if they are kept for the next build."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def run(self, words: Sequence[str], folder: Path, environ: Mapping[str, str]) -> Ended:
        """Raise FileNotFoundError, TimeoutExpired and Stopped."""
        process = self._start(words, folder, environ)
        try:
            stdout, stderr = process.communicate(timeout=SECONDS)
        except BaseException:
            end_group(process)
            process.communicate()
            raise
        finally:
            with self._lock:
                self._process = None
        if self._stopped:
            raise Stopped
        return Ended(process.returncode, stderr + stdout)

    def check(self) -> None:
        """Raise Stopped if they are."""
        if self._stopped:
            raise Stopped

    def stop(self) -> None:
        """End what runs."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                end_group(self._process)

    def _start(self, words: Sequence[str], folder: Path, environ: Mapping[str, str]) -> subprocess.Popen[str]:
        with self._lock:
            if self._stopped:
                raise Stopped
            self._process = subprocess.Popen(
                words,
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            if self._nice:
                with contextlib.suppress(OSError):  # it has ended already
                    os.setpriority(os.PRIO_PGRP, self._process.pid, self._nice)
            return self._process


def end_group(process: subprocess.Popen[str]) -> None:
    """Kill a process that leads a group, and the group: npx and zig start others."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
