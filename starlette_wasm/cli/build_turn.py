"""The turn of a build: of those of one version, in whatever process, one runs after the other."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PAUSE = 0.1


@contextmanager
def turn(file: Path, check: Callable[[], None], wait: Callable[[], None]) -> Iterator[None]:
    """Have that lock file for the block. ``wait`` is called once if another process has it, ``check`` again and again
    until it is free; it may raise.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _taken(descriptor):
            wait()
            while not _taken(descriptor):
                check()
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
