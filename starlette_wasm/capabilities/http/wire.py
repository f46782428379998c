"""``Wire``: one connection to an upstream, read no faster than its reader asks for."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

_MOST_UNREAD = 64 << 10
_PIECE = 64 << 10


class Wire(asyncio.Protocol):
    """Bytes in and out. While it is idle it has no reader: bytes that come then, or its end, close it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._unread = bytearray()
        self._paused = False
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._full = False
        self._room: asyncio.Future[None] | None = None
        self._on_drop: Callable[[Wire], None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self.reused = False
        """Whether it has been idle since it was opened."""
        self.on_close: Callable[[], None] | None = None
        """Called once, when it is closed."""

    @classmethod
    async def open(cls, address: str, port: int, tls: ssl.SSLContext | None, name: str) -> Wire:
        """Open a connection. Raises OSError, ssl.SSLError included."""
        loop = asyncio.get_running_loop()
        server_hostname = name if tls is not None else None
        _, wire = await loop.create_connection(cls, address, port, ssl=tls, server_hostname=server_hostname)
        return wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it
        # pause_writing() is then called as long as something is yet to be sent
        self._transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        if self._on_drop is not None:
            self.close()
            return
        self._unread += data
        if len(self._unread) > _MOST_UNREAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        _wake(self._waiter)

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._room)

    def _end(self, error: Exception | None) -> None:
        self._ended = True
        self._error = self._error or error
        _wake(self._waiter)
        _wake(self._room)
        if self._on_drop is not None:
            self.close()

    @property
    def sent(self) -> bool:
        """Whether the system has taken all that was written."""
        return not self._full and not self._ended

    @property
    def quiet(self) -> bool:
        """Whether it is open, and nothing has come that was not read."""
        return not self._ended and not self._unread and not self._transport.is_closing()

    async def read(self, most: int) -> bytes:
        """Read at least one byte; none at the end. Raises OSError if the connection broke."""
        while not self._unread:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return b""
            self._waiter = self._loop.create_future()
            await self._waiter
        data = bytes(memoryview(self._unread)[:most])
        del self._unread[:most]
        if self._paused and len(self._unread) <= _MOST_UNREAD // 2 and not self._ended:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Return when the system has taken it, or when nobody will: the upstream's answer is still to be read."""
        for at in range(0, len(data), _PIECE):
            if self._ended:
                return
            self._transport.write(data[at : at + _PIECE])
            if self._full:
                self._room = self._loop.create_future()
                await self._room

    def rest(self, seconds: float, on_drop: Callable[[Wire], None]) -> None:
        """Be idle for at most ``seconds``; ``on_drop`` is called if it is closed meanwhile."""
        self.reused = True
        self._on_drop = on_drop
        self._expiry = self._loop.call_later(seconds, self.close)

    def wake(self) -> None:
        """Be idle no more."""
        self._on_drop = None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def close(self) -> None:
        """Close at once: what is unsent is dropped, and TLS gets no close_notify."""
        on_drop = self._on_drop
        self.wake()
        self._ended = True
        self._transport.abort()
        if self.on_close is not None:
            self.on_close()
            self.on_close = None
        if on_drop is not None:
            on_drop(self)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
