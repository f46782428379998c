"""Streams and futures of the async ABI. Each has two ends; either may be held by the host or by a guest.

A guest's read waits until the other end has data, a write until it has room. Nothing is buffered here: bytes are copied
from one guest memory to another, or to or from a bounded queue of the host.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from .errors import CanonicalTrap
from .flat_plan import CanonOptions
from .handles import AsyncEnd
from .lifting import load
from .lowering import Realloc, store_at
from .side import Side
from .types import AsyncValueType, ValueType
from .values import Value, mismatch
from .waitables import (
    FUTURE_READ,
    FUTURE_WRITE,
    STREAM_READ,
    STREAM_WRITE,
    Delivery,
    Waitable,
    checked_bytes,
)
from .weights import is_small

COMPLETED, DROPPED, CANCELLED = range(3)
"""Results of a copy."""
BLOCKED = 0xFFFFFFFF
MAX_ITEMS_AT_ONCE = (1 << 28) - 1
_LARGE = 1 << 20
"""Bytes that are moved at once between the host and a guest on the event loop."""
_AT_ONCE = 64 << 10
"""Bytes that are moved at once from the host to the host."""
_IDLE, _COPYING, _DONE = range(3)
_NUMBERS = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64")


class Source(Protocol):
    """What the host gives: bytes of a stream, or the value of a future."""

    def ready(self) -> bool:
        """Return whether there is something, or nothing more will come."""

    def take(self, most: int) -> bytes | None:
        """Return at most ``most`` bytes; None at the end of the stream. Call it only if ready()."""

    def items(self, most: int) -> list[Value] | None:
        """Do what take() does, for a stream of something else than bytes."""

    def value(self) -> Value:
        """Return what a future has become. Call it only if that is ready."""

    def drop(self) -> None:
        """Note that nobody takes any more of it."""


class Sink(Protocol):
    """What takes the bytes of a stream, or the value of a future, in the host."""

    def room(self) -> int:
        """Return how many bytes it takes now."""

    def put(self, data: bytes) -> None: ...

    def set(self, value: Value) -> None:
        """Take the value of a future."""

    def end(self) -> None:
        """Note that nothing more will come: the guest has dropped its end, or it is gone()."""

    def gone(self) -> bool:
        """Return whether it takes no more bytes, ever."""


@dataclass(slots=True)
class _Buffer:
    """A place in a guest's memory for ``count`` items, of which ``done`` were copied."""

    side: Side
    at: int
    count: int
    done: int = 0

    @property
    def left(self) -> int:
        return self.count - self.done


class Pipe:
    """What both ends share. ``source`` and ``sink`` are the host's, if it has that end."""

    def __init__(self, kind: AsyncValueType | None = None, source: Source | None = None) -> None:
        """Take a ``kind``; without one, it is the type under which a guest first gets it."""
        self._kind = kind
        self.source = source
        self.sink: Sink | None = None
        self.forwarded = False
        """Whether all was moved from the host to the host."""
        self.dropped = False
        """Whether one end was dropped."""
        self.is_with_host = False
        """Whether the host was given the end to read from, and may hand it on or read from it."""
        self.pending: End | None = None
        """The end that waits for the other one, where guests have both. After a partial copy it stays here until its
        guest is told: until then more can be copied.
        """

    @property
    def kind(self) -> AsyncValueType:
        assert self._kind is not None, "it was not given to a guest"
        return self._kind

    def readable_end(self, kind: AsyncValueType) -> End:
        """Return the end that a guest is given. Raises ValueMismatchError if it is of another type."""
        if self._kind is None:
            self._kind = kind
        if self._kind.text != kind.text:
            raise mismatch(kind, self)
        self.is_with_host = False
        return End(self, writes=False)

    @property
    def is_stream(self) -> bool:
        return self.kind.kind == "stream"

    def attach(self, sink: Sink) -> None:
        """Let the host read, from now on. What comes from the host too is moved by forward()."""
        self.sink = sink
        if self.dropped and self.source is None:
            sink.end()

    def forward(self, most: int) -> int:
        """Move up to so many bytes from the host to the host, or a value. Return how many there were.

        ``forwarded`` is set when there is nothing left to do.
        """
        source, sink, moved = self.source, self.sink, 0
        assert source is not None
        assert sink is not None
        while moved < most:
            if self.is_stream and sink.gone():  # asked first: the rest would be read for nobody
                source.drop()
                sink.end()
                self.forwarded = True
                break
            if not source.ready():
                break
            if not self.is_stream:
                sink.set(source.value())
                self.forwarded = True
                break
            room = min(sink.room(), _AT_ONCE)
            if room <= 0:
                break
            data = source.take(room)
            if data is None:
                sink.end()
                self.forwarded = True
                break
            sink.put(data)
            moved += len(data)
        return moved

    def close(self) -> None:
        """Note that the host has dropped its end."""
        self._drop()

    def _drop(self) -> None:
        self.dropped = True
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.notify(DROPPED)

    def dropped_by(self, end: End) -> None:
        """Note that the guest has dropped an end."""
        if not self.dropped and end.writes and self.sink is not None:
            self.sink.end()
        if not end.writes and self.source is not None:
            self.source.drop()
        self._drop()


class End(Waitable, AsyncEnd):
    """One end that the guest has."""

    def __init__(self, pipe: Pipe, *, writes: bool) -> None:
        super().__init__()
        self.pipe = pipe
        self.kind = pipe.kind
        self.writes = writes
        self._state = _IDLE
        self._buffer: _Buffer | None = None
        self._result: int | None = None
        """How the copy ended, until the guest is notified."""
        self._writer: End | None = None
        """The writing end, if the reader's guest must first allocate room: deliver() then copies the items."""

    @property
    def _code(self) -> int:
        if self.pipe.is_stream:
            return STREAM_WRITE if self.writes else STREAM_READ
        return FUTURE_WRITE if self.writes else FUTURE_READ

    def ready(self) -> bool:
        if self._result is not None or self._writer is not None:
            return True
        if self._state != _COPYING:
            return False
        pipe = self.pipe
        if self.writes:
            return pipe.sink is not None and (not pipe.is_stream or pipe.sink.room() > 0 or pipe.sink.gone())
        return pipe.source is not None and pipe.source.ready()

    def is_light(self) -> bool:
        """Return whether deliver() takes no time, once it is ready."""
        element, buffer = self.pipe.kind.element, self._current_buffer
        if self._writer is not None:
            return self._writer._is_small(min(self._writer._current_buffer.left, buffer.left))
        if self._result is not None or element is None:
            return True
        return buffer.count <= _LARGE if self.pipe.is_stream else not self.writes or self._is_small(1)

    def may_come(self) -> bool:
        pipe = self.pipe
        return self._state == _COPYING and (pipe.is_with_host or pipe.source is not None or pipe.sink is not None)

    def reads_little(self) -> bool:
        """Return whether it takes no time to read what another guest has begun to write."""
        other = self.pipe.pending
        return other is None or not other.writes or other._is_small(other._current_buffer.left)

    def _is_small(self, count: int) -> bool:
        """Return whether so many items that this end writes are copied in no time."""
        element, buffer = self.pipe.kind.element, self._current_buffer
        size = 0 if element is None else element.size
        return is_small(element, buffer.side.memory, buffer.at + buffer.done * size, count)

    def begin(self, side: Side, options: CanonOptions, at: int, count: int) -> None:
        """Begin to copy up to ``count`` items from or to ``at`` in the guest's memory. Traps if that is not allowed."""
        self.options = options
        if self._state != _IDLE:
            raise CanonicalTrap("a copy of this end is under way, or its other end is dropped")
        element = self.pipe.kind.element
        if count > MAX_ITEMS_AT_ONCE:
            raise CanonicalTrap(f"a copy of {count} items, the most is {MAX_ITEMS_AT_ONCE}")
        if element is not None and count:
            if at % element.alignment:
                raise CanonicalTrap(f"unaligned pointer: {at} for {element}")
            checked_bytes(side.memory, at, count * element.size)
        self._state = _COPYING
        self._buffer = _Buffer(side, at, count)
        pipe = self.pipe
        if pipe.dropped:
            self.notify(DROPPED)
        elif (pipe.sink if self.writes else pipe.source) is None:
            self._meet(pipe)

    def _meet(self, pipe: Pipe) -> None:
        """Copy to or from the other end of the guest, or wait for that."""
        other = pipe.pending
        if other is None:
            pipe.pending = self
            return
        self._check_instances(other)
        mine, theirs = self._current_buffer, other._current_buffer
        if theirs.left and mine.left:
            self._copy_with(other)
        elif theirs.left or (self.writes and not mine.count and not theirs.count):
            self.notify(COMPLETED)
        else:  # an end that copies nothing learns that the other is there
            other.notify(COMPLETED)
            pipe.pending = self

    @property
    def _current_buffer(self) -> _Buffer:
        assert self._buffer is not None, "no copy is under way"
        return self._buffer

    def _check_instances(self, other: End) -> None:
        """Trap if both ends are in one component instance, and the items are not just bytes."""
        element = self.pipe.kind.element
        if self._current_buffer.side.instance == other._current_buffer.side.instance and not _is_number(element):
            raise CanonicalTrap(f"a {self.pipe.kind} is read and written by one component instance")

    def _copy_with(self, other: End) -> None:
        """Copy now, or when the end that reads is notified, if its guest has to give room for what comes."""
        element = self.pipe.kind.element
        writer, reader = (self, other) if self.writes else (other, self)
        if element is not None and element.has_pointers:
            reader._writer = writer
            return
        for _ in _copied(writer._current_buffer, reader._current_buffer, element):
            raise AssertionError("items without pointers need no room")
        self._completed(other)

    def _completed(self, other: End) -> None:
        """Take note that this end, and the other, which had waited for it, have copied."""
        if not self.pipe.is_stream:
            self.pipe.pending = None
        other.notify(COMPLETED)
        self.notify(COMPLETED)

    def notify(self, result: int) -> None:
        """Record how the copy ended; deliver() tells the guest."""
        self._result = result

    def deliver(self) -> Delivery:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            yield from _copied(writer._current_buffer, self._current_buffer, self.pipe.kind.element)
            self._completed(writer)
        elif self._result is None:
            yield from self._copy_with_host()
        result, self._result = self._result, None
        assert result is not None
        if self.pipe.pending is self:
            self.pipe.pending = None
        buffer, self._buffer = self._current_buffer, None
        stream = self.pipe.is_stream
        self._state = _DONE if result == DROPPED or (result == COMPLETED and not stream) else _IDLE
        return self._code, self.index, result | buffer.done << 4 if stream else result

    def _copy_with_host(self) -> Delivery:
        pipe, buffer = self.pipe, self._current_buffer
        if not pipe.is_stream:
            yield from self._copy_value(pipe, buffer)
        elif self.writes:
            assert pipe.sink is not None
            self._write_to(pipe.sink, buffer)
        else:
            assert pipe.source is not None
            yield from self._read_from(pipe.source, buffer)
        return 0, 0, 0

    def _read_from(self, source: Source, buffer: _Buffer) -> Generator[Realloc, int, None]:
        element = self.pipe.kind.element
        found: Sequence[Value] | None
        if element is None or element.kind == "u8":
            found = data = source.take(buffer.count)
            if data:
                buffer.side.memory.write(buffer.at, data)
        else:
            found = source.items(buffer.count)
            for index, value in enumerate(found or ()):
                yield from store_at(buffer.side, buffer.at + index * element.size, value, element)
        buffer.done = len(found or ())
        self.notify(DROPPED if found is None else COMPLETED)

    def _write_to(self, sink: Sink, buffer: _Buffer) -> None:
        if sink.gone():
            self.notify(DROPPED)
            return
        buffer.done = min(buffer.count, sink.room())
        sink.put(buffer.side.memory.read(buffer.at, buffer.done))
        self.notify(COMPLETED)

    def _copy_value(self, pipe: Pipe, buffer: _Buffer) -> Delivery:
        element = pipe.kind.element
        if self.writes:
            assert pipe.sink is not None
            pipe.sink.set(None if element is None else load(buffer.side, buffer.at, element))
        else:
            assert pipe.source is not None
            value = pipe.source.value()
            if element is not None:
                yield from store_at(buffer.side, buffer.at, value, element)
        self.notify(COMPLETED)
        return 0, 0, 0

    def cancel(self) -> None:
        """Cancel the copy, unless it is over: then its result stands. Traps if no copy is under way."""
        if self._state != _COPYING:
            raise CanonicalTrap("there is no copy that could be cancelled")
        pending = self.pipe.pending
        if pending is not self and self.ready():
            return
        if self._writer is not None:
            return
        if pending is self:  # of which a part may have been copied
            self.pipe.pending = None
        elif pending is not None:
            pending._writer = None
        self.notify(CANCELLED)

    def drop(self) -> None:
        """Drop this end. Traps if a copy is under way, and for a future that was not written."""
        if self._state == _COPYING:
            raise CanonicalTrap("an end of a stream or future is dropped in the middle of a copy")
        if self.writes and not self.pipe.is_stream and self._state != _DONE:
            raise CanonicalTrap("a future is dropped that was not written")
        self.join(None)
        self.pipe.dropped_by(self)

    def give(self) -> Pipe:
        """Return what the guest hands on. Traps unless it is an end to read from, of which nothing is under way."""
        if self.writes or self._state != _IDLE:
            raise CanonicalTrap("only an end to read from can be given away, when nothing is under way")
        if self.set is not None:
            raise CanonicalTrap(f"a {self.kind.kind} is given away that is in a waitable set")
        return self.pipe


def _copied(source: _Buffer, target: _Buffer, element: ValueType | None) -> Generator[Realloc, int, None]:
    """Copy as many items as there are and as there is room for."""
    count = min(source.left, target.left)
    size = 0 if element is None else element.size
    here, there = source.at + source.done * size, target.at + target.done * size
    source.done += count
    target.done += count
    if element is None:
        return
    if _is_number(element):
        source.side.copy(count * size)
        target.side.memory.write(there, source.side.memory.read(here, count * size))
        return
    for index in range(count):
        value = load(source.side, here + index * size, element)
        yield from store_at(target.side, there + index * size, value, element)


def _is_number(element: ValueType | None) -> bool:
    """Return whether items are just bytes, or nothing."""
    return element is None or element.kind in _NUMBERS
