"""What streams.c may use of the bodies of a request: lent before each poll of the guest, and taken back after it."""

from __future__ import annotations

import ctypes
import sys

from ..engine.native.component_state import Lent
from ..sync import copies
from .handles import HandleTable
from .http_exchange import HttpExchange
from .quick_answers import Quick
from .wasi.exchange_streams import RequestStream, ResponseStream

_BUFFER = 256 << 10
"""Bytes that the guest may write until Python takes them, in a buffer that is used again as soon as they are out."""
_MOST_BUFFERS = 4
"""Buffers that are kept: to fresh ones the kernel gives pages one by one, which costs as much as to fill them."""
_SIZE, _END = b"%x\r\n" % _BUFFER, b"\r\n"
"""What is around a full buffer: with it, that is a chunk of HTTP/1.1, which nobody has to copy."""
_LONG = 64 << 10
"""Bytes from which an answer is long: for a short one the buffer is not worth it."""
_OFTEN = 32
"""Calls from which a guest writes often, and be it nothing."""
_buffers: list[bytes] = []
"""Such as no request has at the moment, and nobody else a reference to."""


def _references() -> int:
    """Return how many sys.getrefcount() sees of what only a local variable has."""
    alone, _ = copies.unset(_MOST_BUFFERS)
    return sys.getrefcount(alone)


_UNSHARED = _references()


def _buffer() -> tuple[bytes, int]:
    """Return a buffer and the address of what it is for."""
    try:
        found = _buffers.pop()  # in one step: other threads do so too
    except IndexError:
        found, place = copies.unset(len(_SIZE) + _BUFFER + len(_END))
        copies.write(place, _SIZE, len(_SIZE))
        copies.write(place + len(_SIZE) + _BUFFER, _END, len(_END))
    return found, copies.place_of(found) + len(_SIZE)


class LentStreams:
    """Lends streams to C for each poll of the guest. Bounds are Python's: nothing beyond them is lent."""

    def __init__(self, exchange: HttpExchange) -> None:
        self._exchange = exchange
        self.memory = Lent()
        self._input: tuple[HandleTable, RequestStream] | None = None
        self._output: tuple[HandleTable, ResponseStream] | None = None
        self._from = b""
        self._to = b""
        self._calls = 0
        """How often Python was asked for the stream of an answer."""
        self.waits = 0
        """The function with which the guest waits for the request, from 1 on; 0 if there is none."""

    @property
    def address(self) -> int:
        return ctypes.addressof(self.memory)

    def note(self, kind: Quick, number: int, table: HandleTable, index: int) -> RequestStream | ResponseStream | None:
        """Take note of the function and the handle with which the guest uses a stream of the request. Return that."""
        lent = self.memory
        stream: object = table.rep(index)
        if isinstance(stream, RequestStream):
            if (table, stream, index) != (*(self._input or (None, None)), lent.input):
                lent.numbers[0] = lent.numbers[3] = 0
            self._input, lent.input = (table, stream), index
        elif isinstance(stream, ResponseStream):
            if (table, stream, index) != (*(self._output or (None, None)), lent.output):
                lent.numbers[1] = lent.numbers[2] = 0
            self._output, lent.output = (table, stream), index
            self._calls += 1
        else:
            return None
        lent.numbers[kind - Quick.READ] = number + 1
        return stream

    def is_used_by(self, number: int) -> bool:
        """Return whether the guest uses a stream with that function."""
        return number + 1 in self.memory.numbers

    def awaited(self, number: int, index: int) -> RequestStream | None:
        """Return what a call of that function with that handle waits for, if the guest has that stream."""
        if self.waits != number + 1 or self._input is None or index != self.memory.input:
            return None
        table, stream = self._input
        return stream if table.rep(index) is stream else None

    def lend(self) -> None:
        """Lend what there is, of the streams that the guest still has."""
        lent = self.memory
        lent.taken = lent.left = lent.room = lent.is_empty = 0
        if self._input is not None and self._input[0].rep(lent.input) is self._input[1]:
            self._lend_input()
        if self._output is not None and self._output[0].rep(lent.output) is self._output[1]:
            self._lend_room(self._output[1])

    def _lend_input(self) -> None:
        lent, exchange = self.memory, self._exchange
        more = not exchange.request.closed and exchange.failure is None  # looked at first, as it changes last
        found = exchange.request.front()
        if found is not None:
            self._from, at = found
            setattr(lent, "from", copies.place_of(self._from) + at)
            lent.left = len(self._from) - at
        else:
            lent.is_empty = more and not len(exchange.request)

    def _lend_room(self, stream: ResponseStream) -> None:
        if stream.total < _LONG and self._calls < _OFTEN:
            return
        room = min(stream.allowed(), _BUFFER)
        if room > 0 and not self._to:
            self._to, self.memory.to = _buffer()
        self.memory.room = max(room, 0)

    def take_back(self) -> None:
        """Take what the guest has written, and note what it has read."""
        lent = self.memory
        lent.left = lent.room = 0
        if lent.taken:
            self._exchange.skip(lent.taken)
            lent.taken = 0
        if lent.put:
            assert self._output is not None, "it was lent"
            size, lent.put = lent.put, 0
            self._hand_over(self._output[1], size)

    def _hand_over(self, stream: ResponseStream, size: int) -> None:
        """Give what the guest has written to the client, or to the queue."""
        if size < _BUFFER:
            stream.put(ctypes.string_at(self.memory.to, size))
            return
        whole, self._to = self._to, b""
        with memoryview(whole) as view, view[len(_SIZE) : -len(_END)] as written:
            stream.put(written)
        if sys.getrefcount(whole) == _UNSHARED:  # it is out: nobody else will ever look at it
            self._to = whole

    def close(self) -> None:
        """Leave the buffer to the next request. C is not given the streams again."""
        self.memory.room = self.memory.left = 0
        whole, self._to = self._to, b""
        if whole and len(_buffers) < _MOST_BUFFERS:
            _buffers.append(whole)
