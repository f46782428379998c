"""Hostile registries: answers without end, in single bytes, compressed, and challenges that are slow to read."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from starlette_wasm.functions.registry import bounded, client
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
        async with answering(answer) as reference, Client() as asking:
            return await asking.tags(reference)

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
        head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)

    with pytest.raises(RegistryError, match="did not answer with a JSON object"):
        tags(compressed)


@pytest.mark.parametrize("challenge", ["Bearer " + "a" * 8000, "Bearer " + "a" * 60_000, "Bearer " + "a =" * 2000])
def test_no_challenge_takes_long_to_read(challenge: str) -> None:
    async def main() -> None:
        async with httpx.AsyncClient() as http:
            begin = time.thread_time()
            with pytest.raises(RegistryError):
                await Authenticator(http).answer(Reference("registry.example", "a", "1"), "pull", challenge)
            assert time.thread_time() - begin < 10  # 40 s for the second one before

    asyncio.run(main())


def test_tokens_may_last_for_any_number_of_seconds() -> None:
    answer = httpx.Response(200, content=b'{"token": "t", "expires_in": 1%s}' % (b"0" * 400))
    assert _read_token(answer) == ("t", 86_400.0)


def of_head(head: str, body: str = "") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        length = f"content-length: {len(body)}\r\nconnection: close"
        writer.write(f"HTTP/1.1 {head}\r\n{length}\r\n\r\n{body}".encode())
        await writer.drain()

    return answer


@pytest.mark.parametrize("place", ["http://[::1", "http://127.0.0.1:99999/", "http://127.0.0.1:x/"])
@pytest.mark.parametrize(
    "head",
    [
        '401 Unauthorized\r\nwww-authenticate: Bearer realm="PLACE"',
        "302 Found\r\nlocation: PLACE",
        '200 OK\r\nlink: <PLACE>; rel="next"',
    ],
    ids=["realm", "redirect", "link"],
)
def test_an_address_that_is_none_is_an_error_of_the_registry(
    head: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "pause", lambda *_: asyncio.sleep(0))
    with pytest.raises(RegistryError):
        tags(of_head(head.replace("PLACE", place), '{"tags": []}'))


def test_redirects_in_circles_are_an_error_of_the_registry() -> None:
    with pytest.raises(RegistryError, match="leads to an address that cannot be used"):
        tags(of_head("302 Found\r\nlocation: /v2/x"))


def test_tags_that_are_none_are_none() -> None:
    assert tags(of_head("200 OK", '{"tags": 3}')) == []


def test_pages_of_tags_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MOST_TAGS", 5)
    with pytest.raises(RegistryError, match="has more than 5 tags"):
        tags(of_head('200 OK\r\nlink: </v2/shop/prices/tags/list>; rel="next"', '{"tags": ["1", "2"]}'))


DRIP = {
    "a head": b"HTTP/1.1 200 OK\r\n" + b"x-drip: 1\r\n" * 10_000,
    "a body": b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000,
    "a token": b'HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm="http://PLACE/token"\r\n'
    b"content-length: 0\r\n\r\n",
}
ASK: dict[str, Callable[[Client, Reference, Path], Awaitable[object]]] = {
    "manifest": lambda asking, reference, folder: asking.manifest(reference),
    "tags": lambda asking, reference, folder: asking.tags(reference),
    "exists": lambda asking, reference, folder: asking.exists(reference),
    "blob": lambda asking, reference, folder: asking.blob(reference, f"sha256:{'0' * 64}", 90_000, folder / "part"),
    "push": lambda asking, reference, folder: asking.push_blob(reference, b"x"),
}


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize("what", DRIP)
def test_an_answer_that_drips_has_a_total_time(
    what: str, ask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_LONGEST_SECONDS", 0.3)
    monkeypatch.setattr(client, "_LEAST_PACE", 1 << 30)
    place = ""

    async def drip(writer: asyncio.StreamWriter) -> None:
        answer = DRIP[what].replace(b"PLACE", place.encode())
        if what == "a token" and not asked:
            asked.append(what)
            writer.write(answer)
            await writer.drain()
            return
        for at in range(len(answer)):
            writer.write(answer[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0.01)

    asked: list[str] = []

    async def main() -> None:
        nonlocal place
        async with answering(drip) as reference, Client() as asking, asyncio.timeout(60):
            place = reference.host
            with pytest.raises(RegistryError, match="took more than 0 s"):
                await ASK[ask](asking, reference, tmp_path)

    asyncio.run(main())


@pytest.mark.parametrize("text", ['{"tags": [' + "1," * 30_000 + "1]}", '{"tags": %s}' % ("[" * 3000)])
def test_answers_of_many_parts_are_refused(text: str) -> None:
    """What json.loads() takes holds the event loop, in whatever thread it is called."""
    with pytest.raises(RegistryError, match="did not answer with a JSON object"):
        tags(of_head("200 OK", text))


def test_answers_that_drip_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is not waited for: what comes is too slow from the first byte on, and a head has no time at all."""
    monkeypatch.setattr(client, "pause", lambda *_: asyncio.sleep(0))
    with monkeypatch.context() as slow:
        slow.setattr(bounded, "_FREE_SECONDS", -1.0)
        slow.setattr(bounded, "_LEAST_PACE", 1 << 40)
        with pytest.raises(RegistryError, match="bytes a second"):
            tags(of_head("200 OK", '{"tags": []}'))
    monkeypatch.setattr(client, "_HEAD_SECONDS", 0.0)
    with pytest.raises(RegistryError, match="cannot be reached"):
        tags(of_head("200 OK", '{"tags": []}'))


def test_a_full_disk_is_said_and_not_left_full(tmp_path: Path) -> None:
    module = b"x" * 100_000

    async def main() -> None:
        async with answering(of_head("200 OK", module.decode())) as reference, Client() as asking:
            await asking.blob(reference, f"sha256:{'0' * 64}", len(module), tmp_path / "part")

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(RegistryError, match=r"part: cannot be written: File too large; check owner, mode and free"):
            asyncio.run(main())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (tmp_path / "part").stat().st_size == 0
