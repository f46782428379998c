"""An open file or directory of a guest. All raise OSError."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Self

from ..resources import HostResource
from .budget import FileBudget
from .place import check, error, place

_ALWAYS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_SYNC = ("file-integrity-sync", "data-integrity-sync", "requested-write-sync")
_READ_AT_ONCE = 1 << 20
MOST_OFFSET = (1 << 63) - 1


class Descriptor(HostResource):
    """An open file or directory. ``writable`` is whether its grant is; ``modes`` are ``read`` and ``write``."""

    def __init__(self, number: int, budget: FileBudget, *, writable: bool, modes: Collection[str]) -> None:
        self._number: int | None = number
        self.budget = budget
        self.writable = writable
        self.is_directory = stat.S_ISDIR(os.fstat(number).st_mode)
        self.modes = frozenset(modes)
        self._streams = 0
        self._left = False

    @property
    def number(self) -> int:
        if self._number is None:
            raise error(errno.EBADF)
        return self._number

    @property
    def directory(self) -> int:
        """Its number, if it is one of a directory."""
        if not self.is_directory:
            raise error(errno.ENOTDIR)
        return self.number

    @property
    def file(self) -> int:
        """Its number, if it is one of a file."""
        return self.as_file().number

    def as_file(self) -> Self:
        """Raise OSError for a directory."""
        if self.is_directory:
            raise error(errno.EBADF)
        return self

    def dropped(self) -> None:
        """Close it, unless it is the directory of a grant, which others have, or a stream of it is left."""
        if self in self.budget.opened:
            self._left = True
            self._close_unused()

    def hold(self) -> None:
        """Stay open for one stream more."""
        self._streams += 1

    def release(self) -> None:
        """Note that a stream is dropped."""
        self._streams -= 1
        self._close_unused()

    def _close_unused(self) -> None:
        if self._left and not self._streams:
            self.close()

    def close(self) -> None:
        self.budget.opened.discard(self)
        number, self._number = self._number, None
        if number is not None:
            os.close(number)

    def may_write(self) -> None:
        if not self.writable:
            raise error(errno.EPERM)

    @contextmanager
    def at(self, path: str, *, follow: bool = False) -> Iterator[tuple[str, int]]:
        """Find where a path leads to, to look at what is there."""
        base = self.directory
        with self.budget.noting(path, write=False), place(base, path, follow=follow) as found:
            yield found

    @contextmanager
    def changing(self, path: str, *, follow: bool = False) -> Iterator[tuple[str, int]]:
        """Find where a path leads to, to change something there."""
        base = self.directory
        with self.budget.noting(path, write=True):
            self.may_write()
            with place(base, path, follow=follow) as found:
                yield found

    def open(self, path: str, how: Collection[str], modes: Collection[str], *, follow: bool) -> Self:
        """Open a path. ``how`` is any of create, directory, exclusive, truncate; ``modes`` are a descriptor's flags."""
        changing = bool({"create", "truncate"} & set(how)) or "write" in modes
        base = self.directory
        with self.budget.noting(path, write=changing):
            _check_flags(how, modes)
            if changing:
                self.may_write()
            if "create" in how:
                _check_new(path)
            self.budget.check_open()
            with place(base, path, follow=follow and "exclusive" not in how) as (name, directory):
                number = self._open_name(name, directory, how, modes)
        given = {"read", "write"} & set(modes) | ({"write"} if {"create", "truncate"} & set(how) else set())
        given |= set() if "write" in modes else {"read"}
        made = type(self)(number, self.budget, writable=self.writable, modes=given)
        self.budget.opened.add(made)
        if "directory" in how and not made.is_directory:
            made.close()
            raise error(errno.ENOTDIR)
        return made

    def _open_name(self, name: str, directory: int, how: Collection[str], modes: Collection[str]) -> int:
        _check_kind(name, directory)
        writing = bool({"create", "truncate"} & set(how)) or "write" in modes
        reading = "read" in modes or "write" not in modes
        flags = (os.O_RDWR if reading else os.O_WRONLY) if writing else os.O_RDONLY
        flags |= _ALWAYS | (os.O_TRUNC if "truncate" in how else 0)
        if "create" not in how:
            return _checked(os.open(name, flags, dir_fd=directory))
        flags |= os.O_CREAT | (os.O_EXCL if "exclusive" in how else 0)
        with self.budget.creating(name, directory):
            return _checked(os.open(name, flags, 0o666, dir_fd=directory))

    def read(self, most: int, offset: int) -> bytes:
        return os.pread(self.file, min(most, _READ_AT_ONCE), _offset(offset))

    def reader(self, most: int, offset: int) -> Reader:
        """Return what reads in any thread, whatever becomes of this descriptor meanwhile."""
        return Reader(os.dup(self.file), most, _offset(offset))

    def write(self, data: bytes, offset: int) -> int:
        file = self.file
        with self.budget.growing(file, _offset(offset) + len(data)):
            return os.pwrite(file, data, offset)

    def append(self, data: bytes) -> int:
        file = self.file
        end = os.fstat(file).st_size
        with self.budget.growing(file, end + len(data)):
            if hasattr(os, "RWF_APPEND"):
                return os.pwritev(file, [data], end, os.RWF_APPEND)
            return os.pwrite(file, data, end)

    def set_size(self, size: int) -> None:
        file = self.file
        self.may_write()
        end = _offset(size)
        with self.budget.growing(file, end):
            os.ftruncate(file, end)


class Reader:
    """Reads a part of a file, once, and closes its descriptor then."""

    def __init__(self, number: int, most: int, offset: int) -> None:
        self._numbers = [number]
        self._most = most
        self._offset = offset

    def __call__(self) -> bytes:
        number = self._numbers.pop()
        try:
            return os.pread(number, self._most, self._offset)
        finally:
            os.close(number)

    def close(self) -> None:
        """Close the descriptor of one that is not called any more."""
        with suppress(IndexError):  # a thread has taken it, and closes it
            os.close(self._numbers.pop())


def _offset(given: int) -> int:
    if given > MOST_OFFSET:
        raise error(errno.EINVAL)
    return given


def _check_new(path: str) -> None:
    """Refuse to make a file with a name that a directory has."""
    check(path)
    if path.endswith("/") and path.rstrip("/").rpartition("/")[2] not in (".", ".."):
        raise error(errno.EISDIR)


def _check_flags(how: Collection[str], modes: Collection[str]) -> None:
    """Check the flags as wasmtime does."""
    if any(each in modes for each in _SYNC):
        raise error(errno.ENOTSUP)
    if "directory" in how and {"create", "exclusive", "truncate"} & set(how):
        raise error(errno.EINVAL)


def _check_kind(name: str, directory: int) -> None:
    """Refuse all but files, directories and links: opening a FIFO could wait, a device reach beyond the grant."""
    try:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        raise error(errno.EACCES)


def _checked(number: int) -> int:
    """Check what was opened: it may have changed since it was looked at."""
    mode = os.fstat(number).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        os.close(number)
        raise error(errno.EACCES)
    return number
