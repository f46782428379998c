"""Hostile registries: answers without end, in single bytes, compressed, and challenges that are slow to read."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from starlette_wasm.functions.registry.auth import Authenticator, _read_token
from starlette_wasm.functions.registry.bounded import MAX_ANSWER, BoundedStream
from starlette_wasm.functions.registry.client import Client
from starlette_wasm.functions.registry.errors import RegistryError
from starlette_wasm.functions.registry.reference import Reference


class Pieces(httpx.AsyncByteStream):
    """The same piece again and again, without waiting."""

    def __init__(self, piece: bytes) -> None:
        self._piece = piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield self._piece


async def read(piece: bytes, most: int) -> None:
    async for _ in BoundedStream(Pieces(piece), most, "registry"):
        pass


@pytest.mark.parametrize(
    ("piece", "most", "problem"),
    [(b"x" * 4096, 1 << 20, "sends more than 1048576 bytes"), (b"x", 64 << 20, "too small pieces")],
)
def test_answers_without_end_are_given_up(piece: bytes, most: int, problem: str) -> None:
    turns = 0

    async def main() -> None:
        nonlocal turns
        reading = asyncio.ensure_future(read(piece, most))
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        with pytest.raises(RegistryError, match=problem):
            await reading

    asyncio.run(main())
    assert turns > 10  # the event loop was not held


Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[Reference]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Reference(f"127.0.0.1:{port}", "shop/prices", "1")
    finally:
        server.close()


def tags(answer: Answer) -> list[str]:
    async def main() -> list[str]:
        async with answering(answer) as reference, Client() as client:
            return await client.tags(reference)

    return asyncio.run(main())


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found"])
def test_large_answers_are_not_kept(status: bytes) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    with pytest.raises(RegistryError, match=f"sends more than {MAX_ANSWER} bytes"):
        tags(endless)


def test_nothing_is_decompressed() -> None:
    async def compressed(writer: asyncio.StreamWriter) -> None:
        body = gzip.compress(json.dumps({"tags": ["1"]}).encode())
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    with pytest.raises(RegistryError, match="did not answer with a JSON object"):
        tags(compressed)


@pytest.mark.parametrize("challenge", ["Bearer " + "a" * 8000, "Bearer " + "a" * 60_000, "Bearer " + "a =" * 2000])
def test_no_challenge_takes_long_to_read(challenge: str) -> None:
    async def main() -> None:
        async with httpx.AsyncClient() as http:
            begin = time.thread_time()
            with pytest.raises(RegistryError):
                await Authenticator(http).answer(Reference("registry.example", "a", "1"), "pull", challenge)
            assert time.thread_time() - begin < 0.5  # 40 s for the second one before

    asyncio.run(main())


def test_tokens_may_last_for_any_number_of_seconds() -> None:
    answer = httpx.Response(200, content=b'{"token": "t", "expires_in": 1%s}' % (b"0" * 400))
    assert _read_token(answer) == ("t", 86_400.0)
