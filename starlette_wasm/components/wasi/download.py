"""The answer to a guest's own request: its body is read no faster than the guest reads it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ...capabilities import CapabilityError, Code, Session
from ...capabilities.http import Incoming, Request
from ...sync.doorbell import Doorbell
from ..resources import HostResource, IoError
from ..values import Err, Ok, Value
from .bodies import FutureTrailers, IncomingBody
from .fields import Fields
from .host import WasiHost
from .streams import CLOSED, READ_AT_ONCE, InputStream
from .upload import UploadBody
from .wakeup import Wakeup

_MOST_UNREAD = 64 << 10

_CODES = {
    Code.INVALID_URL: "HTTP-request-URI-invalid",
    Code.CONNECT_FAILED: "connection-refused",
    Code.CONNECT_TIMEOUT: "connection-timeout",
    Code.TIMEOUT: "connection-read-timeout",
    Code.TLS_FAILED: "TLS-protocol-error",
    Code.UPSTREAM_FAILED: "HTTP-protocol-error",
}
_DENIED = (Code.HOST_NOT_ALLOWED, Code.REQUESTS_EXCEEDED, Code.CALLS_EXCEEDED, Code.BYTES_EXCEEDED)


def error_code(error: CapabilityError) -> Value:
    """Return the ``error-code`` of ``wasi:http/types`` for an error of a capability."""
    if error.code in _DENIED:
        return "HTTP-request-denied", None
    if error.code is Code.DNS_FAILED:
        return "DNS-error", {"rcode": "address not available", "info-code": None}
    if error.code is Code.TOO_LARGE:
        return "HTTP-response-body-size", None
    known = _CODES.get(error.code)
    return (known, None) if known is not None else ("internal-error", error.message)


class DownloadStream(InputStream):
    """A stream that is filled on the event loop, and read by the guest in any thread."""

    def __init__(self, wakeup: Wakeup) -> None:
        super().__init__()
        self._wakeup = wakeup
        self._room = Doorbell()
        self._pieces: deque[bytes] = deque()
        self._at = 0
        """How much of the first piece was read."""
        self._received = self._taken = 0  # the event loop counts the one, the guest's thread the other
        self._end: Value = None
        self.failed = False
        """Whether the guest has seen that it broke off."""
        self._unwanted = False

    def ready(self) -> bool:
        return bool(self._pieces) or self._end is not None

    def read(self, most: int) -> Value:
        end = self._end  # looked at first: the last bytes come before the end
        if not self._pieces:
            self.failed = isinstance(end, Err) and end is not CLOSED
            return Ok(b"") if end is None else end
        if not most:
            return Ok(b"")
        piece = self._pieces[0]
        taken = piece[self._at : self._at + min(most, READ_AT_ONCE)]
        self._at += len(taken)
        if self._at == len(piece):
            self._pieces.popleft()
            self._at = 0
        self._taken += len(taken)
        self._room.ring()
        return Ok(taken)

    def discard(self) -> None:
        """Drop what comes: the guest reads no more."""
        self._unwanted = True
        self._room.ring()

    async def put(self, piece: bytes) -> None:
        """Add what has come, and wait until there is room for more."""
        if self._unwanted or not piece:
            return
        self._received += len(piece)
        self._pieces.append(piece)
        self._wakeup.notify()
        await self._room.until(lambda: self._received - self._taken <= _MOST_UNREAD or self._unwanted)

    def end(self, how: Value = CLOSED) -> None:
        self._end = how


class DownloadBody(IncomingBody):
    def __init__(self, stream: DownloadStream, cancel: Callable[[], None]) -> None:
        super().__init__(stream, FutureTrailers())
        self._download = stream
        self._cancel = cancel

    def finish(self) -> FutureTrailers:
        self._download.discard()
        return FutureTrailers(Ok()) if self._download.failed else self.trailers

    def dropped(self) -> None:
        self._cancel()


class IncomingResponse(HostResource):
    def __init__(self, response: Incoming, body: DownloadBody, cancel: Callable[[], None]) -> None:
        self.status = response.status
        self.headers = Fields([(name, value.encode("latin-1")) for name, value in response.headers], fixed=True)
        self.body: IncomingBody | None = body
        self._cancel = cancel

    def dropped(self) -> None:
        if self.body is not None:
            self._cancel()


class FutureResponse(HostResource):
    """A request on its way."""

    def __init__(
        self, host: WasiHost, session: Session, request: Callable[[], Request], upload: UploadBody | None
    ) -> None:
        """Take ``request``, called when it is sent: by then more may be known of its body, which is the ``upload``."""
        self._host = host
        self._session = session
        self._request = request
        self._upload = upload
        self.between_seconds: float | None = None
        """How long the next piece of the answer's body may take."""
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = False
        self.result: Ok | Err | None = None
        self.answered = asyncio.Event()
        """Set once there is a result."""
        self.taken = False

    @property
    def begun(self) -> bool:
        return self._task is not None

    def ready(self) -> bool:
        return self.result is not None

    def dropped(self) -> None:
        if not self.taken:
            self.cancel()

    def begin(self) -> None:
        """Send the request, on the event loop."""
        if self._task is None and not self._over:
            self._loop = asyncio.get_running_loop()
            self._task = asyncio.create_task(self._run())
            self._host.at_end(self.cancel)

    def cancel(self) -> None:
        """Give up, in any thread."""
        self._over = True
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def _run(self) -> None:
        stream = DownloadStream(self._host.wakeup)
        body = DownloadBody(stream, self.cancel)
        try:
            async with self._session.exchange(self._request()) as response:
                self._answer(Ok(IncomingResponse(response, body, self.cancel)))
                while (piece := await self._piece(response)) is not None:
                    await stream.put(piece)
                trailers = [(name, value.encode("latin-1")) for name, value in response.trailers]
                body.trailers.result = Ok(Fields(trailers) if trailers else None)
                stream.end()
        except CapabilityError as error:
            self._fail(error, stream, body)
        finally:
            if self._upload is not None:
                self._upload.abandon()
        self._host.wakeup.notify()

    def _answer(self, result: Ok | Err) -> None:
        if self.result is None:
            self.result = result
            self.answered.set()
            self._host.wakeup.notify()

    def _fail(self, error: CapabilityError, stream: DownloadStream, body: DownloadBody) -> None:
        code = error_code(error)
        self._answer(Err(code))
        body.trailers.result = Err(code)
        stream.end(Err(("last-operation-failed", IoError(error.message, http=code))))

    async def _piece(self, response: Incoming) -> bytes | None:
        """Raise CapabilityError for a piece that is too late, too."""
        try:
            async with asyncio.timeout(self.between_seconds):
                return await response.piece()
        except TimeoutError:
            raise CapabilityError(Code.TIMEOUT, "timed out") from None
