"""What one invocation may do to files, and what it was refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Protocol

from ...engine.outcome import Denial
from ...engine.plan import Limits
from .place import error

_MOST_DENIALS = 8
_SHOWN = 128
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class Closable(Protocol):
    def close(self) -> None: ...


class FileBudget:
    """Descriptors that are open at once, bytes that files grow by, and entries that are created. It is ``tenant``'s."""

    def __init__(self, limits: Limits, tenant: Hashable = None) -> None:
        self.tenant = tenant
        self.reading = 0
        """Reads of files for streams that are under way: each has a descriptor more."""
        self._open = limits.fds
        self._bytes = self._largest = limits.file_bytes
        self._entries = limits.entries
        self.denials: list[Denial] = []
        self.opened: set[Closable] = set()

    def check_open(self) -> None:
        """Raise OSError if nothing more may be opened."""
        if len(self.opened) >= self._open:
            raise error(errno.EMFILE)

    @contextmanager
    def growing(self, descriptor: int, end: int) -> Iterator[None]:
        """Let a file be written up to ``end``. Raises OSError."""
        before = os.fstat(descriptor).st_size
        if end > before and (end > self._largest or end - before > self._bytes):
            raise error(errno.ENOSPC)
        try:
            yield
        finally:
            self._bytes -= max(os.fstat(descriptor).st_size - before, 0)

    @contextmanager
    def creating(self, name: str, directory: int) -> Iterator[None]:
        """Let an entry be created, if it is not there. Raises OSError."""
        there = exists(name, directory)
        if not there and self._entries <= 0:
            raise error(errno.EDQUOT)
        yield
        if not there:
            self._entries -= 1

    @contextmanager
    def noting(self, path: str, *, write: bool) -> Iterator[None]:
        """Note a refusal, for the log."""
        try:
            yield
        except OSError as failure:
            if failure.errno in _DENIED and len(self.denials) < _MOST_DENIALS:
                self.denials.append(Denial(path[:_SHOWN], write))
            raise


def exists(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
