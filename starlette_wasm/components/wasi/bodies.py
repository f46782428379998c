"""Bodies of ``wasi:http/types``, of requests and responses alike."""

from __future__ import annotations

from ..calls import Await
from ..http_exchange import HttpExchange, ResponseBody
from ..resources import HostResource
from ..values import Err, Ok, Value
from .exchange_streams import ResponseStream
from .fields import TYPES, Fields
from .host import WasiHost
from .offers import offer
from .streams import InputStream, OutputStream, Pollable
from .upload import UploadBody


class FutureTrailers:
    """What comes behind a body: fields, an error code, or nothing. ``result`` is None as long as it is not known."""

    def __init__(self, result: Ok | Err | None = None) -> None:
        self.result = result
        self.taken = False

    def ready(self) -> bool:
        return self.result is not None


class IncomingBody(HostResource):
    def __init__(self, stream: InputStream, trailers: FutureTrailers | None = None) -> None:
        self.stream: InputStream | None = stream
        self.trailers = trailers or FutureTrailers(Ok())

    def finish(self) -> FutureTrailers:
        """Note that the guest reads no more of it."""
        return self.trailers


class OutgoingBody:
    """A body that the guest writes; ``finished`` is whether the guest has marked it as whole."""

    def __init__(self, exchange: HttpExchange | None = None, declared: int | None = None) -> None:
        """Take an ``exchange``, through which it leaves as it is written, if any, and the ``declared`` length."""
        self.declared = declared
        self.leaves_by = None if exchange is None else (exchange, ResponseBody())
        self.data = bytearray()
        self.stream: OutputStream | None = None
        self.finished = False

    @property
    def total(self) -> int:
        """Bytes written so far."""
        return len(self.data) if self.leaves_by is None else self.leaves_by[1].total


@offer(TYPES, "[method]incoming-body.stream", "func(self: borrow<incoming-body>) -> result<input-stream>")
def body_stream(_: WasiHost, body: IncomingBody) -> Value:
    stream, body.stream = body.stream, None
    return Err() if stream is None else Ok(stream)


@offer(TYPES, "[static]incoming-body.finish", "func(this: incoming-body) -> future-trailers")
def body_finish(_: WasiHost, body: IncomingBody) -> Value:
    return body.finish()


@offer(TYPES, "[method]future-trailers.subscribe", "func(self: borrow<future-trailers>) -> pollable")
def trailers_subscribe(_: WasiHost, trailers: FutureTrailers) -> Value:
    return Pollable(trailers)


@offer(
    TYPES,
    "[method]future-trailers.get",
    "func(self: borrow<future-trailers>) -> option<result<result<option<fields>, variant {...}>>>",
)
def trailers_get(_: WasiHost, trailers: FutureTrailers) -> Value:
    if trailers.taken:
        return Err()
    if trailers.result is None:
        return None
    trailers.taken = True
    return Ok(trailers.result)


@offer(TYPES, "[method]outgoing-body.write", "func(self: borrow<outgoing-body>) -> result<output-stream>")
def body_write(host: WasiHost, body: OutgoingBody | UploadBody) -> Value:
    if isinstance(body, UploadBody):
        return body.open()
    if body.stream is not None:
        return Err()

    def sink(data: bytes) -> None:
        host.answer(data)  # which bounds it, in a call of a function with types, too
        body.data += data

    body.stream = OutputStream(sink) if body.leaves_by is None else ResponseStream(*body.leaves_by)
    return Ok(body.stream)


@offer(
    TYPES,
    "[static]outgoing-body.finish",
    "func(this: outgoing-body, trailers: option<fields>) -> result<_, variant {...}>",
)
def body_done(_: WasiHost, body: OutgoingBody | UploadBody, trailers: Fields | None) -> Value | Await:
    if isinstance(body, UploadBody):
        return body.finish(trailers)
    body.finished = True
    if body.stream is not None:
        body.stream.closed = True
    if body.leaves_by is not None:
        exchange, queue = body.leaves_by
        exchange.finish(queue, None if trailers is None else trailers.entries)
    if body.declared not in (None, body.total):
        return Err(("HTTP-response-body-size", body.total))
    return Ok()
