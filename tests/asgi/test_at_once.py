"""A request that goes from uvicorn's scope to its transport in one step is answered as through ASGI's messages."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from apps import config, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.asgi import coalesce, direct_write
from starlette_wasm.asgi.direct_write import write
from starlette_wasm.engine.native.library import native

needs_c = pytest.mark.skipif(native is None, reason="only C writes at once")
ID = b"host: a\r\nx-request-id: id-1\r\n"
BODY = b'{"a": "\xc3\xa9\\n"}'
LENGTH = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(BODY)
POST = b"POST /echo?a=1 HTTP/1.1\r\n" + ID + LENGTH + b"\r\n" + BODY
GET = b"GET /echo/b?c=%20d HTTP/1.1\r\n" + ID + b"\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\n" + ID + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
EXPECTING = b"POST /echo HTTP/1.1\r\n" + ID + LENGTH + b"expect: 100-continue\r\n\r\n"
LARGE = b"POST /echo HTTP/1.1\r\n" + ID + b"content-length: 100000\r\n\r\n" + b"x" * 100_000
TOO_LARGE = b"POST /echo HTTP/1.1\r\n" + ID + b"content-length: 99999999\r\n\r\n"
CASES: dict[str, list[bytes]] = {
    "get": [GET],
    "post": [POST],
    "post in pieces": [POST[:20], POST[20:-5], POST[-5:]],
    "chunked": [CHUNKED],
    "chunked in pieces": [CHUNKED[:-12], CHUNKED[-12:-3], CHUNKED[-3:]],
    "pipelined": [GET + POST + GET + CHUNKED + POST],
    "one after the other": [POST, GET, CHUNKED, POST],
    "expecting": [EXPECTING, BODY],
    "expecting, with the body": [EXPECTING + BODY],
    "head": [GET.replace(b"GET", b"HEAD"), GET],
    "put without a body": [b"PUT /echo HTTP/1.1\r\n" + ID + b"content-length: 0\r\n\r\n"],
    "closing": [POST.replace(b"host", b"connection: close\r\nhost")],
    "HTTP/1.0": [GET.replace(b"1.1", b"1.0")],
    "upgrade to nothing": [GET.replace(b"host", b"connection: upgrade\r\nupgrade: h2c\r\nhost")],
    "large": [LARGE[:70_000], LARGE[70_000:]],
    "large at once": [LARGE],
    "too large": [TOO_LARGE],
    "not found": [GET.replace(b"/echo", b"/none")],
}


class Transport(asyncio.Transport):
    """What a client of a connection gets."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def answers(app: ASGIApp, pieces: Sequence[bytes], count: int) -> tuple[bytes, bool]:
    """Return what is written for requests that come in pieces, and whether the connection is closed."""
    served = Config(app, lifespan="off", log_config=None)
    served.load()
    state = ServerState()
    state.default_headers = [(b"server", b"uvicorn")]
    protocol = HttpToolsProtocol(served, state, {}, asyncio.get_running_loop())
    transport = Transport()
    protocol.connection_made(transport)
    for piece in pieces:
        protocol.data_received(piece)
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        while state.total_requests < count or state.tasks:
            await asyncio.sleep(0.005)
    found = bytes(transport.written), transport.closed
    transport.close()
    protocol.connection_lost(None)
    await asyncio.sleep(0)
    return found


async def compared(
    app: ASGIApp, pieces: Sequence[bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[bytes, bool, list[object]]]:
    """Return what a client and the access log get at once, and through messages."""
    count = len(re.findall(rb" HTTP/1\.[01]\r\n", b"".join(pieces)))
    found = []
    for lines in (None, {RequestResponseCycle: {}}):
        if lines is not None:
            monkeypatch.setattr(direct_write, "_status_lines", lines)
        caplog.clear()
        with caplog.at_level(logging.INFO, "uvicorn.access"):
            written, closed = await answers(app, pieces, count)
        found.append((written, closed, [each.args for each in caplog.records if each.name == "uvicorn.access"]))
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_client_gets_the_same_at_once(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with WasmRuntime(config(tmp_path, {"/echo": "echo"}), settings()) as runtime:
            app = Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])
            at_once, in_messages = await compared(app, CASES[name], caplog, monkeypatch)
        assert at_once == in_messages
        assert at_once[0].startswith(b"HTTP/1.1 ")

    asyncio.run(run())


@needs_c
@pytest.mark.parametrize("name", ["get", "post", "chunked", "pipelined"])
def test_a_warm_function_answers_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def seen(*given: Any) -> None:
        written.append(given[1])
        write(*given)

    monkeypatch.setattr(coalesce, "write", seen)
    pieces = CASES[name]
    count = b"".join(pieces).count(b" HTTP/1.1\r\n")

    async def run() -> None:
        async with WasmRuntime(config(tmp_path, {"/echo": "echo"}), settings()) as runtime:
            app = Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])
            for _ in range(50):  # a busy machine may keep a guest from ending at once
                written.clear()
                await answers(app, pieces, count)
                if written:
                    break
        assert set(written) == {200}

    asyncio.run(run())
