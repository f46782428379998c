"""A client that closes its connection frees its guest."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from apps import config_file
from processes import Server


@pytest.fixture(scope="module")
def server(serve: Callable[..., Server], folder: Path) -> Server:
    config_file(
        folder,
        {
            "/hello": "hello",
            "/spin": {"functionName": "spin", "policy": "long"},
            "/sleep": {"functionName": "sleep60", "policy": "long"},
            "/narrow": {"functionName": "sleep60", "policy": "narrow"},
        },
        policies={
            "long": {"executionTimeoutMs": 600_000},
            "narrow": {"executionTimeoutMs": 600_000, "maxConcurrency": 1, "queueTimeoutMs": 600_000},
        },
        exposeEndpoints=True,
    )
    return serve(folder, STARLETTE_WASM_BODY_TIMEOUT_MS="1000")


def disconnected(server: Server) -> int:
    return int(server.stats().get("gone", 0))


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("path", ["/spin", "/sleep", "/route/spin", "/route/sleep", "/endpoint/spin", "/handler/spin"])
def test_a_closed_connection_frees_the_guest(server: Server, path: str, reset: bool) -> None:
    before = disconnected(server)
    connection = server.ask(path)
    server.wait(lambda: server.stats()["live"] == 1, 60)
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    server.wait(lambda: server.stats()["running"] == server.stats()["live"] == server.stats()["busy"] == 0, 60)
    assert disconnected(server) == before + 1
    assert server.get("/hello").text == "hello"


def test_a_closed_connection_leaves_the_queue(server: Server) -> None:
    first, second, third = (server.ask("/narrow") for _ in range(3))
    server.wait(lambda: server.stats()["running"] == 3, 60)
    second.close()
    server.wait(lambda: server.stats()["running"] == 2, 60)
    first.close()
    server.wait(lambda: server.stats()["running"] == 1, 60)
    server.wait(lambda: server.stats()["live"] == 1, 60)
    third.close()
    server.wait(lambda: server.stats()["running"] == 0, 60)


def test_a_half_sent_body_is_given_up(server: Server) -> None:
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(b"POST /spin HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\nhalf")
    connection.close()
    assert server.get("/hello").text == "hello"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/hello"), ("GET", "/hello"), ("POST", "/route/spin"), ("GET", "/endpoint/spin")]
)
def test_a_body_that_does_not_come_is_a_408_and_the_end_of_the_connection(
    server: Server, method: str, path: str
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\nhalf".encode())
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head
    problem = json.loads(body)
    assert (problem["type"], problem["status"]) == ("request-timeout", 408)


def test_a_large_body_is_refused_before_it_is_sent_whole(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"POST /hello HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        for _ in range(17):  # 1 MiB and 64 KiB, and the end never comes
            connection.sendall(chunk)
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_nobody_logs_an_error_for_that(server: Server) -> None:
    """Not even where Starlette's BaseHTTPMiddleware is outside."""
    assert "Traceback" not in server.log
    assert "ERROR" not in server.log
