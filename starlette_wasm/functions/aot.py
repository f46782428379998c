"""Compiled modules kept on disk, content-addressed.

Compiled code is native code: loading a forged file is executing it. So nothing is loaded but what this user
wrote, from a directory that only this user can write, under a keyed checksum over the very bytes that are loaded.
Whatever does not fit is a miss, never an error: the module is compiled again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import mmap
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..engine.capi import Code
from ..engine.configuration import LINK_DIGEST

logger = logging.getLogger("starlette_wasm")

_MAGIC = b"swasm\0\0\1"
_MAC = 32
_KEY_FILE = "key"
_MOST = 1 << 30  # bytes of one file
_LARGE = 4 << 20
_NEW = ".new-"
_ABANDONED_AFTER = 60.0
_UNUSED_AFTER = 30 * 86400.0
_TOUCH_AFTER = 3600.0
MOST_BYTES = 1 << 30
"""Default bound of all files of a cache together, in MB."""


class CacheError(Exception):
    """The directory cannot be trusted or used; the text is the reason."""


class AotCache:
    """A directory of compiled modules. Raises CacheError if it cannot be used.

    Several processes may share it: files appear whole, and whoever reads one has read all of it before it goes.
    """

    def __init__(self, directory: Path, most_bytes: int = MOST_BYTES, *, volume: bool = False) -> None:
        """Take ``volume`` if the directory is one that others may write to, such as the root of a pod's volume.

        The files then lie in a directory of this user alone inside of it. Whoever replaces that directory gains
        nothing: each file, the key included, must belong to this user, be closed to others, and fit its checksum.
        """
        if volume:
            directory = directory / f"uid-{os.geteuid()}"
        self.directory = directory
        self._most_bytes = most_bytes
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_directory(directory, parents=not volume)
            self._key = self._read_key()
            _clear(directory)
        except OSError as error:
            raise CacheError(f"{error.strerror}: {error.filename or directory}") from None

    def key(self, digest: str, engine: str) -> str:
        """Return the address of the code that ``engine``, a fingerprint, makes of the module with that digest."""
        parts = (digest, LINK_DIGEST, engine)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def load(self, key: str) -> tuple[Code, dict[str, Any]] | None:
        """Load the code and the facts stored with it, or None if there is nothing that can be trusted."""
        file = self._file(key)
        try:
            data = _read_own(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("AOT cache: %s not used: %s", file, error.strerror or error)
            return None
        body = data[len(_MAGIC) + _MAC :]
        if data[: len(_MAGIC)] != _MAGIC or not hmac.compare_digest(
            self._mac(key, body), data[len(_MAGIC) : len(_MAGIC) + _MAC]
        ):
            logger.warning("AOT cache: %s is damaged or was not written here; compiling again", file)
            return None
        _touch(file)
        size = int.from_bytes(body[:4], "little")
        facts: dict[str, Any] = json.loads(bytes(body[4 : 4 + size]))
        return body[4 + size :], facts

    def store(self, key: str, code: bytes, facts: dict[str, Any]) -> None:
        """Write code under its address, atomically. What goes wrong is logged: the code is in memory anyway."""
        meta = json.dumps(facts).encode()
        body = b"".join((len(meta).to_bytes(4, "little"), meta, code))
        try:
            _write(self._file(key), b"".join((_MAGIC, self._mac(key, memoryview(body)), body)))
        except OSError as error:
            logger.warning("AOT cache: cannot write to %s: %s", self.directory, error.strerror)

    def prune(self) -> None:
        """Remove what nobody has used for 30 days; then, until the rest fits, what was not used for longest."""
        now, total = time.time(), 0
        for file, info in sorted(_entries(self.directory), key=lambda entry: -entry[1].st_mtime):
            total += info.st_size
            if total > self._most_bytes or now - info.st_mtime > _UNUSED_AFTER:
                total -= info.st_size
                with contextlib.suppress(OSError):
                    file.unlink()
                    logger.info("AOT cache: removed %s, which was not used for longest", file.name)

    def _mac(self, key: str, body: memoryview) -> bytes:
        mac = hmac.new(self._key, key.encode(), hashlib.sha256)
        mac.update(body)
        return mac.digest()

    def _file(self, key: str) -> Path:
        return self.directory / f"{key}.cwasm"

    def _read_key(self) -> bytes:
        file = self.directory / _KEY_FILE
        for _ in range(2):
            try:
                key = _read_own(file, private=True)
            except FileNotFoundError:
                _write(file, secrets.token_bytes(_MAC), exclusive=True)
                continue
            if len(key) != _MAC:
                raise CacheError(f"{file} is damaged; remove it")
            return bytes(key)
        raise CacheError(f"{file} cannot be read back")


def _check_directory(directory: Path, *, parents: bool) -> None:
    """Check that nobody else can change what is in it; with ``parents``, nor put another in its place."""
    me = os.geteuid()
    path = Path(os.path.abspath(directory))
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        raise CacheError(f"{path} is a symlink; give the directory itself")
    if info.st_uid != me:
        raise CacheError(f"{path} belongs to another user")
    if info.st_mode & 0o022:
        raise CacheError(f"others may write to {path}; chmod 700 it")
    for parent in path.resolve().parents if parents else ():
        info = parent.stat()
        if info.st_uid not in (0, me) or (info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX):
            raise CacheError(f"others may replace {path}: they may write to {parent}")


def _read_own(file: Path, *, private: bool = False) -> memoryview:
    """Read a regular file of this user's that others cannot write (nor read, if private)."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid():
            raise PermissionError(1, "not a file of this user", str(file))
        if info.st_mode & (0o077 if private else 0o022):
            raise PermissionError(1, "open to others", str(file))
        if info.st_size > _MOST:
            raise OSError(27, "too large", str(file))
        data = memoryview(_buffer(info.st_size))  # what is loaded of it is not copied again
        return data[: stream.readinto(data)]


def _buffer(size: int) -> bytearray | mmap.mmap:
    """Make memory to read a file into, in huge pages if it is large: for 37 MB there are 9,000 page faults less."""
    if size < _LARGE:
        return bytearray(size)
    buffer = mmap.mmap(-1, size)
    with contextlib.suppress(OSError, AttributeError):  # not every system has them
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer


def _entries(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for file in directory.glob("*.cwasm"):
        with contextlib.suppress(OSError):  # another process was quicker
            yield file, file.lstat()


def _touch(file: Path) -> None:
    """Note that it was used, for prune(); to the hour, so that a start writes nothing as a rule."""
    with contextlib.suppress(OSError):
        if time.time() - file.lstat().st_mtime > _TOUCH_AFTER:
            os.utime(file, follow_symlinks=False)


def _clear(directory: Path) -> None:
    """Remove what writers that were killed left behind: a living one holds a lock."""
    for file in directory.glob(f"{_NEW}*"):
        with contextlib.suppress(OSError):
            if time.time() - file.lstat().st_mtime <= _ABANDONED_AFTER:
                continue  # it may not have come to its lock yet
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.unlink()
            finally:
                os.close(descriptor)


def _write(file: Path, data: bytes, *, exclusive: bool = False) -> None:
    """Write, sync, rename (or link, if an existing file must stay)."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=_NEW)
    try:
        with open(descriptor, "wb") as stream:
            with contextlib.suppress(OSError):  # not every file system has locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
            if exclusive:
                with contextlib.suppress(FileExistsError):
                    os.link(name, file)
            else:
                os.replace(name, file)
                return
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    os.unlink(name)
