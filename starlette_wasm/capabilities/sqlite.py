"""A SQLite file that several event loops, threads and processes use."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ..exceptions import ConfigError
from .errors import CapabilityError, Code

T = TypeVar("T")

logger = logging.getLogger("starlette_wasm")

_BUSY_SECONDS = 2.0
_PAGE_BYTES = 4096


class Database:
    """One connection in a thread of its own, so that neither the loop nor another guest waits for a disk.

    Opened at first use, and anew in a forked child. A job that is cancelled before its turn never runs.
    """

    def __init__(
        self, path: Path | None, schema: str, *, max_bytes: int, durable: bool, key: str, what: str = "store"
    ) -> None:
        """``durable``: a commit survives a loss of power, too. ``path`` None: in memory."""
        self._path = path
        self._schema = schema
        self._max_pages = max(max_bytes // _PAGE_BYTES, 16)
        self._durable = durable
        self._key = key
        self._what = what
        self._lock = threading.Lock()
        self._pid = 0
        self._executor: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._inherited: list[sqlite3.Connection] = []

    async def open(self) -> None:
        """Raises ConfigError."""
        try:
            await self._submit(self._get)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"{self._path} cannot be used: {error}", key=self._key, mend=_remedy(error)) from error

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """``job`` in a transaction that is rolled back where it raises. Raises CapabilityError."""

        def work() -> T:
            connection = self._get()
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = job(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return await self._guarded(work)

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """``job``, which is a single SELECT. Raises CapabilityError."""
        return await self._guarded(lambda: job(self._get()))

    async def close(self) -> None:
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            if self._pid == os.getpid():
                await asyncio.wrap_future(executor.submit(self._close))
            executor.shutdown(wait=False)

    async def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return await self._submit(work)
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                raise CapabilityError(Code.STORE_FULL, f"{self._what} is full") from error
            detail = f"{error}; {_remedy(error)}"
            raise CapabilityError(Code.UNAVAILABLE, f"{self._what} is not available", detail=detail) from error

    async def _submit(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._executor is None or self._pid != os.getpid():
                # What a fork inherited is left alone: closing it would touch the parent's locks.
                if self._connection is not None and self._pid != os.getpid():
                    self._inherited.append(self._connection)
                    self._connection = None
                self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"starlette-wasm-{self._key}")
                self._pid = os.getpid()
            future = self._executor.submit(work)
        return await asyncio.wrap_future(future)

    def _get(self) -> sqlite3.Connection:
        if self._connection is not None and self._is_gone():
            logger.warning("%s was deleted or replaced: the file that is there now is used from here on", self._path)
            _abandon(self._connection)
            self._connection = None
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _is_gone(self) -> bool:
        """Say whether the path leads to another file than the open one, or to none."""
        if self._path is None:
            return False
        try:
            return _identity(self._path) != self._file
        except FileNotFoundError:
            return True

    def _connect(self) -> sqlite3.Connection:
        if self._path is not None:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            _into_wal(connection)
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
            connection.execute(f"PRAGMA max_page_count = {self._max_pages}")
            connection.executescript(self._schema)
            if self._path is not None:
                self._file = _identity(self._path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _abandon(connection: sqlite3.Connection) -> None:
    """Never close it: SQLite would delete the log beside the path, which by now belongs to the new file."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _remedy(error: sqlite3.Error | OSError) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = getattr(error, "errno", None)
    if code == sqlite3.SQLITE_FULL or number in (errno.ENOSPC, errno.EDQUOT):
        return "free space on its disk"
    if code == sqlite3.SQLITE_READONLY or number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "make the file and its folder writable for this user, or name a file elsewhere"
    if code == sqlite3.SQLITE_CORRUPT or code == sqlite3.SQLITE_NOTADB:
        return "move it away, or restore it from a backup"
    return "give a file in a folder that exists"


def _into_wal(connection: sqlite3.Connection) -> None:
    """Several processes may do this to a new file at once, and the busy timeout does not cover it."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
