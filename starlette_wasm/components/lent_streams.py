"""What streams.c may use of the bodies of a request: lent before each poll of the guest, and taken back after it."""

from __future__ import annotations

import ctypes

from ..engine.native.component_state import Lent
from ..sync import copies
from .handles import HandleTable
from .http_exchange import HttpExchange
from .quick_answers import Quick
from .wasi.exchange_streams import RequestStream, ResponseStream

_BUFFER = 128 << 10
"""Bytes that the guest may write until Python takes them."""
_LONG = 64 << 10
"""Bytes from which an answer is long: for a short one the buffer is not worth it."""
_OFTEN = 32
"""Calls from which a guest writes often, and be it nothing."""


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
            self._to, self.memory.to = copies.unset(_BUFFER)
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
            self._output[1].put(self._written(lent.put))
            lent.put = 0

    def _written(self, size: int) -> bytes:
        if size < _BUFFER:
            return ctypes.string_at(self.memory.to, size)
        whole, self._to = self._to, b""  # nobody has seen it yet: from now on nothing writes to it
        return whole
