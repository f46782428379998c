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
    """Have that lock file for the block, and remove it then. ``wait`` is called once if another process has it,
    ``check`` again and again until it is free; it may raise.
    """
    descriptor = _taken(file)
    if descriptor is None:
        wait()
        while (descriptor := _taken(file)) is None:
            check()
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is locked: whoever has opened it sees that it is gone
        os.close(descriptor)


def _taken(file: Path) -> int | None:
    """Return the descriptor of the file, locked; None if another process has it, or has just removed it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(file)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None
