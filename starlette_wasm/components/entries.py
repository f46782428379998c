"""How a component of each world is asked for an answer: the calls of one request."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

from .calls import Await, Calls, Request
from .errors import CanonicalTrap
from .flat_plan import LiftedFunction
from .http_exchange import HttpExchange
from .values import Err, Ok, Value
from .wasi.ends import Answer
from .wasi.host import GuestExit, WasiHost
from .wasi.http import IncomingRequest, ResponseOutparam, edge_message, read_message
from .wasi.http3 import Response, served_request
from .worlds import Entry

Answering = Generator[Request | None, Any, bytes]


def answer_request(entry: Entry, calls: Calls, host: WasiHost, message: bytes) -> Answering:
    """Return the answer, as the protocol of the function has it."""
    if entry.world == "http":
        return _http_task(entry, calls, host, message) if entry.is_task else _http(entry, calls, host, message)
    return _edge(entry, calls, host, message) if entry.world == "edge" else _command(entry, calls, host)


def call_export(function: LiftedFunction, calls: Calls, values: Sequence[Value]) -> Generator[Request, Any, Value]:
    """Call an exported function to its end, be it a task or not."""
    if function.type.is_async:
        return calls.tasks.lifted(function, values, lambda _: None)
    return calls.lifted(function, values)


def _edge(entry: Entry, calls: Calls, host: WasiHost, message: bytes) -> Answering:
    host.returns = True
    answer = yield from call_export(entry.function, calls, [message.decode()])
    host.answer(answer.encode())
    return bytes(host.stdout)


def _command(entry: Entry, calls: Calls, host: WasiHost) -> Answering:
    result = yield from call_export(entry.function, calls, [])
    yield from _moved(host)
    if isinstance(result, Err):
        raise GuestExit(1)
    return bytes(host.stdout)


def _http(entry: Entry, calls: Calls, host: WasiHost, message: bytes) -> Answering:
    out = ResponseOutparam()
    yield from calls.lifted(entry.function, [IncomingRequest(*read_message(message), host.exchange), out])
    return answer_of(out, host)


def answer_of(out: ResponseOutparam, host: WasiHost) -> bytes:
    """Return what a handler that has returned answers with. Traps if that is not whole."""
    answer = out.answer()
    _check_whole(host.exchange)
    return answer


def _http_task(entry: Entry, calls: Calls, host: WasiHost, message: bytes) -> Answering:
    leaving: list[tuple[Response, Answer]] = []

    def answered(result: Value) -> None:
        if isinstance(result, Ok):
            leaving.append((result.value, result.value.leave(host)))

    if host.exchange is not None:
        host.wakeup.check = host.exchange.check
    request = served_request(message, host.exchange)
    result = yield from calls.tasks.lifted(entry.function, [request], answered)
    yield from _moved(host)
    if isinstance(result, Err):
        raise CanonicalTrap(f"its handler answered with the error {result.value[0]}")
    response, answer = leaving[0]
    if answer.error is not None:
        raise CanonicalTrap(answer.error)
    _check_whole(host.exchange)
    if not answer.whole:
        raise CanonicalTrap("its handler ended without finishing the body of its response")
    return edge_message(response.status, response.headers, bytes(host.stdout))


def _moved(host: WasiHost) -> Generator[Request, Any, None]:
    """Wait until what the host gets from the host has been moved: the guest need not be there for that."""
    if not host.wakeup.pumped():
        yield Await(partial(host.wakeup.until, host.wakeup.pumped))


def _check_whole(exchange: HttpExchange | None) -> None:
    if exchange is not None and exchange.broken:
        raise CanonicalTrap(exchange.broken)
