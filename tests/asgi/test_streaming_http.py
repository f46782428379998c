"""Streamed requests over uvicorn: what the client sees of a whole answer, and of one that is cut."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from apps import add_function, app, config

POLICY = {"executionTimeoutMs": 30_000, "maxRequestBytes": 1 << 24, "maxResponseBytes": 1 << 24}


@pytest.fixture(params=["asyncio", "uvloop"])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    add_function(tmp_path, "stream", "components/http_stream")
    rule = {"functionName": "stream", "policy": "p"}
    served = app(config(tmp_path, {"/{rest:path}": rule}, policies={"p": POLICY}))
    server = uvicorn.Server(uvicorn.Config(served, port=0, loop=request.param, log_level="critical", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(60)


def exchange(port: int, head: bytes, *pieces: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(head.replace(b"\n", b"\r\n") + b"Host: h\r\nConnection: close\r\n\r\n")
        for piece in pieces:
            connection.sendall(piece)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def chunked(body: bytes) -> list[bytes]:
    parts = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    return [*(b"%x\r\n%b\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]


def dechunked(data: bytes) -> tuple[bytes, bool]:
    """The body, and whether it has ended."""
    body = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        if int(size, 16) == 0:
            return body, True
        body += rest[: int(size, 16)]
        data = rest[int(size, 16) + 2 :]
    return body, False


def test_large_bodies_pass_both_ways(port: int) -> None:
    body = bytes(range(256)) * 12_000
    answer = exchange(port, b"POST /echo HTTP/1.1\nTransfer-Encoding: chunked\n", *chunked(body))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert dechunked(rest) == (body, True)


def test_long_answers_come_whole(port: int) -> None:
    head, _, chunks = exchange(port, b"GET /download/3000000 HTTP/1.1\n").partition(b"\r\n\r\n")
    declared, _, body = exchange(port, b"GET /declared/3000000 HTTP/1.1\n").partition(b"\r\n\r\n")
    assert (b"transfer-encoding: chunked" in head, b"content-length: 3000000" in declared) == (True, True)
    assert len(body) == 3_000_000
    assert dechunked(chunks) == (body, True)


def test_cut_answers_do_not_end(port: int) -> None:
    head, _, rest = exchange(port, b"GET /trap/200 HTTP/1.1\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert dechunked(rest) == (b"begun", False)
