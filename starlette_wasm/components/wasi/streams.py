"""``wasi:io``: streams, polls and errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..calls import Await
from ..errors import CanonicalTrap
from ..values import Err, Ok, Value
from .host import WasiHost
from .offers import offer

_READ_AT_ONCE = 1 << 20
_WRITE_AT_ONCE = 1 << 20
_STREAMS, _POLL = "wasi:io/streams", "wasi:io/poll"
_ERROR = "variant {last-operation-failed(error), closed}"
_CLOSED = Err(("closed", None))
_MOST_POLLED = 1000


class InputStream:
    """Bytes that are all there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, most: int) -> Value:
        if self._at >= len(self._data):
            return _CLOSED
        taken = self._data[self._at : self._at + min(most, _READ_AT_ONCE)]
        self._at += len(taken)
        return Ok(taken)


def stdin_of(host: WasiHost) -> InputStream:
    """The one stream of stdin: whoever asks for it again goes on where it is."""
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
            return _CLOSED
        self._sink(data)
        return Ok()


class Pollable:
    """Ready at once, or at a time of time.monotonic_ns()."""

    def __init__(self, at_ns: int | None = None) -> None:
        self.at_ns = at_ns

    def left(self) -> float:
        """Seconds until it is ready."""
        return 0.0 if self.at_ns is None else max(self.at_ns - time.monotonic_ns(), 0) / 1e9


@offer(
    _STREAMS, "[method]input-stream.read", f"func(self: borrow<input-stream>, len: u64) -> result<list<u8>, {_ERROR}>"
)
@offer(
    _STREAMS,
    "[method]input-stream.blocking-read",
    f"func(self: borrow<input-stream>, len: u64) -> result<list<u8>, {_ERROR}>",
)
def read(_: WasiHost, stream: InputStream, most: int) -> Value:
    return stream.read(most)


@offer(_STREAMS, "[method]input-stream.skip", f"func(self: borrow<input-stream>, len: u64) -> result<u64, {_ERROR}>")
@offer(
    _STREAMS,
    "[method]input-stream.blocking-skip",
    f"func(self: borrow<input-stream>, len: u64) -> result<u64, {_ERROR}>",
)
def skip(_: WasiHost, stream: InputStream, most: int) -> Value:
    found = stream.read(most)
    return Ok(len(found.value)) if isinstance(found, Ok) else found


@offer(_STREAMS, "[method]input-stream.subscribe", "func(self: borrow<input-stream>) -> pollable")
@offer(_STREAMS, "[method]output-stream.subscribe", "func(self: borrow<output-stream>) -> pollable")
def subscribe(_: WasiHost, stream: object) -> Value:
    return Pollable()


@offer(_STREAMS, "[method]output-stream.check-write", f"func(self: borrow<output-stream>) -> result<u64, {_ERROR}>")
def check_write(_: WasiHost, stream: OutputStream) -> Value:
    return _CLOSED if stream.closed else Ok(_WRITE_AT_ONCE)


@offer(
    _STREAMS,
    "[method]output-stream.write",
    f"func(self: borrow<output-stream>, contents: list<u8>) -> result<_, {_ERROR}>",
)
@offer(
    _STREAMS,
    "[method]output-stream.blocking-write-and-flush",
    f"func(self: borrow<output-stream>, contents: list<u8>) -> result<_, {_ERROR}>",
)
def write(_: WasiHost, stream: OutputStream, data: bytes) -> Value:
    return stream.write(data)


@offer(_STREAMS, "[method]output-stream.flush", f"func(self: borrow<output-stream>) -> result<_, {_ERROR}>")
@offer(_STREAMS, "[method]output-stream.blocking-flush", f"func(self: borrow<output-stream>) -> result<_, {_ERROR}>")
def flush(_: WasiHost, stream: OutputStream) -> Value:
    return _CLOSED if stream.closed else Ok()


@offer(
    _STREAMS,
    "[method]output-stream.write-zeroes",
    f"func(self: borrow<output-stream>, len: u64) -> result<_, {_ERROR}>",
)
@offer(
    _STREAMS,
    "[method]output-stream.blocking-write-zeroes-and-flush",
    f"func(self: borrow<output-stream>, len: u64) -> result<_, {_ERROR}>",
)
def write_zeroes(_: WasiHost, stream: OutputStream, count: int) -> Value:
    if count > _WRITE_AT_ONCE:
        raise CanonicalTrap("more zeroes are written than check-write permits")
    return stream.write(bytes(count))


@offer(
    _STREAMS,
    "[method]output-stream.splice",
    f"func(self: borrow<output-stream>, src: borrow<input-stream>, len: u64) -> result<u64, {_ERROR}>",
)
@offer(
    _STREAMS,
    "[method]output-stream.blocking-splice",
    f"func(self: borrow<output-stream>, src: borrow<input-stream>, len: u64) -> result<u64, {_ERROR}>",
)
def splice(_: WasiHost, stream: OutputStream, source: InputStream, most: int) -> Value:
    found = source.read(most)
    if isinstance(found, Err):
        return found
    written = stream.write(found.value)
    return written if isinstance(written, Err) else Ok(len(found.value))


@offer("wasi:io/error", "[method]error.to-debug-string", "func(self: borrow<error>) -> string")
def to_debug_string(_: WasiHost, error: object) -> Value:
    return str(error)


@offer(_POLL, "[method]pollable.ready", "func(self: borrow<pollable>) -> bool")
def ready(_: WasiHost, pollable: Pollable) -> Value:
    return not pollable.left()


@offer(_POLL, "[method]pollable.block", "func(self: borrow<pollable>)")
def block(_: WasiHost, pollable: Pollable) -> Value | Await:
    return Await(asyncio.sleep(pollable.left())) if pollable.left() else None


@offer(_POLL, "poll", "func(in: list<borrow<pollable>>) -> list<u32>")
def poll(_: WasiHost, pollables: list[Pollable]) -> Value | Await:
    if not 0 < len(pollables) <= _MOST_POLLED:
        raise CanonicalTrap(f"{len(pollables)} pollables are polled; one at least, and {_MOST_POLLED} at most")
    found = _ready_of(pollables)
    return found or Await(_wait_for(pollables))


def _ready_of(pollables: list[Pollable]) -> list[int]:
    return [index for index, each in enumerate(pollables) if not each.left()]


async def _wait_for(pollables: list[Pollable]) -> list[int]:
    while True:
        await asyncio.sleep(min(each.left() for each in pollables))
        found = _ready_of(pollables)
        if found:
            return found
