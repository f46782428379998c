"""Where a guest's path leads: never out of the directory that it is relative to.

A path is gone along step by step. Each directory is opened relative to the one before and never through a link; links
are read and gone along in the same way. So whatever others rename meanwhile, what is opened lies below.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

MAX_PATH = 4096
MAX_DEPTH = 100
"""Directories below the one that a path is relative to: each is held open while the path is gone along."""
_MAX_LINKS = 40
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


@contextmanager
def place(base: int, path: str, *, follow: bool) -> Iterator[tuple[str, int]]:
    """Give the last name of a path, and the open directory that it is in; ``.`` for a directory that has no name there.

    With ``follow`` it is not the name of a link, unless others make it one. Raises OSError: EPERM for a path that leads
    out.
    """
    walk = _Walk(base, path)
    try:
        yield walk.run(follow), walk.here
    finally:
        walk.close()


def check(path: str) -> None:
    """Raise OSError for what leads nowhere at all."""
    if not path:
        raise error(errno.ENOENT)
    _check_relative(path)
    if "\0" in path:
        raise error(errno.EINVAL)
    if len(path.encode()) >= MAX_PATH:
        raise error(errno.ENAMETOOLONG)


def _check_relative(path: str) -> None:
    if path.startswith("/"):
        raise error(errno.EPERM)


class _Walk:
    def __init__(self, base: int, path: str) -> None:
        check(path)
        self._parts: deque[str] = deque()
        self._open = [base]
        self._links = 0
        self._add(path)

    @property
    def here(self) -> int:
        return self._open[-1]

    def _add(self, path: str) -> None:
        """Go along that path first, and then along what is left."""
        _check_relative(path)
        self._parts.extendleft(reversed(path.split("/")))

    def run(self, follow: bool) -> str:
        while self._parts:
            part = self._parts.popleft()
            if part == "..":
                self._up()
            elif part not in ("", "."):
                last = not self._parts
                if last and not follow:
                    return part
                if self._is_link(part, last):
                    continue
                if last:
                    return part
                self._down(part)
        return "."

    def _up(self) -> None:
        if len(self._open) == 1:
            raise error(errno.EPERM)
        os.close(self._open.pop())

    def _down(self, part: str) -> None:
        if len(self._open) > MAX_DEPTH:
            raise error(errno.ENAMETOOLONG)
        self._open.append(os.open(part, _STEP, dir_fd=self.here))

    def _is_link(self, part: str, last: bool) -> bool:
        """Return whether it is a link; then what is left begins with where that leads."""
        try:
            target = os.readlink(part, dir_fd=self.here)
        except OSError as failure:
            if failure.errno == errno.EINVAL or (failure.errno == errno.ENOENT and last):
                return False
            raise
        self._links += 1
        if self._links > _MAX_LINKS:
            raise error(errno.ELOOP)
        self._add(target)
        return True

    def close(self) -> None:
        while len(self._open) > 1:
            os.close(self._open.pop())
