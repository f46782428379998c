"""``HttpExchange`` and ``ByteQueue``: what waits between a guest and its client, and when the answer is whole."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from starlette_wasm.components.byte_queue import ByteQueue
from starlette_wasm.components.errors import CanonicalTrap
from starlette_wasm.components.http_exchange import RESPONSE_BOUND, HttpExchange, InvalidHead, ResponseBody
from starlette_wasm.components.values import Err, Ok
from starlette_wasm.components.wasi.exchange_streams import RequestStream, ResponseStream
from starlette_wasm.components.wasi.host import OutputOverflow

LONG = bytes(64 << 10)


def on_loop(test: Callable[[HttpExchange], None], **given: int) -> None:
    async def go() -> None:
        test(HttpExchange(**{"most_out": 1 << 20, "patience": 0} | given))

    asyncio.run(go())


def test_queues_give_bytes_in_their_order() -> None:
    queue = ByteQueue(10)
    for piece in (b"abc", b"", b"defg"):
        queue.put(piece)
    assert (len(queue), queue.room, queue.total) == (7, 3, 7)
    assert [queue.take(2), queue.take(2), queue.take(99), queue.take(1)] == [b"ab", b"cd", b"efg", b""]
    queue.put(b"x" * 12)
    assert (queue.room, queue.take(0), queue.ended) == (0, b"", False)
    queue.closed = True
    assert (queue.take_pieces(5), queue.take_pieces(99), queue.ended) == (b"x" * 10, b"xx", True)
    assert queue.take_pieces(1) == b""


def test_queues_join_small_pieces() -> None:
    queue, data = ByteQueue(1 << 20), bytes(range(256)) * 1024
    queue.put(b"x" * 4096)
    for at in range(0, len(data), 2):
        queue.put(data[at : at + 2])
    queue.put(b"y" * 4096)
    pieces = []
    while piece := queue.take(1 << 20):
        pieces.append(piece)
    assert b"".join(pieces) == b"x" * 4096 + data + b"y" * 4096
    assert len(pieces) <= 2 + len(data) // 1024  # the event loop takes each, and guests choose their sizes


def test_requests_are_read_as_far_as_they_have_come() -> None:
    def test(exchange: HttpExchange) -> None:
        stream = RequestStream(exchange)
        assert not exchange.stalled
        assert (stream.ready(), stream.read(1 << 63)) == (False, Ok(b""))
        assert exchange.stalled
        exchange.request.put(b"abc")
        assert (stream.ready(), stream.read(2), stream.read(2), stream.read(2)) == (True, Ok(b"ab"), Ok(b"c"), Ok(b""))
        exchange.request.put(b"d")
        exchange.request.closed = True
        assert (stream.read(9), stream.ready(), stream.read(9)) == (Ok(b"d"), True, Err(("closed", None)))
        assert not exchange.stalled

    on_loop(test)


def test_what_is_long_leaves_at_once_if_nothing_waits() -> None:
    async def go() -> None:
        exchange, left = HttpExchange(most_out=1 << 24, patience=0), []
        takes = True

        def hand_on(data: bytes | memoryview) -> bool:
            if takes:
                left.append(bytes(data))
            return takes

        exchange.hand_on = hand_on
        early, body = ResponseBody(), ResponseBody()
        exchange.response = body
        exchange.write(early, LONG)  # it is not the answer
        exchange.write(body, LONG)
        exchange.write(body, memoryview(LONG))
        assert (left, len(body), body.total) == ([LONG, LONG], 0, 2 * len(LONG))
        exchange.write(body, b"short")
        exchange.write(body, LONG)  # which comes behind it
        assert (len(left), len(body)) == (2, 5 + len(LONG))
        assert body.take_pieces(body.bound) == b"short" + LONG
        takes = False
        exchange.write(body, memoryview(LONG))
        takes = True
        assert body.take_pieces(body.bound) == LONG
        await asyncio.to_thread(exchange.write, body, LONG)
        assert (len(left), len(body), body.total) == (2, len(LONG), 5 + 5 * len(LONG))

    asyncio.run(go())


def test_what_leaves_at_once_is_bounded_for_each_round() -> None:
    class Guest:
        woken = 0

        def notify(self) -> None:
            self.woken += 1

    async def go() -> None:
        exchange, guest = HttpExchange(most_out=1 << 24, patience=0), Guest()
        exchange.serve(guest)
        exchange.hand_on = lambda data: True
        body = exchange.response = ResponseBody()
        for _ in range(2):
            written = 0
            while (room := exchange.room(body)) > 0:
                exchange.write(body, bytes(min(room, len(LONG))))
                written += min(room, len(LONG))
            assert (written, len(body), exchange.stalled) == (1 << 20, 0, True)
            before = guest.woken
            await asyncio.sleep(0)  # others have their turn
            assert (guest.woken, exchange.stalled) == (before + 1, False)

    asyncio.run(go())


def test_writes_are_within_what_is_permitted() -> None:
    def test(exchange: HttpExchange) -> None:
        body = ResponseBody()
        stream = ResponseStream(exchange, body)
        exchange.answer(200, {}, body)
        assert stream.room() == RESPONSE_BOUND
        assert stream.write(bytes(RESPONSE_BOUND)) == Ok()
        assert (stream.ready(), exchange.stalled, exchange.full) == (False, True, True)
        with pytest.raises(CanonicalTrap, match="more is written than check-write permits"):
            stream.write(b"x")
        assert body.take_pieces(1000)
        assert (stream.ready(), exchange.stalled) == (True, False)
        with pytest.raises(OutputOverflow):
            stream.write(bytes(1 << 20))
        stream.closed = True
        assert stream.write(b"") == Err(("closed", None))

    on_loop(test)


def test_bodies_without_an_answer_share_one_bound() -> None:
    def test(exchange: HttpExchange) -> None:
        for _ in range(16):
            assert ResponseStream(exchange, ResponseBody()).write(bytes(RESPONSE_BOUND // 16)) == Ok()
        stream = ResponseStream(exchange, ResponseBody())
        assert (stream.room(), stream.ready(), exchange.stalled) == (0, False, False)
        with pytest.raises(CanonicalTrap):
            stream.write(b"x")

    on_loop(test)


@pytest.mark.parametrize(("length", "whole"), [(3, True), (2, False), (4, False)])
def test_answers_are_whole_with_their_length(length: int, whole: bool) -> None:
    def test(exchange: HttpExchange) -> None:
        body = ResponseBody()
        exchange.answer(200, {"content-length": str(length)}, body)
        assert not exchange.finished
        written = ResponseStream(exchange, body).write(b"abc")
        assert isinstance(written, Ok) == (length > 2)
        exchange.finish(body, None)
        assert exchange.finished is whole
        assert bool(exchange.broken) is not whole

    on_loop(test)


def test_bodies_that_are_too_long_before_the_answer_break_it() -> None:
    def test(exchange: HttpExchange) -> None:
        body = ResponseBody()
        exchange.write(body, b"abc")
        exchange.answer(200, {"content-length": "2"}, body)
        assert exchange.broken == "the body of its response has 3 bytes, and its content-length is 2"

    on_loop(test)


def test_other_bodies_do_not_end_the_answer() -> None:
    def test(exchange: HttpExchange) -> None:
        body, other = ResponseBody(), ResponseBody()
        exchange.answer(200, {"content-length": "2"}, body)
        exchange.finish(other, [("x", b"1")])
        assert not exchange.finished
        assert not exchange.broken
        exchange.write(body, b"ab")
        exchange.finish(body, None)
        assert exchange.finished

    on_loop(test)


@pytest.mark.parametrize(("status", "headers"), [(199, {}), (600, {}), (200, {"a b": "c"}), (200, {"a": "é\u0100"})])
def test_heads_are_checked(status: int, headers: dict[str, str | list[str]]) -> None:
    def test(exchange: HttpExchange) -> None:
        with pytest.raises(InvalidHead):
            exchange.answer(status, headers, ResponseBody())
        assert exchange.head is None

    on_loop(test)


def test_patience_without_a_bound_is_endless() -> None:
    def test(exchange: HttpExchange) -> None:
        assert exchange.patience == math.inf

    on_loop(test)


@pytest.mark.parametrize(
    ("trailers", "most_out"),
    [([("x", b"y" * 40_000)], 1 << 20), ([("x", b"y")] * 101, 1 << 20), ([("x", b"y" * 200)], 100)],
)
def test_trailers_are_bounded(trailers: list[tuple[str, bytes]], most_out: int) -> None:
    def finish(exchange: HttpExchange) -> None:
        body = ResponseBody()
        with pytest.raises(CanonicalTrap, match="of them"):
            exchange.finish(body, trailers)
        exchange.finish(body, [("x", b"y")])
        assert body.trailers == [("x", b"y")]

    on_loop(finish, most_out=most_out)
