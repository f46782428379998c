"""``wasi:io``: streams, polls and errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from ..calls import Await
from ..errors import CanonicalTrap
from ..values import Err, Ok, Value
from .host import WasiHost
from .offers import offer

READ_AT_ONCE = 1 << 20
_WRITE_AT_ONCE = 1 << 20
_STREAMS, _POLL = "wasi:io/streams", "wasi:io/poll"
_ERROR = "variant {last-operation-failed(error), closed}"
CLOSED = Err(("closed", None))
_MOST_POLLED = 1000
_SPLICE_ON_LOOP = 64 << 10


class InputStream:
    """A stream whose bytes are all there already."""

    waits_for_disk = False

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self._at = 0

    def read(self, most: int) -> Value:
        """Return Ok with what is there, which may be nothing yet; or an error."""
        if self._at >= len(self._data):
            return CLOSED
        taken = self._data[self._at : self._at + min(most, READ_AT_ONCE)]
        self._at += len(taken)
        return Ok(taken)

    def skip(self, count: int) -> None:
        """Take note that the guest has read so many bytes elsewhere."""
        self._at += count

    def ready(self) -> bool:
        """Return whether there is something to read: bytes, the end, or an error."""
        return True


def stdin_of(host: WasiHost) -> InputStream:
    """Return the one stream of stdin: whoever asks for it again goes on where it is."""
    if not isinstance(host.stdin_stream, InputStream):
        host.stdin_stream = InputStream(host.stdin)
    return host.stdin_stream


class OutputStream:
    """Hands on what is written to it."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self.closed = False

    def write(self, data: bytes) -> Value:
        if self.closed:
            return CLOSED
        self._sink(data)
        return Ok()

    def room(self) -> int:
        """Return how many bytes write() takes now."""
        return _WRITE_AT_ONCE

    def ready(self) -> bool:
        """Return whether check-write has more to permit than nothing, or an error."""
        return self.closed or self.room() > 0

    def flushed(self) -> bool:
        """Return whether all that was written has been handed on."""
        return True


class Waitable(Protocol):
    def ready(self) -> bool: ...


class Pollable:
    """Ready when ``of`` is, and a time on time.monotonic_ns() has come; at once without either."""

    def __init__(self, of: Waitable | None = None, at_ns: int | None = None) -> None:
        self._of = of
        self._at_ns = at_ns

    def ready(self) -> bool:
        return not self.left() and (self._of is None or self._of.ready())

    def left(self) -> float:
        """Return how many seconds are left until its time has come."""
        return 0.0 if self._at_ns is None else max(self._at_ns - time.monotonic_ns(), 0) / 1e9


@offer(
    _STREAMS, "[method]input-stream.read", f"func(self: borrow<input-stream>, len: u64) -> result<list<u8>, {_ERROR}>"
)
def read(_: WasiHost, stream: InputStream, most: int) -> Value:
    return stream.read(most)


@offer(
    _STREAMS,
    "[method]input-stream.blocking-read",
    f"func(self: borrow<input-stream>, len: u64) -> result<list<u8>, {_ERROR}>",
)
def blocking_read(host: WasiHost, stream: InputStream, most: int) -> Value | Await:
    return _once(host, stream.ready, lambda: stream.read(most))


@offer(_STREAMS, "[method]input-stream.skip", f"func(self: borrow<input-stream>, len: u64) -> result<u64, {_ERROR}>")
def skip(_: WasiHost, stream: InputStream, most: int) -> Value:
    found = stream.read(most)
    return Ok(len(found.value)) if isinstance(found, Ok) else found


@offer(
    _STREAMS,
    "[method]input-stream.blocking-skip",
    f"func(self: borrow<input-stream>, len: u64) -> result<u64, {_ERROR}>",
)
def blocking_skip(host: WasiHost, stream: InputStream, most: int) -> Value | Await:
    return _once(host, stream.ready, lambda: skip(host, stream, most))


def _once(host: WasiHost, ready: Callable[[], bool], then: Callable[[], Value]) -> Value | Await:
    """Return what ``then`` gives, as soon as it is ready."""
    return then() if ready() else Await(lambda: _wait_and(host, ready, then))


async def _wait_and(host: WasiHost, ready: Callable[[], bool], then: Callable[[], Value]) -> Value:
    await host.wakeup.until(ready)
    return then()


@offer(_STREAMS, "[method]input-stream.subscribe", "func(self: borrow<input-stream>) -> pollable")
@offer(_STREAMS, "[method]output-stream.subscribe", "func(self: borrow<output-stream>) -> pollable")
def subscribe(_: WasiHost, stream: InputStream | OutputStream) -> Value:
    return Pollable(stream)


@offer(_STREAMS, "[method]output-stream.check-write", f"func(self: borrow<output-stream>) -> result<u64, {_ERROR}>")
def check_write(_: WasiHost, stream: OutputStream) -> Value:
    return CLOSED if stream.closed else Ok(stream.room())


@offer(
    _STREAMS,
    "[method]output-stream.write",
    f"func(self: borrow<output-stream>, contents: list<u8>) -> result<_, {_ERROR}>",
)
def write(_: WasiHost, stream: OutputStream, data: bytes) -> Value:
    return stream.write(data)


@offer(
    _STREAMS,
    "[method]output-stream.blocking-write-and-flush",
    f"func(self: borrow<output-stream>, contents: list<u8>) -> result<_, {_ERROR}>",
)
def write_and_flush(host: WasiHost, stream: OutputStream, data: bytes) -> Value | Await:
    if stream.closed or stream.room() >= len(data):
        return _flushed(host, stream, stream.write(data))
    return Await(lambda: _write_all(host, stream, data))


def _flushed(host: WasiHost, stream: OutputStream, written: Value) -> Value | Await:
    """Return what writing gave, as soon as all is handed on."""
    return _once(host, lambda: stream.closed or stream.flushed(), lambda: written)


async def _write_all(host: WasiHost, stream: OutputStream, data: bytes) -> Value:
    """Write as there is room."""
    written: Value = Ok()
    while data and isinstance(written, Ok):
        await host.wakeup.until(stream.ready)
        room = 0 if stream.closed else stream.room()
        written = stream.write(data[:room])
        data = data[room:]
    await host.wakeup.until(lambda: stream.closed or stream.flushed())
    return written


@offer(_STREAMS, "[method]output-stream.flush", f"func(self: borrow<output-stream>) -> result<_, {_ERROR}>")
def flush(_: WasiHost, stream: OutputStream) -> Value:
    return CLOSED if stream.closed else Ok()


@offer(_STREAMS, "[method]output-stream.blocking-flush", f"func(self: borrow<output-stream>) -> result<_, {_ERROR}>")
def blocking_flush(host: WasiHost, stream: OutputStream) -> Value | Await:
    return _flushed(host, stream, flush(host, stream))


@offer(
    _STREAMS,
    "[method]output-stream.write-zeroes",
    f"func(self: borrow<output-stream>, len: u64) -> result<_, {_ERROR}>",
)
def write_zeroes(_: WasiHost, stream: OutputStream, count: int) -> Value:
    return stream.write(_zeroes(count))


@offer(
    _STREAMS,
    "[method]output-stream.blocking-write-zeroes-and-flush",
    f"func(self: borrow<output-stream>, len: u64) -> result<_, {_ERROR}>",
)
def write_zeroes_and_flush(host: WasiHost, stream: OutputStream, count: int) -> Value | Await:
    return write_and_flush(host, stream, _zeroes(count))


def _zeroes(count: int) -> bytes:
    if count > _WRITE_AT_ONCE:
        raise CanonicalTrap("more zeroes are written than check-write permits")
    return bytes(count)


@offer(
    _STREAMS,
    "[method]output-stream.splice",
    f"func(self: borrow<output-stream>, src: borrow<input-stream>, len: u64) -> result<u64, {_ERROR}>",
)
def splice(_: WasiHost, stream: OutputStream, source: InputStream, most: int) -> Value:
    if stream.closed:
        return CLOSED
    found = source.read(min(most, stream.room()))
    if isinstance(found, Err):
        return found
    written = stream.write(found.value)
    return written if isinstance(written, Err) else Ok(len(found.value))


@offer(
    _STREAMS,
    "[method]output-stream.blocking-splice",
    f"func(self: borrow<output-stream>, src: borrow<input-stream>, len: u64) -> result<u64, {_ERROR}>",
)
def blocking_splice(host: WasiHost, stream: OutputStream, source: InputStream, most: int) -> Value | Await:
    def both_ready() -> bool:
        return stream.ready() and (stream.closed or source.ready())

    if both_ready():
        return splice(host, stream, source, most)
    most = min(most, _SPLICE_ON_LOOP)
    if source.waits_for_disk:  # that is not for the event loop, which goes on with this
        found = source.read(most)
        return found if isinstance(found, Err) else Await(lambda: _write_spliced(host, stream, found.value))
    return Await(lambda: _wait_and(host, both_ready, lambda: splice(host, stream, source, most)))


async def _write_spliced(host: WasiHost, stream: OutputStream, data: bytes) -> Value:
    written = await _write_all(host, stream, data)
    return written if isinstance(written, Err) else Ok(len(data))


@offer("wasi:io/error", "[method]error.to-debug-string", "func(self: borrow<error>) -> string")
def to_debug_string(_: WasiHost, error: object) -> Value:
    return str(error)


@offer(_POLL, "[method]pollable.ready", "func(self: borrow<pollable>) -> bool")
def ready(_: WasiHost, pollable: Pollable) -> Value:
    return pollable.ready()


@offer(_POLL, "[method]pollable.block", "func(self: borrow<pollable>)")
def block(host: WasiHost, pollable: Pollable) -> Value | Await:
    if pollable.ready():
        return None
    return Await(lambda: host.wakeup.until(pollable.ready, lambda: pollable.left() or None))


@offer(_POLL, "poll", "func(in: list<borrow<pollable>>) -> list<u32>")
def poll(host: WasiHost, pollables: list[Pollable]) -> Value | Await:
    if not 0 < len(pollables) <= _MOST_POLLED:
        raise CanonicalTrap(f"{len(pollables)} pollables are polled; one at least, and {_MOST_POLLED} at most")
    return _ready_of(pollables) or Await(lambda: _wait_for(host, pollables))


def _ready_of(pollables: list[Pollable]) -> list[int]:
    return [index for index, each in enumerate(pollables) if each.ready()]


async def _wait_for(host: WasiHost, pollables: list[Pollable]) -> list[int]:
    def next_time() -> float | None:
        return min((left for each in pollables if (left := each.left())), default=None)

    await host.wakeup.until(lambda: any(each.ready() for each in pollables), next_time)
    return _ready_of(pollables)
