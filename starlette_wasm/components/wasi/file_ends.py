"""The host's ends of streams of files and directories, of WASI 0.3."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator

from ...sync.threads import FairThreads
from ..files.descriptor import Descriptor
from ..files.listing import Listing
from ..files.place import error
from ..values import Err, Ok, Value
from .ends import FutureValue, Sink, Source

_ON_LOOP = 64 << 10
"""Bytes that are read at once for what the event loop moves."""
_ENTRIES_AT_ONCE = 64
_MOST_READS = 2
"""Reads of one invocation that are under way: it may stream the same file a thousand times."""
_threads = FairThreads("starlette-wasm-files", most=4, each=1)
Failed = Callable[[OSError], Err]
"""Makes the error of an interface of one of the system."""


class FileSource(Source):
    """Gives the bytes of a file from a position on. ``done`` becomes how that has ended."""

    def __init__(self, descriptor: Descriptor, offset: int, failed: Failed, notify: Callable[[], None]) -> None:
        """Hold the file; ``notify`` is called on the event loop when there is what was not there when it asked."""
        descriptor.hold()
        self.done = FutureValue()
        self._descriptor = descriptor
        self._offset = offset
        self._failed = failed
        self._notify = notify
        self._ahead: bytes | OSError | None = None
        self._reading: asyncio.Task[None] | None = None
        if descriptor.is_directory:
            self._end(failed(error(errno.EISDIR)))

    def ready(self) -> bool:
        """Return whether there is something: always in the guest's thread. The event loop waits for no disk."""
        if self._ahead is not None or self.done.ready():
            return True
        if self._reading is not None:
            return False
        if asyncio._get_running_loop() is None:
            return True
        if self._descriptor.budget.reading < _MOST_READS:  # else it is asked again when one of them is done
            self._descriptor.budget.reading += 1
            self._reading = asyncio.create_task(self._read_ahead())
        return False

    async def _read_ahead(self) -> None:
        budget = self._descriptor.budget
        try:
            read = self._descriptor.reader(_ON_LOOP, self._offset)
            try:
                self._ahead = await _threads.run(budget.tenant, read)
            except RuntimeError:  # no thread could be started
                self._ahead = read()
            except asyncio.CancelledError:
                read.close()
                raise
        except OSError as failure:
            self._ahead = failure
        except MemoryError:
            self._ahead = error(errno.ENOMEM)
        finally:
            budget.reading -= 1
        self._reading = None
        self._notify()

    def take(self, most: int) -> bytes | None:
        found, self._ahead = self._ahead, None
        if self.done.ready():
            return None
        try:
            if isinstance(found, OSError):
                raise found
            data = self._descriptor.read(most, self._offset) if found is None else found
        except OSError as failure:
            self._end(self._failed(failure))
            return None
        if len(data) > most:
            data, self._ahead = data[:most], data[most:]
        self._offset += len(data)
        if not data and most:
            self._end(Ok())
            return None
        return data

    def drop(self) -> None:
        self._end(Ok())

    def _end(self, how: Value) -> None:
        if not self.done.ready():
            self.done.set(how)
            self._descriptor.release()


class FileSink(Sink):
    """Writes what comes to a file, from a position on, or at its end if there is none."""

    def __init__(self, descriptor: Descriptor, offset: int | None, failed: Failed) -> None:
        descriptor.hold()
        self.done = FutureValue()
        self._descriptor = descriptor
        self._offset = offset
        self._failed = failed
        try:
            descriptor.as_file().may_write()
        except OSError as failure:
            self._end(failed(failure))

    def put(self, data: bytes) -> None:
        left = data
        while left and not self.done.ready():
            try:
                left = left[self._write(left) :]
            except OSError as failure:
                self._end(self._failed(failure))

    def _write(self, data: bytes) -> int:
        if self._offset is None:
            return self._descriptor.append(data)
        written = self._descriptor.write(data, self._offset)
        self._offset += written
        return written

    def end(self) -> None:
        self._end(Ok())

    def gone(self) -> bool:
        return self.done.ready()

    def _end(self, how: Value) -> None:
        if not self.done.ready():
            self.done.set(how)
            self._descriptor.release()


class EntrySource(Source):
    """Gives the entries of a directory."""

    def __init__(self, descriptor: Descriptor, entry_of: Callable[[Listing], Value], failed: Failed) -> None:
        """Open the directory; ``entry_of`` gives the next one, None at the end, and may raise OSError."""
        self.done = FutureValue()
        self._failed = failed
        self._listing: Listing | None = None
        try:
            self._listing = Listing(descriptor)
        except OSError as failure:
            self.done.set(failed(failure))
        self._entries = self._each(entry_of)

    def _each(self, entry_of: Callable[[Listing], Value]) -> Iterator[Value]:
        assert self._listing is not None, "there is nothing to take else"
        while True:
            entry = entry_of(self._listing)
            if entry is None:
                return
            yield entry

    def ready(self) -> bool:
        return True

    def items(self, most: int) -> list[Value] | None:
        found: list[Value] = []
        while not self.done.ready() and len(found) < min(most, _ENTRIES_AT_ONCE):
            try:
                found.append(next(self._entries))
            except StopIteration:
                self._end(Ok())
            except OSError as failure:
                self._end(self._failed(failure))
        return found if found or not self.done.ready() else None

    def drop(self) -> None:
        self._end(Ok())

    def _end(self, how: Value) -> None:
        if not self.done.ready():
            self.done.set(how)
        if self._listing is not None:
            self._listing.close()
            self._listing = None
