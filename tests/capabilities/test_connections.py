"""Connections to upstreams: whose they are, when they are used again, and how much of the loop's time they take."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from capability_guest import Guest
from capability_servers import Answer, Received, Upstream, ok
from test_fetch import OPEN, forever, nothing_open, system_certificates

from starlette_wasm.capabilities import Capabilities, CapabilitySettings
from starlette_wasm.capabilities.http import pool
from starlette_wasm.sync.pace import SLICE, Pace

pytestmark = pytest.mark.anyio

OTHER = OPEN.model_copy(update={"name": "other"})
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def fetching() -> AsyncIterator[Capabilities]:
    there = Capabilities(CapabilitySettings(), ssl_context=system_certificates())
    try:
        yield there
    finally:
        await there.close()


async def test_a_connection_is_of_one_function_and_policy(upstream: Upstream) -> None:
    async with fetching() as there:
        for policy, function in [(OPEN, "a"), (OPEN, "b"), (OTHER, "a")] * 2:
            guest = Guest(there, policy, function=function)
            assert (await guest("http.fetch", url=upstream.origin))[1] == b"hello"
        assert upstream.connections == 3


async def test_a_policy_that_changes_has_new_connections(upstream: Upstream) -> None:
    async with fetching() as there:
        for policy in (OPEN, OPEN.model_copy(update={"max_network_requests": 11})):
            await Guest(there, policy)("http.fetch", url=upstream.origin)
        assert upstream.connections == 2


@pytest.mark.parametrize(
    ("method", "body", "answer", "kept"),
    [
        ("GET", b"", ok(b"x"), True),
        ("GET", b"GET /stolen HTTP/1.1\r\nx: ", ok(b"x"), False),
        ("HEAD", b"x", ok(), False),
        ("DELETE", b"x", ok(b"x"), False),
        ("POST", b"x", ok(b"x"), True),
        ("PUT", b"", ok(b"x"), True),
        ("POST", b"x", ok(b"x", status="404 Not Found"), False),
        ("POST", b"", ok(b"x", status="404 Not Found"), True),
        ("GET", b"", ok(b"x", "Connection: close"), False),
        ("GET", b"", b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", False),
        ("HEAD", b"", ok(b"HTTP/1.1 200 OK\r\n\r\n"), False),
        ("GET", b"", b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", False),
        ("GET", b"", b"HTTP/1.1 304 Not Modified\r\n\r\nx", False),
        ("GET", b"", ok(b"x") + ok(b"of nobody"), False),
        ("GET", b"", CHUNKED + b"1\r\nx\r\n0\r\n\r\n", True),
        ("GET", b"", CHUNKED + b"1\r\nx\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", False),
        ("GET", b"", CHUNKED + b"1\r\nx\r\n0\r\nx: y\r\n\r\n", True),
        ("GET", b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok(b"x"), True),
    ],
)
async def test_a_connection_is_kept(method: str, body: bytes, answer: bytes, kept: bool, upstream: Upstream) -> None:
    upstream.answers["/a"] = answer
    async with fetching() as there:
        header, _ = await Guest(there, OPEN)("http.fetch", body, method=method, url=f"{upstream.origin}/a")
        assert header["ok"], header
        _, out = await Guest(there, OPEN)("http.fetch", url=f"{upstream.origin}/b")
        assert out == b"hello"
    assert upstream.connections == (1 if kept else 2)


async def test_bytes_that_come_late_close_an_idle_connection(upstream: Upstream) -> None:
    async def late(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"x"))
        await writer.drain()
        await asyncio.sleep(0.05)
        with suppress(ConnectionError):
            writer.write(ok(b"of nobody"))
            await writer.drain()

    upstream.answers["/a"] = late
    async with fetching() as there:
        await Guest(there, OPEN)("http.fetch", url=f"{upstream.origin}/a")
        await nothing_open(upstream)
        assert (await Guest(there, OPEN)("http.fetch", url=f"{upstream.origin}/b"))[1] == b"hello"


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    ("method", "sent"), [("GET", 2), ("HEAD", 2), ("PUT", 2), ("DELETE", 2), ("POST", 1), ("PATCH", 1)]
)
async def test_a_request_that_an_idle_connection_lost_is_sent_again(
    method: str, sent: int, reset: bool, upstream: Upstream
) -> None:
    """The upstream closes a connection just as it is used again: only what may be repeated is."""
    async with fetching() as there:
        guest = Guest(there, OPEN)
        await guest("http.fetch", url=f"{upstream.origin}/a")
        upstream.answers["/b"] = losing(upstream, reset=reset)
        header, _ = await guest("http.fetch", method=method, url=f"{upstream.origin}/b")
    assert header["ok"] is (sent == 2), header
    assert [each.target for each in upstream.received] == ["/a"] + ["/b"] * sent
    assert upstream.connections == sent


def losing(upstream: Upstream, begun: bytes = b"", *, reset: bool = False, times: int = 1) -> Answer:
    """Return an answer that breaks off and ends the connection; after so many times, the usual one is given."""
    left = times

    async def lose(request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        left -= 1
        if not left:
            del upstream.answers[request.target]
        writer.write(begun)
        await writer.drain()
        if reset:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        writer.close()

    return lose


@pytest.mark.parametrize(
    ("idle", "begun", "times", "sent"), [(True, b"", 2, 2), (True, b"HTTP/1.1 2", 1, 1), (False, b"", 1, 1)]
)
async def test_a_request_is_not_sent_again(idle: bool, begun: bytes, times: int, sent: int, upstream: Upstream) -> None:
    """It was lost twice, or its answer has begun, or the connection was new."""
    async with fetching() as there:
        guest = Guest(there, OPEN)
        if idle:
            await guest("http.fetch", url=f"{upstream.origin}/a")
        upstream.answers["/b"] = losing(upstream, begun, times=times)
        header, _ = await guest("http.fetch", url=f"{upstream.origin}/b")
    assert header["error"]["code"] == "upstream-failed"
    assert [each.target for each in upstream.received] == ["/a"] * idle + ["/b"] * sent


class Hasty(Upstream):
    """Answers to a head, and takes what follows it for the next one."""

    async def _read(self, reader: asyncio.StreamReader) -> Received:
        with suppress(asyncio.LimitOverrunError):
            method, target, _ = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode().split(" ")
            return Received(method, target, [], b"", reader)
        raise ConnectionError("a body")


async def test_an_answer_before_the_body_is_sent_ends_it() -> None:
    with Hasty() as upstream:
        async with fetching() as there:
            guest = Guest(there, OPEN)
            header, _ = await guest("http.fetch", bytes(30 << 20), method="POST", url=upstream.origin)
            assert header["ok"] or header["error"]["code"] == "upstream-failed"  # reset, if that came first
            assert (await guest("http.fetch", url=upstream.origin))[1] == b"hello"
        assert [each.method for each in upstream.received] == ["POST", "GET"]
        assert upstream.connections == 2


async def test_idle_connections_are_bounded(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MOST_IDLE", 12)

    async def slowly(request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(ok(b"x"))

    upstream.answers["/a"] = slowly
    async with fetching() as there:

        async def fetch(function: str, many: int) -> None:
            each = (
                Guest(there, OPEN, function=function)("http.fetch", url=f"{upstream.origin}/a") for _ in range(many)
            )
            assert all(header["ok"] for header, _ in await asyncio.gather(*each))

        await fetch("a", 20)
        await until_open(upstream, 8)
        await fetch("b", 3)
        await fetch("c", 3)
        await until_open(upstream, 12)
        upstream.connections = 0
        await fetch("b", 3)
        await fetch("c", 3)
        assert upstream.connections == 0  # the one with the most has lost its oldest


async def until_open(upstream: Upstream, many: int) -> None:
    until = time.monotonic() + 60
    while upstream.open != many:
        assert time.monotonic() < until, upstream.open
        await asyncio.sleep(0.005)


async def test_what_is_gone_loses_its_connections(upstream: Upstream) -> None:
    async with fetching() as there:
        for function in "ab":
            await Guest(there, OPEN, function=function)("http.fetch", url=upstream.origin)
        there.keep([there.grants(OPEN, "b")])
        await until_open(upstream, 1)
        await Guest(there, OPEN, function="b")("http.fetch", url=upstream.origin)
        assert upstream.connections == 2
        there.keep([])
        await nothing_open(upstream)


ENDLESS: dict[str, tuple[Any, str]] = {
    "informational": (forever(b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 1000), "upstream-failed"),
    "chunks": (forever(CHUNKED, b"1\r\nx\r\n" * 5000), "too-large"),
    "extensions": (forever(CHUNKED, b"1;a=b\r\nx\r\n" * 5000), "too-large"),
    "head": (forever(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 2000), "upstream-failed"),
    "trailers": (forever(CHUNKED + b"0\r\n", b"x: y\r\n" * 2000), "upstream-failed"),
    "body": (forever(b"HTTP/1.1 200 OK\r\n\r\n", bytes(65536)), "too-large"),
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_an_endless_answer_leaves_the_loop_free(kind: str, upstream: Upstream) -> None:
    upstream.answers["/"], code = ENDLESS[kind]
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            begin = time.thread_time()  # of CPU: a busy machine may keep the loop from running
            await asyncio.sleep(0.001)
            worst = max(worst, time.thread_time() - begin)

    async with fetching() as there:
        watcher = asyncio.create_task(watch())
        errors = await asyncio.gather(
            *(Guest(there, OPEN, seconds=120).error("http.fetch", url=upstream.origin) for _ in range(16))
        )
        watcher.cancel()
        assert {each[0] for each in errors} == {code}
        assert worst < 0.2  # it was seconds
        await nothing_open(upstream)


async def test_many_small_chunks_are_met_by_the_deadline(upstream: Upstream) -> None:
    upstream.answers["/"] = forever(CHUNKED, b"1\r\nx\r\n" * 5000)
    async with fetching() as there:
        began = time.monotonic()
        guests = [Guest(there, OPEN, seconds=0.3) for _ in range(32)]
        errors = await asyncio.gather(*(guest.error("http.fetch", url=upstream.origin) for guest in guests))
        assert {each[0] for each in errors} <= {"timeout", "too-large"}
        assert time.monotonic() - began < 30


async def test_tenants_take_turns_at_parsing() -> None:
    """One with many readers does not put off another with one."""
    pace, order = Pace(), list[str]()

    async def spend() -> None:
        pace.spend(time.perf_counter() - SLICE)

    async def read(tenant: str) -> None:
        await pace.turn(tenant)
        order.append(tenant)

    tasks = [asyncio.create_task(spend()), *(asyncio.create_task(read("many")) for _ in range(20))]
    cancelled = asyncio.create_task(read("gone"))
    tasks.append(asyncio.create_task(read("one")))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(*tasks)
    assert order.index("one") <= 2
    assert order.count("many") == 20
