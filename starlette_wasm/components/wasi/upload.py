"""The body of a guest's own request: it is sent as it is written, and what is not sent yet is bounded."""

from __future__ import annotations

from collections.abc import Callable
from weakref import ref

from ...capabilities import CapabilityError, Code
from ...capabilities.http.headers import MAX_HEADER_BYTES, MAX_HEADERS
from ...capabilities.usage import Usage
from ...sync.doorbell import Doorbell
from ..byte_queue import ByteQueue
from ..calls import Await
from ..errors import CanonicalTrap
from ..resources import HostResource, IoError
from ..values import Err, Ok, Value
from .fields import Fields
from .host import WasiHost
from .streams import OutputStream

_MOST_UNSENT = 64 << 10
_MOST_BODIES = 100
"""Bodies of requests that there are at once: how much may be written to one depends on all."""


class UploadStream(OutputStream):
    """What the guest writes the body to, from any thread."""

    def __init__(self, body: UploadBody) -> None:
        super().__init__(body.put)
        self._body = body

    def write(self, data: bytes) -> Value:
        if len(data) > self.room() and not self.closed:
            raise CanonicalTrap("more is written than check-write permits")
        if self._body.exceeds(data):
            self.closed = True
            return Err(("last-operation-failed", IoError("more is written than content-length allows")))
        return super().write(data)

    def room(self) -> int:
        return self._body.room()

    def flushed(self) -> bool:
        return not self._body.unsent or not self._body.is_read


class UploadBody(HostResource):
    """The body of a request of the guest's. ``declared`` is its content-length, if it has one."""

    def __init__(self, host: WasiHost, declared: int | None) -> None:
        self._host = host
        host.uploads = [each for each in host.uploads if each() is not None]
        if len(host.uploads) >= _MOST_BODIES:
            raise CanonicalTrap(f"more than {_MOST_BODIES} bodies of requests at once")
        host.uploads.append(ref(self))
        self._declared = declared
        self._pieces = ByteQueue(_MOST_UNSENT)
        self._more: Doorbell | None = None
        self._stream: ref[UploadStream] | None = None  # weak, as the stream refers to this
        self._sent = 0
        self._broken = self.finished = False
        self.abandoned = False
        """Whether nobody sends it any more."""
        self.trailers: list[tuple[str, str]] = []
        self.begin: Callable[[], None] | None = None
        """Begins the request, if that waits for its body: on the event loop."""

    @property
    def unsent(self) -> int:
        return self._pieces.total - self._sent

    def room(self) -> int:
        """Return how many bytes may be written now."""
        others = (each() for each in self._host.uploads)
        held: int = sum(each.unsent for each in others if each is not None and not each.abandoned)
        return max(min(_MOST_UNSENT - self.unsent, self._host.most_kept - held), 0)

    @property
    def is_read(self) -> bool:
        """Whether somebody sends what is written."""
        return self._more is not None

    @property
    def length(self) -> int | None:
        """Its bytes, if that is known."""
        if self.finished and not self.trailers:
            return self._pieces.total
        return self._declared

    def exceeds(self, data: bytes) -> bool:
        """Return whether that is more than was declared; if so, it is broken."""
        if self._declared is None or self._pieces.total + len(data) <= self._declared:
            return False
        self._break()
        return True

    def open(self) -> Value:
        if self._stream is not None:
            return Err()
        stream = UploadStream(self)
        self._stream = ref(stream)
        stream.closed = self.abandoned
        return Ok(stream)

    def put(self, data: bytes) -> None:
        self._pieces.put(data)
        self._wake()

    def finish(self, trailers: Fields | None) -> Value | Await:
        """Finish as ``outgoing-body.finish`` does."""
        self._close_stream()
        if self._broken or (self._declared is not None and self._pieces.total != self._declared):
            self._break()
            return Err(("HTTP-request-body-size", self._pieces.total))
        if trailers is not None:
            size = sum(len(name) + len(value) for name, value in trailers.entries)
            if size > MAX_HEADER_BYTES or len(trailers.entries) > MAX_HEADERS:
                self._break()
                return Err(("HTTP-request-trailer-section-size", size))
            self.trailers = [(name, value.decode("latin-1")) for name, value in trailers.entries]
        self.finished = True
        self._wake()
        begin = self.begin
        return Ok() if begin is None else Await(lambda: _begun(begin))

    def dropped(self) -> None:
        """Note that it was not finished: the request must not look as if it was whole."""
        self._close_stream()
        self._break()

    def abandon(self) -> None:
        """Drop what is written from now on, as nobody sends it any more. Called on the event loop."""
        self.abandoned = True
        self._close_stream()
        self._host.wakeup.notify()

    def _close_stream(self) -> None:
        stream = None if self._stream is None else self._stream()
        if stream is not None:
            stream.closed = True

    def _break(self) -> None:
        self._broken = True
        self._wake()

    def _wake(self) -> None:
        if self._more is not None:
            self._more.ring()

    async def piece(self, usage: Usage) -> bytes | None:
        """Return what comes next, None at the end; on the event loop.

        Raises CapabilityError for a body that was not finished, or is too large.
        """
        if self._more is None:
            self._more = Doorbell()
        await self._more.until(lambda: self._pieces or self._broken or self.finished)
        if not self._pieces:
            if self._broken:
                raise CapabilityError(Code.UPSTREAM_FAILED, "the body of the request was not finished")
            return None
        piece = self._pieces.take(_MOST_UNSENT)
        usage.move(len(piece))
        self._sent += len(piece)
        self._host.wakeup.notify()
        return piece


async def _begun(begin: Callable[[], None]) -> Value:
    begin()
    return Ok()
