"""One HTTP request while a handler answers it: its body on the way in, its answer on the way out.

What the guest does may come from any thread; everything else is of the event loop. Neither side holds more than the
bound of its queue: a client that does not read makes the guest wait, and a guest that does not read the client.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Protocol

from ..messages import EdgeResponse
from ..protocols.errors import ResponseError
from ..protocols.headers import MAX_HEADER_BYTES, MAX_HEADERS, check_headers, check_status, declared_length
from ..sync.doorbell import Doorbell
from .byte_queue import ByteQueue
from .errors import CanonicalTrap

REQUEST_BOUND = 512 << 10
RESPONSE_BOUND = 256 << 10
"""Bytes that wait for the guest, and for the client. The second one also in http_bodies.c."""
_ROUND = 1 << 20
"""Bytes that go from the guest to the client in one round of the event loop, if that keeps up."""
_LEAST = 32 << 10
"""Bytes that leave at once; fewer are joined with what follows."""
Trailers = list[tuple[str, bytes]]
Headers = dict[str, str | list[str]]


class InvalidHead(CanonicalTrap):
    """The status or headers of an answer are not valid: whoever decodes the answer gives the reason."""


class Waiter(Protocol):
    """The guest, if it waits for something."""

    def notify(self) -> None: ...


class ResponseBody(ByteQueue):
    """The body of a response, whether it is the answer yet or not."""

    __slots__ = ("trailers",)

    def __init__(self) -> None:
        super().__init__(RESPONSE_BOUND)
        self.trailers: Trailers | None = None


class HttpExchange:
    """One HTTP request on its way in and out. Made on the event loop."""

    def __init__(self, *, most_out: int, patience: float) -> None:
        """Take ``most_out``, the bound of the answer's body. ``patience`` is how long the client may keep the guest
        waiting in all until it takes the answer, in seconds, 0 for as long as it likes; whoever feeds the request
        bounds how long that may take.
        """
        self.request = ByteQueue(REQUEST_BOUND)
        self.request_taken = Doorbell()
        """Rings when the guest has taken something of the request."""
        self.response: ResponseBody | None = None
        """The body of the answer, once the guest has answered."""
        self.response_put = Doorbell()
        """Rings when the guest has answered, written or finished."""
        self.head: EdgeResponse | None = None
        """The answer without its body, once the guest has answered."""
        self.declared: int | None = None
        """The length of the body, if the guest has declared it."""
        self.broken = ""
        """Why the answer can never be whole."""
        self.failure: Exception | None = None
        """Why the rest of the request will not come: raised when the guest asks for it."""
        self.patience = patience or math.inf
        """Seconds that are left until the client has to have taken the answer."""
        self.waited = 0.0
        """Seconds that the guest has waited for the client."""
        self.on_answer: Callable[[], None] = do_nothing
        """Called when the guest has answered, in its thread."""
        self.on_wait: Callable[[], None] = do_nothing
        """Called on the event loop when the guest waits for something: what it has written is to leave."""
        self.on_change: Callable[[], None] = do_nothing
        """Called on the event loop when bytes have come or gone."""
        self.hand_on: Callable[[bytes | memoryview], bool] = keep_all
        """Called on the event loop with what the guest has written, if nothing waits: whether that has left. A view is
        of the data of a chunk of HTTP/1.1, and its ``obj`` is that chunk as a whole.
        """
        self._handed_on = 0  # bytes in this round of the event loop
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.most_out = most_out
        self._was_full = False
        self._unanswered = 0  # bytes in bodies that are not the answer yet, or never will be
        self.reads = False
        """Whether the guest has asked for the body of the request."""
        self._guest: Waiter | None = None

    def serve(self, guest: Waiter) -> None:
        """Notify that guest from now on."""
        self._guest = guest

    def notify(self) -> None:
        """Note, on the event loop, that bytes have come or gone."""
        self.on_change()
        if self._guest is not None:
            self._guest.notify()

    def fail(self, failure: Exception) -> None:
        """Note, on the event loop, that the rest of the request will not come."""
        self.failure = failure
        self.notify()

    def check(self) -> None:
        """Raise why the rest of the request will not come, if the guest has asked for it."""
        if self.failure is not None and self.reads and not len(self.request):
            raise self.failure

    @property
    def moved(self) -> int:
        """Bytes of both bodies so far."""
        return self.request.total + (0 if self.response is None else self.response.total)

    @property
    def finished(self) -> bool:
        """Whether the answer is whole: what the guest does then changes nothing of it."""
        return self.response is not None and self.response.closed and not self.broken

    @property
    def stalled(self) -> bool:
        """Whether what the guest waits for may be the client: for bytes that it sends, or takes."""
        return self.full or (self.reads and not len(self.request) and not self.request.closed and self.failure is None)

    @property
    def full(self) -> bool:
        """Whether the guest can write no more of its answer until the client takes some."""
        return self.response is not None and not self.response.closed and not self.room(self.response)

    def readable(self) -> bool:
        """Return whether the guest gets something of the request at once: bytes, the end, or a failure."""
        self._begin_reading()
        return bool(len(self.request)) or self.request.closed or self.failure is not None

    def _begin_reading(self) -> None:
        if not self.reads:
            self.reads = True
            self.request_taken.ring()

    def read(self, most: int) -> bytes:
        """Read some bytes of the request; none if there are none yet, or no more."""
        self._begin_reading()
        taken = self.request.take(most)
        if self.request.low:
            self.request_taken.ring()
        return taken

    def skip(self, count: int) -> None:
        """Take note that the guest has read so many bytes that were in front of the request."""
        self._begin_reading()
        self.request.skip(count)
        if self.request.low:
            self.request_taken.ring()

    def room(self, body: ResponseBody) -> int:
        """Return how many bytes the guest may write to a body now. One that was full takes more when half of it has
        left: a guest that were woken for each message would do little else.
        """
        if body is not self.response:
            return max(RESPONSE_BOUND - self._unanswered, 0)
        room = min(body.room, _ROUND - self._handed_on)
        if self._was_full and room < RESPONSE_BOUND // 2:
            return 0
        self._was_full = room <= 0
        return max(room, 0)

    def write(self, body: ResponseBody, data: bytes | memoryview) -> None:
        """Take what the guest has written, within room()."""
        if body is not self.response:
            body.put(bytes(data))
            self._unanswered += len(data)
        elif self._leaves_at_once(body, data):
            body.pass_by(len(data))
            self._note_handed_on(len(data))
        else:
            body.put(bytes(data))
            self.response_put.ring()

    def _leaves_at_once(self, body: ResponseBody, data: bytes | memoryview) -> bool:
        """Hand on what is long enough for a message of its own, if nothing comes before it. Return whether it left."""
        if len(data) < _LEAST or len(body) or threading.get_ident() != self._thread:
            return False
        return self.hand_on(data)

    def _note_handed_on(self, count: int) -> None:
        """Count bytes that have left as if they waited for the next round of the event loop, so that others have it."""
        if not self._handed_on:
            self._loop.call_soon(self._begin_round)
        self._handed_on += count

    def _begin_round(self) -> None:
        was_full, self._handed_on = self.full, 0
        if was_full and not self.full:
            self.notify()

    def too_long(self, body: ResponseBody, more: int = 0) -> bool:
        """Return whether the body of the answer has more bytes than are declared; ``more`` are about to come."""
        return body is self.response and self.declared is not None and body.total + more > self.declared

    def answer(self, status: int, headers: Headers, body: ResponseBody) -> None:
        """Take the guest's answer. Raises InvalidHead."""
        try:
            head = EdgeResponse(check_status(status), check_headers(headers))
        except ResponseError as error:
            raise InvalidHead(error.problem) from None
        self.declared = declared_length(headers)
        self.response = body
        self._check_length(body)
        self.head = head
        self.response_put.ring()
        self.on_answer()

    def finish(self, body: ResponseBody, trailers: Trailers | None) -> None:
        """Take note that a body is whole. Traps if its trailers are more than headers may be, or an answer."""
        size = sum(len(name) + len(value) for name, value in trailers or ())
        most = min(MAX_HEADER_BYTES, self.most_out)
        if size > most or len(trailers or ()) > MAX_HEADERS:
            raise CanonicalTrap(f"more than {MAX_HEADERS} trailers, or {most} bytes of them")
        body.trailers = trailers
        body.closed = True
        if body is self.response:
            self._check_length(body)
            self.response_put.ring()

    def _check_length(self, body: ResponseBody) -> None:
        if self.broken or self.declared is None:
            return
        if self.too_long(body) or (body.closed and body.total < self.declared):
            self.broken = f"the body of its response has {body.total} bytes, and its content-length is {self.declared}"


def keep_all(data: bytes | memoryview) -> bool:
    """Hand on nothing."""
    return False


def do_nothing() -> None:
    """Stand in for a callback that is not set."""
