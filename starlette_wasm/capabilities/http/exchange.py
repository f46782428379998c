"""``Exchange``: one HTTP/1.1 request on a connection, and the answer to it.

On h11, with bounds of our own: an upstream chooses in how many pieces it sends an answer, and each costs time of the
event loop.
"""

from __future__ import annotations

import asyncio
import time

import h11

from ...sync.pace import Pace
from ..errors import CapabilityError, Code
from .headers import MAX_HEADER_BYTES, MAX_HEADERS, WITH_BODY
from .messages import Request, Upload
from .wire import Wire

MAX_INFORMATIONAL = 5
MAX_EVENTS = 16_384
"""Pieces of one answer that came one by one, be it as chunks or as packets."""
_MAX_LINES = MAX_HEADERS + 28
"""Bytes of a head, or of trailers, that is not yet whole."""
_SMALL, _LARGE = 8 << 10, 64 << 10
"""Bytes that are parsed at once: what may hold many lines or chunks, and a body of which all is body."""
_SMALL_BODY = 64 << 10


class Exchange:
    """Raises h11.RemoteProtocolError and OSError for an answer that is none, CapabilityError for one without bounds."""

    def __init__(self, wire: Wire, pace: Pace, tenant: object) -> None:
        self._wire = wire
        self._pace = pace
        self._tenant = tenant
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES + _SMALL)
        self._slice = 0.0
        self._events = 0
        self._piece = _SMALL
        self._sending: asyncio.Task[None] | None = None
        self._may_rest = False
        self.unanswered = True
        """Whether no byte of an answer has come."""
        self.broken: Exception | None = None
        """What its own side has ended it for."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        """What came behind the body, once that has been read."""

    async def ask(self, request: Request, headers: list[tuple[bytes, bytes]]) -> None:
        """Send a request, and read the head of the answer."""
        try:
            async with asyncio.timeout(request.answer_seconds) as bound:
                await self._ask(request.method, request.url.target, headers, request.upload or request.body)
        except TimeoutError:
            if bound.expired():
                raise CapabilityError(Code.TIMEOUT, f"no response from {request.url.host} in time") from None
            raise  # an error of the connection

    async def _ask(self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes | Upload) -> None:
        head = self._http.send(h11.Request(method=method, target=target, headers=headers)) or b""
        if isinstance(body, Upload):
            self._sending = asyncio.create_task(self._upload(head, body))
        else:
            await self._begin(head, body)
        await self._head()
        # Bytes of a body that the upstream has not read would be the beginning of the next request.
        read = method in WITH_BODY and self._wire.sent and self._sent_all and self.status < 400
        self._may_rest = not body or read

    async def _begin(self, head: bytes, body: bytes) -> None:
        if len(body) <= _SMALL_BODY:
            await self._wire.write(head + body)
        else:
            self._sending = asyncio.create_task(self._send(head, body))
        if body:
            self._http.send(h11.Data(data=body))
        self._http.send(h11.EndOfMessage())

    async def _upload(self, head: bytes, body: Upload) -> None:
        """Send a body as it comes. One that breaks off ends the connection: the upstream has to see that."""
        try:
            await self._wire.write(head)
            while (piece := await body.piece()) is not None:
                await self._wire.write(self._http.send(h11.Data(data=piece)) or b"")
            await self._wire.write(self._http.send(h11.EndOfMessage(headers=body.trailers())) or b"")
        except (CapabilityError, h11.LocalProtocolError) as error:
            self.broken = error
            self._wire.close()

    async def _send(self, head: bytes, body: bytes) -> None:
        await self._wire.write(head)
        await self._wire.write(body)

    @property
    def _sent_all(self) -> bool:
        return self._sending is None or self._sending.done()

    async def _head(self) -> None:
        informational = 0
        while not isinstance(event := await self._event(), h11.Response):
            informational += 1
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise h11.RemoteProtocolError("no answer to the request")
            if informational > MAX_INFORMATIONAL:
                raise h11.RemoteProtocolError(f"more than {MAX_INFORMATIONAL} informational answers")
        self.status = event.status_code
        self.headers = list(event.headers)
        if not any(name == b"transfer-encoding" for name, _ in self.headers):
            self._piece = _LARGE

    async def piece(self) -> bytes | None:
        """Return what comes next of the answer's body, None at its end."""
        event = await self._event()
        if isinstance(event, h11.Data):
            return event.data
        if isinstance(event, h11.EndOfMessage):
            self.trailers = list(event.headers)
        return None

    async def _event(self) -> h11.Event:
        """Return what comes next, parsed in turn with the others: no answer holds up the event loop."""
        while True:
            if self._slice <= 0:
                self._slice = await self._pace.turn(self._tenant)
            self._count()
            begin = time.perf_counter()
            event = self._http.next_event()
            self._slice -= self._pace.spend(begin)
            if isinstance(event, h11.Event):
                return event
            if event is h11.PAUSED:
                raise h11.RemoteProtocolError("more than one answer")
            self._check_unparsed()
            data = await self._wire.read(self._piece)
            self.unanswered = self.unanswered and not data
            self._http.receive_data(data)
            self._slice = 0

    def _count(self) -> None:
        self._events += 1
        if self._events > MAX_EVENTS:
            raise CapabilityError(Code.TOO_LARGE, f"response too large: more than {MAX_EVENTS} pieces")

    def _check_unparsed(self) -> None:
        data, _ = self._http.trailing_data
        if data.count(b"\n") > _MAX_LINES:
            raise h11.RemoteProtocolError(f"more than {_MAX_LINES} lines without an end")

    @property
    def reusable(self) -> bool:
        """Whether the next request may go over the same connection: nothing is left in it, of either side."""
        http = self._http
        whole = http.our_state is h11.DONE and http.their_state is h11.DONE
        return whole and self._may_rest and not http.trailing_data[0] and self._wire.quiet

    def end(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
