"""The streams of a request that is answered as it comes: what wasi:io is given of an HttpExchange."""

from __future__ import annotations

from ..calls import Await
from ..errors import CanonicalTrap
from ..http_exchange import HttpExchange, ResponseBody
from ..resources import IoError
from ..values import Err, Ok, Value
from .host import OutputOverflow
from .streams import CLOSED, READ_AT_ONCE, InputStream, OutputStream

_TOO_LONG = Err(
    ("last-operation-failed", IoError("the body is longer than its content-length", ("HTTP-response-body-size", None)))
)


class RequestStream(InputStream):
    """The body of the request, as far as it has come."""

    def __init__(self, exchange: HttpExchange) -> None:
        super().__init__()
        self._exchange = exchange

    def read(self, most: int) -> Value | Await:
        exchange = self._exchange
        ended = exchange.request.closed  # looked at first: the last bytes come before the end
        taken = exchange.read(min(most, READ_AT_ONCE))
        if taken or not most:
            return Ok(taken)
        if exchange.failure is not None:
            return Await(self._fail)
        return CLOSED if ended and exchange.request.ended else Ok(b"")

    def skip(self, count: int) -> None:
        self._exchange.skip(count)

    async def _fail(self) -> Value:
        assert self._exchange.failure is not None
        raise self._exchange.failure

    def ready(self) -> bool:
        return self._exchange.readable()


class ResponseStream(OutputStream):
    """The body of a response. What is written leaves by itself, once that response is the answer."""

    def __init__(self, exchange: HttpExchange, body: ResponseBody) -> None:
        super().__init__(lambda data: exchange.write(body, data))
        self._exchange = exchange
        self._body = body

    def write(self, data: bytes) -> Value:
        exchange, body = self._exchange, self._body
        if self.closed:
            return CLOSED
        if exchange.too_long(body, len(data)):
            exchange.broken = f"its handler wrote more than the {exchange.declared} bytes of its content-length"
            return _TOO_LONG
        if body.total + len(data) > exchange.most_out:
            raise OutputOverflow(f"more than {exchange.most_out} bytes of output")
        if len(data) > exchange.room(body):
            raise CanonicalTrap("more is written than check-write permits")
        return super().write(data)

    def room(self) -> int:
        return self._exchange.room(self._body)

    @property
    def total(self) -> int:
        """Bytes written so far."""
        return self._body.total

    def allowed(self) -> int:
        """Return how many bytes write() takes now without any error."""
        exchange, body = self._exchange, self._body
        most = exchange.most_out
        if body is exchange.response and exchange.declared is not None:
            most = min(most, exchange.declared)
        return 0 if self.closed else min(self.room(), most - body.total)

    def put(self, data: bytes | memoryview) -> None:
        """Take what was written of what is allowed. A view is of a chunk: see HttpExchange.hand_on."""
        self._exchange.write(self._body, data)
