"""Long bodies through a handler: read and written by C as far as Python lends that, and without it."""

from __future__ import annotations

import asyncio
import ctypes
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import JSON, add_function, config, run
from test_streaming import CHUNKED, LIMITS, Client, serving

from starlette_wasm.components import lent_streams
from starlette_wasm.components import module as module_
from starlette_wasm.components.handles import Handle, HandleTable
from starlette_wasm.components.http_exchange import HttpExchange, ResponseBody
from starlette_wasm.components.lent_streams import LentStreams
from starlette_wasm.components.quick_answers import Quick
from starlette_wasm.components.types import Resource
from starlette_wasm.components.wasi.exchange_streams import RequestStream, ResponseStream
from starlette_wasm.engine.native import library
from starlette_wasm.engine.native.component_state import HTTP_BODY, HttpState

WAYS = [pytest.param(True, marks=pytest.mark.native, id="by C"), pytest.param(False, id="by Python")]
RESOURCE = Resource("stream")
BUFFER = 256 << 10


@pytest.fixture
def wasm(tmp_path: Path) -> JSON:
    add_function(tmp_path, "stream", "components/http_stream")
    limits = LIMITS | {"maxRequestBytes": 4 << 20, "maxResponseBytes": 4 << 20, "executionTimeoutMs": 60_000}
    return config(tmp_path, {"/{rest:path}": {"functionName": "stream", "policy": "p"}}, policies={"p": limits})


@pytest.fixture
def by_c(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(module_, "native", library.native if request.param else None)
    return bool(request.param)


@pytest.fixture
def skipped(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many bytes C has read at a time."""
    found: list[int] = []
    skip = HttpExchange.skip

    def counted(self: HttpExchange, count: int) -> None:
        found.append(count)
        skip(self, count)

    monkeypatch.setattr(HttpExchange, "skip", counted)
    return found


def in_pieces(data: bytes) -> list[bytes]:
    """Of sizes around those of the queues, and single bytes."""
    sizes, pieces = (1, 65_536, 3, 262_144, 1_000, 300_001, 131_072), []
    at = 0
    while at < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
    return pieces


@pytest.mark.parametrize("by_c", WAYS, indirect=True)
def test_long_bodies_come_back_byte_for_byte(wasm: JSON, by_c: bool, skipped: list[int]) -> None:
    data = random.Random(7).randbytes(2_500_000)

    async def go() -> None:
        async with serving(wasm) as served:
            client = Client("/echo", "POST", CHUNKED)
            for piece in in_pieces(data):
                client.write(piece)
            client.write(b"", more=False)
            assert (await client.ask(served)).body == data
            assert client.whole

    run(go())
    assert sum(skipped) > len(data) // 2 if by_c else not skipped


@pytest.mark.parametrize("by_c", WAYS, indirect=True)
@pytest.mark.parametrize(
    ("path", "size", "status"), [("/declared/3000000", 3_000_000, 200), ("/download/4194305", 0, 502)]
)
@pytest.mark.usefixtures("by_c")
def test_bounds_hold_behind_what_is_lent(
    wasm: JSON, path: str, size: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            client = Client(path)
            if status == 200:
                assert len((await client.ask(served)).body) == size
                return
            with pytest.raises(Exception, match="more than 4194304 bytes"):
                await client.ask(served)
            assert client.status == 200  # the head had left, and the connection is cut
            assert len(client.body) <= 4 << 20
            assert not client.whole

    run(go())


def lent_to(table: HandleTable, stream: Any, lent: LentStreams, *kinds: Quick) -> int:
    index = table.add(Handle(RESOURCE, stream))
    for number, kind in enumerate(kinds):
        lent.note(kind, number, table, index)
    lent.lend()
    return index


def test_nothing_is_lent_of_a_stream_that_was_dropped() -> None:
    async def go() -> None:
        exchange, table = HttpExchange(most_out=1 << 20, patience=0), HandleTable()
        exchange.request.put(bytes(100_000))
        lent = LentStreams(exchange)
        index = lent_to(table, RequestStream(exchange), lent, Quick.READ)
        assert (lent.memory.left, list(lent.memory.numbers)) == (100_000, [1, 0, 0, 0])
        table.remove(index, RESOURCE)
        table.add(Handle(RESOURCE, object()))  # which has the same index
        lent.lend()
        assert lent.memory.left == 0

    asyncio.run(go())


def test_functions_of_another_stream_are_forgotten() -> None:
    async def go() -> None:
        exchange, table, other = HttpExchange(most_out=1 << 20, patience=0), HandleTable(), HandleTable()
        body = exchange.response = ResponseBody()
        stream = ResponseStream(exchange, body)
        stream.write(bytes(100_000))
        lent = LentStreams(exchange)
        lent_to(table, stream, lent, Quick.CHECK_WRITE, Quick.CHECK_WRITE, Quick.WRITE)
        assert (lent.memory.room, list(lent.memory.numbers)) == (stream.room(), [0, 2, 3, 0])
        index = other.add(Handle(RESOURCE, stream))
        lent.note(Quick.WRITE, 6, other, index)
        assert list(lent.memory.numbers) == [0, 0, 7, 0]

    asyncio.run(go())


def test_buffers_are_used_again_once_they_are_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lent_streams, "_buffers", [])

    async def go() -> None:
        exchange, table = HttpExchange(most_out=1 << 24, patience=0), HandleTable()
        exchange.response = ResponseBody()
        stream, lent = ResponseStream(exchange, exchange.response), LentStreams(exchange)
        kept: list[memoryview] = []
        seen: list[bytes] = []

        def hand_on(data: bytes | memoryview) -> bool:
            assert isinstance(data, memoryview)
            assert isinstance(data.obj, bytes)
            seen.append(data.obj[:8] + data.obj[-3:])
            if len(seen) > 2:
                kept.append(data[1:])
            return True

        def write(byte: bytes) -> int:
            lent.lend()
            at, size = lent.memory.to, lent.memory.room
            assert size == BUFFER
            ctypes.memset(at, byte[0], size)
            lent.memory.put = size
            lent.take_back()
            return int(at)

        exchange.write(exchange.response, bytes(100_000))
        exchange.response.take_pieces(100_000)
        exchange.hand_on = hand_on
        lent_to(table, stream, lent, Quick.WRITE)
        places = [write(byte) for byte in (b"a", b"b", b"c")]
        await asyncio.sleep(0)
        places.append(write(b"d"))
        assert places[0] == places[1] == places[2] != places[3]  # the transport has the third
        assert seen == [b"40000\r\n" + byte * 2 + b"\r\n" for byte in (b"a", b"b", b"c", b"d")]
        assert bytes(kept[0]) == b"c" * (BUFFER - 1)
        lent.close()
        assert lent_streams._buffers == []  # the fourth is kept too
        kept.clear()
        lent.lend()
        lent.close()
        lent.close()
        assert len(lent_streams._buffers) == 1
        assert (lent.memory.room, lent.memory.left) == (0, 0)
        other = LentStreams(exchange)
        lent_to(table, stream, other, Quick.WRITE)
        assert lent_streams._buffers == []

    asyncio.run(go())


def test_few_buffers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lent_streams, "_buffers", [])

    async def go() -> None:
        exchange, table = HttpExchange(most_out=1 << 24, patience=0), HandleTable()
        exchange.response = ResponseBody()
        stream, lent = ResponseStream(exchange, exchange.response), [LentStreams(exchange) for _ in range(6)]
        exchange.write(exchange.response, bytes(100_000))
        for each in lent:
            lent_to(table, stream, each, Quick.WRITE)
        for each in lent:
            each.close()

    asyncio.run(go())
    assert len(lent_streams._buffers) == lent_streams._MOST_BUFFERS


def test_what_c_has_of_a_body_is_read_without_numbers() -> None:
    state = HttpState()
    data = bytes(range(256)) * (HTTP_BODY // 256)
    ctypes.memmove(state.body, data, len(data))
    state.body_len = HTTP_BODY - 1
    tracemalloc.start()
    try:
        assert state.written == data[:-1]
        assert tracemalloc.get_traced_memory()[1] < 4 * HTTP_BODY
    finally:
        tracemalloc.stop()


def test_no_more_is_lent_than_may_be_written() -> None:
    async def go() -> None:
        exchange, table = HttpExchange(most_out=150_000, patience=0), HandleTable()
        body = exchange.response = ResponseBody()
        stream = ResponseStream(exchange, body)
        stream.write(bytes(100_000))
        lent = LentStreams(exchange)
        lent_to(table, stream, lent, Quick.WRITE)
        assert lent.memory.room == 50_000
        exchange.declared = 100_001
        lent.lend()
        assert lent.memory.room == 1
        stream.closed = True
        lent.lend()
        assert lent.memory.room == 0

    asyncio.run(go())
