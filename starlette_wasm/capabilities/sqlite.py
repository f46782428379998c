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
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..exceptions import ConfigError
from ..sync.fair_queue import FairQueue, NoRoom
from .errors import CapabilityError, Code
from .tenant import MAX_WAITING, busy, tenant

T = TypeVar("T")

logger = logging.getLogger("starlette_wasm")

_BUSY_SECONDS = 2.0
_PAGE_BYTES = 4096
_LONGEST_SECONDS = 2.0
"""Seconds that a query may take: others wait for the thread."""
_LONGEST_VALUE = 8 << 20
"""Bytes of a value or row; larger ones, which others wrote, are refused before they are read."""
_STEPS = 10_000
"""Instructions of SQLite's machine between two looks at whether a query is to go on."""


class _Job(Generic[T]):
    """Work for the database's thread. ``until``, on time.monotonic(), is set when it begins."""

    def __init__(self, work: Callable[[], T]) -> None:
        self.result: Future[T] = Future()
        self.until = 0.0
        self._work = work
        self._given_up = False

    def run(self) -> None:
        if not self.result.set_running_or_notify_cancel():
            return
        self.until = time.monotonic() + _LONGEST_SECONDS
        try:
            value = self._work()
        except BaseException as error:
            self.result.set_exception(error)
        else:
            self.result.set_result(value)

    def give_up(self) -> None:
        """Note that nobody waits for it any more: it does not begin, or ends at its next step."""
        self._given_up = True

    def is_over(self) -> bool:
        return self._given_up or time.monotonic() > self.until


class Database:
    """One connection in a thread of its own, so that neither the loop nor another guest waits for a disk.

    Tenants take turns: the thread takes one job of each. A job that is cancelled before its turn never runs; one that
    runs is interrupted, and so is one of more than two seconds. Opened at first use, and anew in a forked child.
    """

    def __init__(
        self, path: Path | None, schema: str, *, max_bytes: int, durable: bool, key: str, what: str = "store"
    ) -> None:
        """Take ``durable``: whether a commit survives a loss of power, too. ``path`` None: in memory."""
        self._path = path
        self._schema = schema
        self._max_pages = max(max_bytes // _PAGE_BYTES, 16)
        self._durable = durable
        self._key = key
        self._what = what
        self._lock = threading.Lock()
        self._pid = 0
        self._executor: ThreadPoolExecutor | None = None
        self._waiting: FairQueue[_Job[Any]] = FairQueue(MAX_WAITING)
        self._running: _Job[Any] | None = None
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._inherited: list[sqlite3.Connection] = []

    async def open(self) -> None:
        """Raise ConfigError."""
        try:
            await self._submit(self._get)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"{self._path} cannot be used: {error}", key=self._key, hint=_remedy(error)) from error

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``job`` in a transaction that is rolled back if it raises. Raises CapabilityError."""
        return await self._guarded(lambda: self._transact(job))

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``job``, which is a single SELECT. Raises CapabilityError."""
        return await self._guarded(lambda: job(self._get()))

    def later(self, who: str, job: Callable[[sqlite3.Connection], object]) -> None:
        """Run ``job`` in a transaction, in the turn of ``who``, unless closed. Nobody waits; errors are logged."""
        task: _Job[object] = _Job(lambda: self._transact(job))
        task.result.add_done_callback(self._note)
        with self._lock, suppress(NoRoom):
            if self._executor is not None and self._pid == os.getpid():
                self._put(self._executor, who, task)

    async def close(self) -> None:
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            if self._pid == os.getpid():
                await asyncio.wrap_future(executor.submit(self._close))
            executor.shutdown(wait=False)

    def _transact(self, job: Callable[[sqlite3.Connection], T]) -> T:
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

    def _note(self, result: Future[object]) -> None:
        if not result.cancelled() and (error := result.exception()) is not None:
            logger.debug("%s cannot be cleaned up: %s", self._what, error)

    async def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return await self._submit(work)
        except NoRoom as error:
            raise busy(self._what) from error
        except (sqlite3.Error, OSError) as error:
            detail = f"{self._path}: {error}; {_remedy(error)}"
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                raise CapabilityError(Code.STORE_FULL, f"{self._what} is full", detail=detail) from error
            raise CapabilityError(Code.UNAVAILABLE, f"{self._what} is not available", detail=detail) from error

    async def _submit(self, work: Callable[[], T]) -> T:
        job = _Job(work)
        who = tenant.get()
        self._enqueue(who, job)
        try:
            return await asyncio.wrap_future(job.result)
        except asyncio.CancelledError:
            job.give_up()
            self._waiting.remove(who, job)
            raise

    def _enqueue(self, who: str, job: _Job[Any]) -> None:
        """Raise NoRoom."""
        with self._lock:
            executor = self._executor
            if executor is None or self._pid != os.getpid():
                executor = self._executor = self._begin()
            self._put(executor, who, job)

    def _put(self, executor: ThreadPoolExecutor, who: str, job: _Job[Any]) -> None:
        self._waiting.put(who, job)
        try:
            executor.submit(self._next)
        except BaseException:  # no thread can be started
            self._waiting.remove(who, job)
            raise

    def _begin(self) -> ThreadPoolExecutor:
        """Start a thread. What a fork inherited is left alone: closing it would touch the parent's locks."""
        if self._pid != os.getpid():
            if self._connection is not None:
                self._inherited.append(self._connection)
                self._connection = None
            self._waiting = FairQueue(MAX_WAITING)
        self._pid = os.getpid()
        return ThreadPoolExecutor(1, thread_name_prefix=f"starlette-wasm-{self._key}")

    def _next(self) -> None:
        self._running = self._waiting.take()
        if self._running is not None:  # else it was cancelled
            self._running.run()
            self._running = None

    def _is_over(self) -> bool:
        """Return whether the query is to be interrupted; SQLite asks now and then."""
        return self._running is not None and self._running.is_over()

    def _get(self) -> sqlite3.Connection:
        if self._connection is not None and self._is_gone():
            logger.warning("%s was deleted or replaced: the file that is there now is used from here on", self._path)
            _abandon(self._connection)
            self._connection = None
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _is_gone(self) -> bool:
        """Return whether the path leads to another file than the open one, or to none."""
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
            connection.executescript(f"BEGIN IMMEDIATE;{self._schema};COMMIT;")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
            connection.set_progress_handler(self._is_over, _STEPS)
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
    """Leave it open: on close SQLite would delete the log beside the path, which by now belongs to the new file."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _remedy(error: sqlite3.Error | OSError) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = getattr(error, "errno", None)
    if code == sqlite3.SQLITE_INTERRUPT:
        return "a query took more than 2 s: see what else uses the file or its disk, and whether its tables are ours"
    if code == sqlite3.SQLITE_TOOBIG:
        return "delete what others wrote: a value is larger than any of ours"
    if code == sqlite3.SQLITE_FULL or number in (errno.ENOSPC, errno.EDQUOT):
        return "free space on its disk, or in the file, whose size has a bound"
    if code == sqlite3.SQLITE_READONLY or number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "make the file and its folder writable for this user, or name a file elsewhere"
    if code == sqlite3.SQLITE_CORRUPT or code == sqlite3.SQLITE_NOTADB:
        return "move it away, or restore it from a backup"
    return "give a file in a folder that exists"


def _into_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. The busy timeout does not help if several processes do this to a new file."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
