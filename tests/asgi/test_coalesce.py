"""What uvicorn writes to the socket for an answer of a function: one write, and the same bytes as ever."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from apps import add_constant, config, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from starlette_wasm import Call, WasmMiddleware, WasmRoute, wasm_endpoint, wasm_route
from starlette_wasm.asgi.coalesce import send_in_one_write

HTTP = {"httptools": HttpToolsProtocol, "h11": H11Protocol}
GET = b"GET %s HTTP/1.1\r\nhost: a\r\n\r\n"
LONG = b"x" * 20_000


class Counting:
    """A transport that counts what is written to it."""

    def __init__(self, transport: asyncio.Transport, writes: list[bytes]) -> None:
        self._transport = transport
        self._writes = writes

    def write(self, data: bytes) -> None:
        self._writes.append(bytes(data))
        self._transport.write(data)

    def writelines(self, parts: list[bytes]) -> None:
        self._writes.append(b"".join(parts))
        self._transport.writelines(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OwnReceive:
    """A middleware that hands on a function of its own in the place of ``receive``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def own() -> Any:
            return await receive()

        await self.app(scope, own, send)


@wasm_route("/handled/{x}", function="short")
async def handled(request: Request, call: Call) -> Response:
    response = await call(request)
    response.headers["x-by"] = "python"
    return response


def app_of(folder: Path, *outside: Middleware) -> Starlette:
    add_constant(folder, "short", b'{"status_code":200,"body":"ok"}')
    add_constant(folder, "long", b'{"status_code":200,"body":"%s"}' % LONG)
    add_constant(folder, "empty", b'{"status_code":204}')
    rules = {f"/{name}": name for name in ("short", "long", "empty", "exit3", "sleep_ms")}
    wasm = Middleware(WasmMiddleware, config=config(folder, rules), settings=settings())
    routes = [handled, Route("/endpoint", wasm_endpoint("short"), methods=["GET", "POST"]), Route("/native", _native)]
    return Starlette(routes=routes, middleware=[*outside, wasm])


async def _native(request: Request) -> Response:
    return PlainTextResponse("native")


@contextmanager
def serving(
    app: ASGIApp, http: str, loop: str = "asyncio", access_log: bool = False
) -> Iterator[tuple[int, list[bytes]]]:
    """The port of a uvicorn, and all that it writes."""
    writes: list[bytes] = []

    class Protocol(HTTP[http]):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(Counting(transport, writes))

    options: dict[str, Any] = {"http": Protocol, "loop": loop, "access_log": access_log}
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on", **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1], writes
    finally:
        server.should_exit = True
        thread.join(60)


def ask(port: int, request: bytes, answers: int = 1) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """Status, headers and body of the answers to what is sent on one connection."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(request)
        stream, found = connection.makefile("rb"), []
        for _ in range(answers):
            status = int(stream.readline().split()[1])
            headers = dict(line.rstrip().split(b": ", 1) for line in iter(stream.readline, b"\r\n"))
            found.append((status, headers, stream.read(int(headers.get(b"content-length", 0)))))
        return found


@pytest.mark.parametrize(("loop", "access_log"), [("asyncio", False), ("asyncio", True), ("uvloop", False)])
@pytest.mark.parametrize("http", HTTP)
def test_head_and_body_are_one_write(tmp_path: Path, http: str, loop: str, access_log: bool) -> None:
    with serving(app_of(tmp_path), http, loop, access_log) as (port, writes):
        for path, body in (
            (b"/short", b"ok"),
            (b"/handled/a", b"ok"),
            (b"/endpoint", b"ok"),
            (b"/long", LONG),
            (b"/empty", b""),
        ):
            writes.clear()
            ((status, headers, content),) = ask(port, GET % path)
            assert (status, content) == (200 if body else 204, body)
            assert [each for each in writes if each] == writes[:1], path
            assert writes[0].endswith(b"\r\n\r\n" + body)
            assert (headers.get(b"x-by") == b"python") == path.startswith(b"/handled")
        writes.clear()
        ((_, _, content),) = ask(port, GET % b"/native")  # the app's own routes are left alone
        assert content == b"native"
        assert len([each for each in writes if each]) == 2


@pytest.mark.parametrize("http", HTTP)
def test_answers_keep_their_order_and_connections_end_after_them(tmp_path: Path, http: str) -> None:
    with serving(app_of(tmp_path), http) as (port, _):
        paths = [b"/short", b"/native", b"/long", b"/exit3", b"/handled/a"]
        found = ask(port, b"".join(GET % path for path in paths), len(paths))
        assert [status for status, *_ in found] == [200, 200, 200, 500, 200]
        assert [found[at][2] for at in (0, 1, 2, 4)] == [b"ok", b"native", LONG, b"ok"]
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            connection.sendall(b"GET /long HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            whole = b"".join(iter(lambda: connection.recv(65536), b""))
        assert whole.endswith(b"\r\n\r\n" + LONG)


@pytest.mark.parametrize("http", HTTP)
def test_head_has_the_length_and_no_body(tmp_path: Path, http: str) -> None:
    with serving(app_of(tmp_path), http) as (port, writes):
        request = b"HEAD /short HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            connection.sendall(request)
            whole = b"".join(iter(lambda: connection.recv(65536), b""))
        assert whole.endswith(b"\r\n\r\n")
        assert b"content-length: 2" in whole
        assert b"".join(writes) == whole


@pytest.mark.parametrize("outside", [OwnReceive, GZipMiddleware])
def test_middleware_outside_sees_both_messages(tmp_path: Path, outside: Any) -> None:
    with serving(app_of(tmp_path, Middleware(outside)), "httptools") as (port, writes):
        ((status, headers, content),) = ask(port, GET % b"/short")
        assert (status, content, headers[b"content-length"]) == (200, b"ok", b"2")
        assert len(writes) == (2 if outside is OwnReceive else 1)


def answer_to(port: int, head: str, body: bytes = b"") -> tuple[bool, int]:
    """Whether ``100 Continue`` came first, and the status of the answer. The body is sent after the first line."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        stream = connection.makefile("rb")
        status = int(stream.readline().split()[1])
        if status != 100:
            return False, status
        connection.sendall(body)
        stream.readline()
        return True, int(stream.readline().split()[1])


@pytest.mark.parametrize("http", HTTP)
@pytest.mark.parametrize("path", ["/sleep_ms", "/short", "/route", "/handled/a", "/endpoint"])
def test_continue_is_sent_only_for_a_body_that_is_awaited(tmp_path: Path, http: str, path: str) -> None:
    head = f"{path}?ms=50 HTTP/1.1\nhost: a\nexpect: 100-continue\n"
    app = app_of(tmp_path)
    app.routes.append(WasmRoute("/route", function="sleep_ms"))
    with serving(app, http) as (port, _):
        assert answer_to(port, f"GET {head}\n") == (False, 200)
        assert answer_to(port, f"GET {head}content-length: 0\n\n") == (False, 200)
        assert answer_to(port, f"POST {head}content-length: 0\n\n") == (False, 200)
        assert answer_to(port, f"POST {head}content-length: 2\n\n", b"ok") == (True, 200)
        assert answer_to(port, f"POST {head}transfer-encoding: chunked\n\n", b"0\r\n\r\n") == (True, 200)
        assert answer_to(port, f"POST {head}content-length: 2000000\n\n") == (False, 413)


class Cycle:
    """As far as send_in_one_write() looks at what answers a request in uvicorn."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.on_response = lambda: None

    async def receive(self) -> Any:
        raise AssertionError


class Kept:
    def __init__(self) -> None:
        self.writes: list[Any] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.writes.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.writes


@pytest.fixture
def cycle() -> Cycle:
    uvicorns: type[Cycle] = type("RequestResponseCycle", (Cycle,), {"__module__": "uvicorn.protocols.http.h11_impl"})
    return uvicorns(Kept())


def test_what_was_sent_before_an_error_is_written(cycle: Cycle) -> None:
    transport = cycle.transport

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            assert transport.writes == []
            raise RuntimeError("shorter")
        cycle.transport.write(b"head")

    with pytest.raises(RuntimeError, match="shorter"):
        asyncio.run(send_in_one_write(cycle.receive, send, 200, [], b"body"))
    assert transport.writes == [b"head"]
    assert cycle.transport is transport


def test_a_connection_is_closed_behind_what_was_sent(cycle: Cycle) -> None:
    transport = cycle.transport

    async def send(message: Message) -> None:
        cycle.transport.write(message["type"][-4:].encode())
        if message["type"] == "http.response.body":
            assert not cycle.transport.is_closing()
            cycle.transport.close()
            assert cycle.transport.is_closing()

    asyncio.run(send_in_one_write(cycle.receive, send, 200, [], b"body"))
    assert transport.writes == [b"tartbody", "closed"]


def test_nothing_is_held_for_another_server() -> None:
    cycle = Cycle(Kept())
    transport = cycle.transport

    async def send(message: Message) -> None:
        assert cycle.transport is transport

    asyncio.run(send_in_one_write(cycle.receive, send, 200, [], b"body"))


def test_nothing_is_written_to_a_client_that_has_gone_meanwhile(cycle: Cycle) -> None:
    transport = cycle.transport

    async def send(message: Message) -> None:
        cycle.transport.write(b"part")
        if message["type"] == "http.response.body":
            transport.close()

    asyncio.run(send_in_one_write(cycle.receive, send, 200, [], b"body"))
    assert transport.writes == ["closed"]


def test_an_answer_comes_before_the_next_request_is_looked_at(tmp_path: Path) -> None:
    """h11 looks at what is pipelined while the end of an answer is sent."""
    with serving(app_of(tmp_path), "h11") as (port, _):
        first, second = ask(port, GET % b"/short" + b"\0garbage\r\n\r\n", 2)
    assert (first[0], first[2]) == (200, b"ok")
    assert second[0] == 400


def test_the_next_request_begins_with_nothing_held(cycle: Cycle) -> None:
    transport, seen = cycle.transport, []
    cycle.on_response = lambda: seen.append((list(transport.writes), cycle.transport is transport))

    async def send(message: Message) -> None:
        cycle.transport.write(b"part")
        if message["type"] == "http.response.body":
            cycle.on_response()

    asyncio.run(send_in_one_write(cycle.receive, send, 200, [], b"body"))
    assert seen == [([b"partpart"], True)]
    assert transport.writes == [b"partpart"]
