"""``AnswerSender``: the answer of a guest on its way to the client, while the guest writes it.

What a quick handler answers leaves in one write, with its length, as any other answer. What takes longer than a moment
leaves as it is written.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from starlette.types import Receive, Scope, Send

from ..components.http_exchange import HttpExchange, ResponseBody, keep_all
from ..messages import EdgeRequest, EdgeResponse
from ..protocols.headers import raw_headers, with_request_id
from ..sync.cancel_and_wait import cancel_and_wait
from .coalesce import send_in_one_write
from .direct_write import cycle_behind, send_at_once
from .scope import Headers, fitted

_LINGER = 0.001
"""Seconds that the head of an answer waits for the body to be whole."""
_PIECE = 64 << 10
"""Bytes from which what the guest has written leaves as one message."""
_WITHOUT_LENGTH = (204, 304)
_TRAILERS = "http.response.trailers"


class AnswerSender:
    """Sends the answer of an exchange: once it is whole, or as it is written if that takes longer than a moment."""

    def __init__(
        self,
        exchange: HttpExchange,
        scope: Scope,
        receive: Receive,
        send: Send,
        request: EdgeRequest,
        gone: asyncio.Event,
    ) -> None:
        """Take ``gone``, an event that is set if the answer cannot be sent."""
        self.begun = False
        """Whether the head was sent: nothing else can be answered any more."""
        self._exchange = exchange
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request = request
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self._trailers = _takes_trailers(scope)
        self._cycle: Any = None
        """uvicorn's, to which bytes may go at once."""
        exchange.on_answer = self._answered
        exchange.on_wait = self._begin

    def _answered(self) -> None:
        """Begin to wait for more; in the guest's thread, which may be that of the event loop."""
        if asyncio._get_running_loop() is self._loop:
            self._linger()
            return
        with suppress(RuntimeError):  # the loop was closed under the guest
            self._loop.call_soon_threadsafe(self._linger)

    def _linger(self) -> None:
        if self._timer is None and self._task is None and not self._over:
            self._timer = self._loop.call_later(_LINGER, self._begin)

    def _begin(self) -> None:
        """Send what there is, and what comes."""
        if self._task is None and self._exchange.head is not None:
            self._task = self._loop.create_task(self._run())

    async def complete(self) -> None:
        """Send the rest of an answer that is whole."""
        self._stop_timer()
        assert self._exchange.head is not None, "the guest has answered"
        await (self._run() if self._task is None else self._task)

    async def stop(self) -> None:
        """Send nothing more. Raises what sending has raised."""
        self._over = True
        self._stop_timer()
        self._exchange.on_answer = self._exchange.on_wait = _nothing
        if self._task is not None:
            await cancel_and_wait(self._task)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def _run(self) -> None:
        try:
            await self._send_answer()
        except BaseException:
            self._gone.set()
            raise

    async def _send_answer(self) -> None:
        exchange, body = self._exchange, self._exchange.response
        assert exchange.head is not None
        assert body is not None
        whole = exchange.finished and not self._trailers
        status, headers, has_body = self._head(exchange.head, len(body) if exchange.finished else None)
        self.begun = True
        if whole:
            content = body.take_pieces(body.bound)
            await send_in_one_write(self._receive, self._send, status, headers, content if has_body else b"")
            return
        start = {"type": "http.response.start", "status": status, "headers": headers}
        await self._send(start | {"trailers": True} if self._trailers else start)
        self._cycle = cycle_behind(self._send) if has_body else None
        try:
            await self._send_body(body, has_body)
        finally:
            exchange.hand_on = keep_all

    async def _send_body(self, body: ResponseBody, has_body: bool) -> None:
        exchange = self._exchange
        while not body.ended:
            if self._cycle is not None:
                exchange.hand_on = self._hand_on
            await exchange.response_put.until(lambda: len(body) or body.closed)
            exchange.hand_on = keep_all  # what is sent here comes first
            piece = body.take_pieces(_PIECE)
            if not exchange.full:
                exchange.notify()
            if piece and has_body:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        if exchange.broken:
            return  # the call ends in an error, which cuts the connection
        await self._send({"type": "http.response.body", "body": b""})
        if self._trailers:
            found = [(name.lower().encode("ascii"), value) for name, value in body.trailers or ()]
            await self._send({"type": _TRAILERS, "headers": found, "more_trailers": False})

    def _hand_on(self, data: bytes | memoryview) -> bool:
        """Send what the guest has just written, as long as the client keeps up."""
        return send_at_once(self._cycle, data)

    def _head(self, head: EdgeResponse, length: int | None) -> tuple[int, Headers, bool]:
        """Return status, headers, and whether the body is sent, as render() has it; ``length`` if it is known."""
        status, method = head.status_code, self._scope["method"]
        headers = raw_headers(head)
        if status == 205:
            length = 0
        elif self._exchange.declared is not None:
            length = self._exchange.declared
        elif method == "HEAD":
            length = length or None
        if length is not None and status not in _WITHOUT_LENGTH:
            headers.append((b"content-length", b"%d" % length))
        assert self._request.context is not None
        headers = with_request_id(headers, self._request.context.request_id)
        return status, fitted(self._scope, headers), method != "HEAD" and status not in (*_WITHOUT_LENGTH, 205)


def _takes_trailers(scope: Scope) -> bool:
    """Return whether the client wants trailers (RFC 9110, section 6.5.1), and the server can send them."""
    extensions: Any = scope.get("extensions") or ()
    asked = any(name == b"te" and b"trailers" in value.lower() for name, value in scope["headers"])
    return asked and _TRAILERS in extensions


def _nothing() -> None:
    pass
