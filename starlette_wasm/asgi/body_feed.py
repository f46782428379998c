"""``BodyFeed``: the body of a request on its way to a guest that reads it as it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Message, Receive

from ..components.http_exchange import HttpExchange
from ..exceptions import RequestTimeout, RequestTooLarge
from ..sync.cancel_and_wait import cancel_and_wait
from .body import disconnected


class BodyFeed:
    """Hands the body to the guest, no faster than that takes it, and notices when the client goes away."""

    def __init__(
        self, exchange: HttpExchange, receive: Receive, limit: int, limit_ms: int, waited: float = 0.0
    ) -> None:
        """Take ``limit`` in bytes; the client may take ``limit_ms`` to send them, 0 for as long as it likes. It took
        ``waited`` seconds of that for what the exchange has already.
        """
        self._exchange = exchange
        self._receive = receive
        self._left = limit - exchange.request.total
        self._limit = limit
        self._limit_ms = limit_ms
        self._seconds = max(limit_ms / 1000 - waited, 0.0) if limit_ms else None
        self._task: asyncio.Task[None] | None = None
        self._waits_for_guest = False
        self.gone = asyncio.Event()
        """Set when the client has gone away."""

    @asynccontextmanager
    async def running(self, *, follows: bool, expects: bool) -> AsyncIterator[None]:
        """Feed meanwhile. If the client ``expects`` 100 Continue, that is sent when the guest first asks for the body:
        a server sends it at the first ``receive()``, and may not if nothing is awaited (RFC 9110, section 10.1.1).
        """
        self._exchange.request.closed = not follows
        self._waits_for_guest = expects
        if follows:
            self._start()
        try:
            yield
        finally:
            if self._task is not None:
                await cancel_and_wait(self._task)

    async def wait_until_gone(self) -> None:
        """Return when the client has gone away."""
        self._start()
        await self.gone.wait()

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        exchange = self._exchange
        try:
            if self._waits_for_guest:
                await exchange.request_taken.until(lambda: exchange.reads)
            if not exchange.request.closed:
                await self._feed()
            if exchange.failure is None:  # else the rest of the body is left where it is
                await disconnected(self._receive)
                self._end()
        except OSError:  # a broken connection is gone too
            self._end()
        except Exception:
            self._end()
            raise

    def _end(self) -> None:
        if not self._exchange.finished:  # else the answer is out, after which servers call a client disconnected
            self.gone.set()

    async def _feed(self) -> None:
        exchange = self._exchange
        try:
            async with asyncio.timeout(self._seconds) as bound:  # one for all messages: it costs more than one of them
                while not exchange.request.closed and exchange.failure is None:
                    if not exchange.request.low:
                        await self._wait_for_guest(bound)
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionResetError
                    self._put(message)
        except TimeoutError:
            if not bound.expired():
                raise
            exchange.fail(RequestTimeout(self._limit_ms))

    async def _wait_for_guest(self, bound: asyncio.Timeout) -> None:
        """Wait until the guest has taken some of what there is: that is not the client's time."""
        exchange, when, began = self._exchange, bound.when(), time.monotonic()
        bound.reschedule(None)
        await exchange.request_taken.until(lambda: exchange.request.low)
        if when is not None:
            bound.reschedule(when + time.monotonic() - began)

    def _put(self, message: Message) -> None:
        exchange = self._exchange
        data = message.get("body", b"")
        self._left -= len(data)
        if self._left < 0:
            exchange.fail(RequestTooLarge(self._limit))
            return
        exchange.request.put(data)
        exchange.request.closed = not message.get("more_body", False)
        exchange.notify()
