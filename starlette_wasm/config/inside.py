"""Files and directories opened step by step: no link leads elsewhere, and what is opened is what was checked."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def walk(start: str | os.PathLike[str], parts: Sequence[str]) -> int:
    """Open the directory that ``parts`` lead to from ``start``, which itself may be a link. Return its descriptor.

    Raises OSError: ELOOP or ENOTDIR for a link on the way.
    """
    here = os.open(start, _STEP & ~os.O_NOFOLLOW)
    try:
        for part in parts:
            there = os.open(part, _STEP, dir_fd=here)
            os.close(here)
            here = there
    except BaseException:
        os.close(here)
        raise
    return here


def open_inside(root: Path, file: Path) -> int:
    """Open a regular file below ``root`` to read. Links that stay below it are followed; ``root`` may be one.

    Raises OSError, for a link that leads out too.
    """
    base = os.path.realpath(root)
    real = os.path.realpath(file)
    check_inside(base, real)
    *parts, name = os.path.relpath(real, base).split(os.sep)
    folder = walk(base, parts)
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    return _regular(descriptor)


def open_regular(file: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a regular file to read, links followed; the opener of open().

    Raises OSError, for a FIFO too, which would else be waited for without end.
    """
    return _regular(os.open(file, flags | os.O_NONBLOCK | os.O_CLOEXEC))


def _regular(descriptor: int) -> int:
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, os.strerror(code) if stat.S_ISDIR(mode) else "it is not a regular file")
    return descriptor


def check_inside(base: str, real: str) -> None:
    """Raise OSError if a path without links is not below ``base``, which has none either."""
    if os.path.commonpath([base, real]) != base or base == real:
        raise OSError(errno.ELOOP, "a link leads out of functionsDir")
