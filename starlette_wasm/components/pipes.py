"""Streams and futures of the async ABI: two ends, of which the host or the guest has each.

A copy of the guest's waits until the other end has something, or takes something. Nothing is kept in the host: bytes go
from one memory to the other, or to and from a queue of the host with its own bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .errors import CanonicalTrap
from .flat_plan import CanonOptions
from .handles import AsyncEnd
from .lifting import load
from .lowering import store_at
from .side import Side
from .types import AsyncValueType
from .values import Value, mismatch
from .waitables import (
    FUTURE_READ,
    FUTURE_WRITE,
    STREAM_READ,
    STREAM_WRITE,
    Delivery,
    Event,
    Waitable,
    checked_bytes,
)

COMPLETED, DROPPED, CANCELLED = range(3)
"""Results of a copy."""
BLOCKED = 0xFFFFFFFF
MAX_ITEMS_AT_ONCE = (1 << 28) - 1
_IDLE, _COPYING, _DONE = range(3)


class Source(Protocol):
    """What the host gives: bytes of a stream, or the value of a future."""

    def ready(self) -> bool:
        """Whether there is something, or nothing more will come."""

    def take(self, most: int) -> bytes | None:
        """Up to so many bytes, none for 0; None at the end. Only if it is ready."""

    def value(self) -> Value:
        """What a future has become. Only if it is ready."""


class Sink(Protocol):
    """What takes the bytes of a stream, or the value of a future, in the host."""

    def room(self) -> int:
        """How many bytes it takes now."""

    def put(self, data: bytes) -> None: ...

    def set(self, value: Value) -> None:
        """Take the value of a future."""

    def end(self) -> None:
        """The guest has dropped its end: nothing more will come."""


@dataclass(slots=True)
class _Buffer:
    side: Side
    at: int
    count: int


class Pipe:
    """What both ends share. ``source`` and ``sink`` are the host's, if it has that end."""

    def __init__(self, kind: AsyncValueType | None = None, source: Source | None = None) -> None:
        """Without a ``kind``, of that under which it is given to a guest."""
        self._kind = kind
        self.source = source
        self.sink: Sink | None = None
        self.dropped = False
        """Whether one end was dropped."""
        self.pending: End | None = None
        """The end of the guest that copies, and waits for its other end."""

    @property
    def kind(self) -> AsyncValueType:
        assert self._kind is not None, "it was not given to a guest"
        return self._kind

    def readable_end(self, kind: AsyncValueType) -> End:
        """The end that a guest is given. Raises ValueMismatchError if it is of another type."""
        if self._kind is None:
            self._kind = kind
        if self._kind.text != kind.text:
            raise mismatch(kind, self)
        return End(self, writes=False)

    @property
    def is_stream(self) -> bool:
        return self.kind.kind == "stream"

    def attach(self, sink: Sink) -> None:
        """Let the host read, from now on."""
        self.sink = sink
        if self.dropped:
            sink.end()

    def close(self) -> None:
        """The host has dropped its end."""
        self._drop()

    def _drop(self) -> None:
        self.dropped = True
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.complete(DROPPED)

    def dropped_by(self, end: End) -> None:
        """The guest has dropped an end."""
        if not self.dropped and end.writes and self.sink is not None:
            self.sink.end()
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
        self._event: Event | None = None

    @property
    def _code(self) -> int:
        if self.pipe.is_stream:
            return STREAM_WRITE if self.writes else STREAM_READ
        return FUTURE_WRITE if self.writes else FUTURE_READ

    def ready(self) -> bool:
        if self._event is not None:
            return True
        if self._state != _COPYING:
            return False
        pipe = self.pipe
        if self.writes:
            return pipe.sink is not None and (not pipe.is_stream or pipe.sink.room() > 0)
        return pipe.source is not None and pipe.source.ready()

    @property
    def needs_room(self) -> bool:
        element = self.kind.element
        reads_value = not self.writes and not self.pipe.is_stream and self._event is None
        return reads_value and element is not None and element.has_pointers

    def begin(self, side: Side, options: CanonOptions, at: int, count: int) -> None:
        """Copy so many items at a place of the guest's memory. Traps if it may not."""
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
            self.complete(DROPPED)
        elif (pipe.sink if self.writes else pipe.source) is None:
            self._meet(pipe)

    def _meet(self, pipe: Pipe) -> None:
        """Copy to or from the other end of the guest, or wait for that."""
        other = pipe.pending
        if other is None:
            pipe.pending = self
            return
        mine, theirs = self._buffer, other._buffer
        assert mine is not None
        assert theirs is not None
        element = pipe.kind.element
        if element is not None and not _is_number(element.kind):
            raise CanonicalTrap(f"a {pipe.kind} is read and written by one component instance")
        if not theirs.count and not (self.writes and not mine.count):
            pipe.pending = self  # an end that copies nothing is told that the other is there
            other.complete(COMPLETED)
            return
        pipe.pending = None
        count = min(mine.count, theirs.count)
        source, target = (mine, theirs) if self.writes else (theirs, mine)
        if element is not None and count:
            source.side.copy(count * element.size)
            target.side.memory.write(target.at, source.side.memory.read(source.at, count * element.size))
        other.complete(COMPLETED, count)
        self.complete(COMPLETED, count)

    def complete(self, result: int, count: int = 0) -> None:
        """The copy is over."""
        self._buffer = None
        stream = self.pipe.is_stream
        self._state = _DONE if result == DROPPED or (result == COMPLETED and not stream) else _IDLE
        self._event = self._code, self.index, result | count << 4 if stream else result

    def deliver(self) -> Delivery:
        if self._event is None:
            yield from self._copy_with_host()
        event, self._event = self._event, None
        assert event is not None
        return event

    def _copy_with_host(self) -> Delivery:
        pipe, buffer = self.pipe, self._buffer
        assert buffer is not None
        if not pipe.is_stream:
            yield from self._copy_value(pipe, buffer)
        elif self.writes:
            assert pipe.sink is not None
            count = min(buffer.count, pipe.sink.room())
            pipe.sink.put(buffer.side.memory.read(buffer.at, count))
            self.complete(COMPLETED, count)
        else:
            assert pipe.source is not None
            data = pipe.source.take(buffer.count)
            if data:
                buffer.side.memory.write(buffer.at, data)
            self.complete(DROPPED if data is None else COMPLETED, len(data or b""))
        return 0, 0, 0

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
        self.complete(COMPLETED)
        return 0, 0, 0

    def cancel(self) -> None:
        """End the copy. Traps if there is none; if it is over already, that is its event."""
        if self._state != _COPYING and self._event is None:
            raise CanonicalTrap("there is no copy that could be cancelled")
        if not self.ready():
            if self.pipe.pending is self:
                self.pipe.pending = None
            self.complete(CANCELLED)

    def drop(self) -> None:
        """Traps if a copy is under way, and for a future that was not written."""
        if self._state == _COPYING:
            raise CanonicalTrap("an end of a stream or future is dropped in the middle of a copy")
        if self.writes and not self.pipe.is_stream and self._state != _DONE:
            raise CanonicalTrap("a future is dropped that was not written")
        self.join(None)
        self.pipe.dropped_by(self)

    def give(self) -> Pipe:
        """What the guest hands on. Traps unless it is an end to read from, of which nothing is under way."""
        if self.writes or self._state != _IDLE or self._event is not None:
            raise CanonicalTrap("only an end to read from can be given away, when nothing is under way")
        self.join(None)
        return self.pipe


def _is_number(kind: str) -> bool:
    return kind in ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64")
