"""The host's ends of streams and futures of WASI 0.3."""

from __future__ import annotations

from collections.abc import Callable

from ..http_exchange import HttpExchange, ResponseBody
from ..pipes import Pipe
from ..values import Err, Ok, Value
from .bodies import FutureTrailers
from .download import DownloadStream
from .exchange_streams import ResponseStream
from .fields import Fields
from .host import WasiHost

_ROOM = 1 << 20


class Source:
    """Gives one kind of end."""

    def take(self, most: int) -> bytes | None:
        raise AssertionError("a future has no bytes")

    def items(self, most: int) -> list[Value] | None:
        raise AssertionError("its items are bytes")

    def value(self) -> Value:
        raise AssertionError("a stream has no value")

    def drop(self) -> None:
        """Do nothing: nothing is left to do."""


class BytesSource(Source):
    """Bytes that are all there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def ready(self) -> bool:
        return True

    def take(self, most: int) -> bytes | None:
        if self._at >= len(self._data):
            return None
        taken = self._data[self._at : self._at + most]
        self._at += len(taken)
        return taken


class RequestSource(Source):
    """The body of a request, as it comes."""

    def __init__(self, exchange: HttpExchange) -> None:
        self._exchange = exchange

    def ready(self) -> bool:
        return self._exchange.readable() and self._exchange.failure is None  # which check() raises

    def take(self, most: int) -> bytes | None:
        exchange = self._exchange
        taken = exchange.read(most)
        return taken if taken or not exchange.request.ended else None


class FutureValue(Source):
    """A future that is there, or whose value comes with set()."""

    def __init__(self, value: Value = None) -> None:
        self._value = value

    def ready(self) -> bool:
        return self._value is not None

    def value(self) -> Value:
        return self._value

    def set(self, value: Value) -> None:
        self._value = value


class DownloadSource(Source):
    """The body of an answer to a request of the guest's own."""

    def __init__(self, stream: DownloadStream) -> None:
        self._stream = stream

    def ready(self) -> bool:
        return self._stream.ready()

    def take(self, most: int) -> bytes | None:
        found = self._stream.read(most)
        return bytes(found.value) if isinstance(found, Ok) else None

    def drop(self) -> None:
        self._stream.discard()


class TrailersSource(Source):
    """The trailers of such an answer, or why it broke off."""

    def __init__(self, trailers: FutureTrailers) -> None:
        self._trailers = trailers

    def ready(self) -> bool:
        return self._trailers.ready()

    def value(self) -> Value:
        return self._trailers.result


class Sink:
    """Takes one kind of end."""

    def room(self) -> int:
        return _ROOM

    def put(self, data: bytes) -> None:
        raise AssertionError("a future has no bytes")

    def set(self, value: Value) -> None:
        raise AssertionError("a stream has no value")

    def end(self) -> None:
        """Do nothing: nothing is left to do."""

    def gone(self) -> bool:
        return False


class Printed(Sink):
    """Takes what the guest prints. ``done`` is ready when that has ended."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self.done = FutureValue()

    def put(self, data: bytes) -> None:
        self._write(data)

    def end(self) -> None:
        self.done.set(Ok())


class Ignored(Sink):
    """Takes what nobody wants."""

    def put(self, data: bytes) -> None:
        pass

    def set(self, value: Value) -> None:
        pass


class Answer:
    """A response on its way: the stream of its body, then the future of its trailers."""

    def __init__(
        self,
        write: Callable[[bytes], object],
        room: Callable[[], int],
        finish: Callable[[Fields | None], None],
        sent: FutureValue,
        is_broken: Callable[[], object] = lambda: False,
    ) -> None:
        """Take ``sent``, an event that is set when all was taken, and ``is_broken``, whether the rest is of no use."""
        self._is_broken = is_broken
        self._write = write
        self._room = room
        self._finish = finish
        self.error: str | None = None
        self.whole = False
        self._sent = sent
        self._ended = False
        self._trailers: Ok | None = None

    def attach(self, host: WasiHost, contents: Pipe | None, trailers: Pipe) -> None:
        """Take from those from now on."""
        if contents is None:
            self.end_body()
        else:
            host.attach(contents, _Body(self, self._write, self._room))
        host.attach(trailers, _Trailers(self))

    def gone(self) -> bool:
        """Return whether nobody wants the rest."""
        return bool(self._is_broken())

    def end_body(self) -> None:
        self._ended = True
        self._complete()

    def set_trailers(self, value: Ok | Err) -> None:
        if isinstance(value, Err):
            self.error = f"the trailers of its response are the error {value.value[0]}"
            self._sent.set(value)
            return
        self._trailers = value
        self._complete()

    def _complete(self) -> None:
        if self._ended and self._trailers is not None and not self.whole:
            self.whole = True
            self._finish(self._trailers.value)
            self._sent.set(Ok())


class _Body(Sink):
    def __init__(self, answer: Answer, write: Callable[[bytes], object], room: Callable[[], int]) -> None:
        self._answer = answer
        self._write = write
        self._room = room

    def room(self) -> int:
        return self._room()

    def put(self, data: bytes) -> None:
        self._write(data)

    def end(self) -> None:
        self._answer.end_body()

    def gone(self) -> bool:
        return self._answer.gone()


class _Trailers(Sink):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def set(self, value: Value) -> None:
        self._answer.set_trailers(value)


def streamed_answer(exchange: HttpExchange, body: ResponseBody, sent: FutureValue) -> Answer:
    """Return an answer that leaves as it is written."""
    stream = ResponseStream(exchange, body)

    def finish(trailers: Fields | None) -> None:
        exchange.finish(body, None if trailers is None else trailers.entries)

    return Answer(stream.write, stream.room, finish, sent, lambda: exchange.broken)
