"""An answer written at once: the same bytes and the same state as through uvicorn's ``send``, or nothing is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import RequestResponseCycle as H11Cycle
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from starlette_wasm.asgi import direct_write
from starlette_wasm.asgi.direct_write import JOINED, body_of, cycle_behind, send_at_once, take_body, write_at_once
from starlette_wasm.engine.native.library import native

needs_c = pytest.mark.skipif(native is None, reason="only C writes at once")
TEXT = [(b"content-type", b"text/plain"), (b"content-length", b"5")]


class Transport:
    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.parts.append(bytes(data))

    def close(self) -> None:
        self.parts.append(b"<closed>")

    def is_closing(self) -> bool:
        return self.closing


def cycle_of(kind: type = RequestResponseCycle, **changed: Any) -> Any:
    transport = Transport()
    given: dict[str, Any] = {
        "scope": {"type": "http", "method": "GET", "path": "/", "http_version": "1.1", "headers": []},
        "transport": transport,
        "flow": FlowControl(transport),  # type: ignore[arg-type]
        "logger": logging.getLogger("uvicorn.error"),
        "access_logger": logging.getLogger("uvicorn.access"),
        "access_log": False,
        "default_headers": [(b"server", b"uvicorn")],
        "message_event": asyncio.Event(),
        "expect_100_continue": False,
        "keep_alive": True,
        "on_response": lambda: transport.parts.append(b"<done>"),
    }
    return kind(**(given | changed))


def state(cycle: Any) -> dict[str, Any]:
    held = {name: value for name, value in vars(cycle).items() if name not in ("flow", "on_response", "transport")}
    return held | {"message_event": cycle.message_event.is_set(), "written": b"".join(cycle.transport.parts)}


async def send_both(send: Send, status: int, headers: Any, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@needs_c
@pytest.mark.parametrize("body", [b"hello", b"", bytes(JOINED), bytes(JOINED + 1), bytes(200_000)])
def test_bytes_are_those_of_uvicorn(body: bytes) -> None:
    ours, theirs = cycle_of(), cycle_of()
    headers = [(b"content-length", b"%d" % len(body)), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=\xe9")]
    assert write_at_once(ours.receive, ours.send, 201, headers, body)
    asyncio.run(send_both(theirs.send, 201, headers, body))
    assert state(ours) == state(theirs)
    assert len(ours.transport.parts) == (3 if len(body) > JOINED else 2)


NAMES = [
    b"a",
    b"x-b",
    b"X-Upper",
    b"content-length",
    b"connection",
    b"transfer-encoding",
    b"date",
    b"",
    b"a b",
    b"\xe9",
]
VALUES = [b"", b"1", b"5", b"05", b"close", b"chunked", b"a\tb", b"\xff", b"a\r\nb", b"\0", b"-1", b"5, 5"]


@needs_c
@given(
    st.sampled_from([200, 204, 205, 304, 404, 599, 999]),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4),
    st.sampled_from([b"", b"h", b"hello"]),
    st.sampled_from(["GET", "HEAD"]),
    st.booleans(),
)
def test_whatever_is_answered_is_as_ever(
    status: int, more: list[tuple[bytes, bytes]], body: bytes, method: str, announced: bool
) -> None:
    headers = [(b"content-length", b"%d" % len(body)), *more] if announced else more
    scope = {"type": "http", "method": method, "path": "/", "http_version": "1.1", "headers": []}
    ours, theirs, untouched = cycle_of(scope=scope), cycle_of(scope=scope), cycle_of(scope=scope)
    if write_at_once(ours.receive, ours.send, status, headers, body):
        asyncio.run(send_both(theirs.send, status, headers, body))
        assert state(ours) == state(theirs)
    else:
        assert state(ours) == state(untouched)


@needs_c
@pytest.mark.parametrize(
    "changed",
    [
        {"keep_alive": False},
        {"disconnected": True},
        {"response_started": True},
        {"default_headers": [(b"connection", b"close")]},
        {"default_headers": [(b"content-length", b"5")]},
        {"default_headers": [[b"a", b"b"]]},
    ],
    ids=str,
)
def test_what_uvicorn_has_rules_for_is_left_to_it(changed: dict[str, Any]) -> None:
    cycle = cycle_of()
    for name, value in changed.items():
        setattr(cycle, name, value)
    before = state(cycle)
    assert not write_at_once(cycle.receive, cycle.send, 200, TEXT, b"hello")
    assert state(cycle) == before


@needs_c
def test_a_client_that_does_not_read_is_waited_for() -> None:
    paused, closing = cycle_of(), cycle_of()
    paused.flow.pause_writing()
    closing.transport.closing = True
    for cycle in (paused, closing):
        assert not write_at_once(cycle.receive, cycle.send, 200, TEXT, b"hello")
        assert cycle.transport.parts == []


@needs_c
def test_a_server_that_answers_differently_is_not_used() -> None:
    class Other(RequestResponseCycle):
        async def send(self, message: Any) -> None:
            await super().send(message)
            self.seen = message["type"]

    Other.__module__ = RequestResponseCycle.__module__
    cycle = cycle_of(Other)
    assert not write_at_once(cycle.receive, cycle.send, 200, TEXT, b"hello")
    assert cycle.transport.parts == []
    of_h11 = object.__new__(H11Cycle)
    of_h11.transport, of_h11.on_response = cycle.transport, cycle.on_response
    assert not write_at_once(of_h11.receive, of_h11.send, 200, TEXT, b"hello")


@needs_c
def test_a_function_around_send_sees_both_messages() -> None:
    cycle, seen = cycle_of(), []

    async def watching(message: Message) -> None:
        seen.append(message["type"])
        await cycle.send(message)

    other = cycle_of()
    for send in (watching, other.send, cycle.receive):
        assert not write_at_once(cycle.receive, send, 200, TEXT, b"hello")
    assert seen == []
    assert cycle.transport.parts == []


def test_nothing_is_done_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_write, "native", None)
    monkeypatch.setattr(direct_write, "_status_lines", {})
    cycle = cycle_of()
    assert not write_at_once(cycle.receive, cycle.send, 200, TEXT, b"hello")
    assert cycle.transport.parts == []


@needs_c
@pytest.mark.parametrize("status", [200, 404])
def test_access_log_has_lines_of_uvicorn(status: int, caplog: pytest.LogCaptureFixture) -> None:
    lines = []
    scope = {"type": "http", "method": "GET", "path": "/a b/\xe9", "query_string": b"q=%20", "http_version": "1.1"}
    for write in (write_at_once, None):
        cycle = cycle_of(scope=scope | {"client": ("192.0.2.1", 5), "headers": []}, access_log=True)
        with caplog.at_level(logging.INFO, "uvicorn.access"):
            if write is not None:
                assert write(cycle.receive, cycle.send, status, TEXT, b"hello")
            else:
                asyncio.run(send_both(cycle.send, status, TEXT, b"hello"))
        lines.append([(each.name, each.levelno, each.msg, each.args) for each in caplog.records])
        caplog.clear()
    assert len(lines[0]) == 1
    assert lines[0] == lines[1]


@needs_c
def test_a_body_is_read_as_receive_reads_it() -> None:
    ours, theirs = cycle_of(), cycle_of()
    for cycle in (ours, theirs):
        cycle.body += b"abc"
        cycle.more_body = False
        cycle.message_event.set()
    assert body_of(ours, ours.receive) == b"abc"
    assert state(ours) == state(theirs)
    take_body(ours)
    assert asyncio.run(theirs.receive()) == {"type": "http.request", "body": b"abc", "more_body": False}
    assert state(ours) == state(theirs)
    assert body_of(ours, ours.receive) is None, "receive would wait now"


@needs_c
def test_a_body_that_is_not_there_is_waited_for() -> None:
    async def other() -> Message:
        return {}

    for changed in ({"more_body": True}, {"waiting_for_100_continue": True}, {}):
        cycle = cycle_of()
        cycle.more_body = False
        if changed:
            cycle.message_event.set()
        for name, value in changed.items():
            setattr(cycle, name, value)
        assert body_of(cycle, cycle.receive) is None, changed
    cycle.message_event.set()
    assert body_of(cycle, other) is None
    assert body_of(cycle, cycle.receive) == b""


@needs_c
def test_a_server_that_reads_differently_is_not_used() -> None:
    class Other(RequestResponseCycle):
        async def receive(self) -> Any:
            return {**await super().receive(), "more": 1}

    Other.__module__ = RequestResponseCycle.__module__
    cycle = cycle_of(Other)
    assert not write_at_once(cycle.receive, cycle.send, 200, TEXT, b"hello")
    assert cycle.transport.parts == []


Answer = Callable[[Any, Send], Awaitable[None]]


def app_of(answer: Answer, cycle: Any) -> ASGIApp:
    """Make an app whose route answers by ``answer``, and then fails."""

    class Answering(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await answer(cycle, send)
            raise ValueError("behind the answer")

    async def endpoint(request: Request) -> Response:
        return Answering()

    return ServerErrorMiddleware(Starlette(routes=[Route("/", endpoint)]))


@needs_c
def test_starlette_knows_that_an_answer_has_begun() -> None:
    """What fails behind an answer must not be answered once more."""

    async def at_once(cycle: Any, send: Send) -> None:
        assert write_at_once(cycle.receive, send, 200, TEXT, b"hello")

    async def in_two(cycle: Any, send: Send) -> None:
        await send_both(send, 200, TEXT, b"hello")

    found = []
    for answer in (at_once, in_two):
        cycle = cycle_of()
        scope = {**cycle.scope, "query_string": b"", "root_path": ""}
        with pytest.raises(ValueError, match="behind the answer"):
            asyncio.run(app_of(answer, cycle)(scope, cycle.receive, cycle.send))
        found.append(state(cycle))
    assert found[0] == found[1]


STREAMED: list[tuple[bytes, bytes]] = [(b"content-type", b"text/plain")]
CHUNK = b"5\r\nhello\r\n"


def part_of_chunk() -> memoryview:
    return memoryview(CHUNK)[3:-2]


def begun(kind: type = RequestResponseCycle, headers: Any = STREAMED) -> Any:
    cycle = cycle_of(kind)
    asyncio.run(cycle.send({"type": "http.response.start", "status": 200, "headers": headers}))
    return cycle


@pytest.mark.parametrize("headers", [STREAMED, TEXT, [(b"transfer-encoding", b"chunked")]], ids=str)
@pytest.mark.parametrize("data", [b"hello", part_of_chunk()], ids=["bytes", "chunk"])
def test_parts_of_a_body_are_those_of_uvicorn(headers: Any, data: bytes | memoryview) -> None:
    ours, theirs = begun(headers=headers), begun(headers=headers)
    assert send_at_once(ours, data)
    asyncio.run(theirs.send({"type": "http.response.body", "body": b"hello", "more_body": True}))
    assert state(ours) == state(theirs)


def test_a_whole_chunk_is_not_copied() -> None:
    cycle = begun()
    written: list[object] = []
    cycle.transport.write = written.append
    assert send_at_once(cycle, part_of_chunk())
    assert written[0] is CHUNK


def test_a_transport_may_keep_a_released_part() -> None:
    cycle = begun(headers=TEXT)
    kept: list[Any] = []
    cycle.transport.write = kept.append
    with part_of_chunk() as part:
        assert send_at_once(cycle, part)
    assert bytes(kept[0]) == b"hello"


def test_parts_wait_for_a_client_that_does_not_read() -> None:
    paused, gone = begun(), begun()
    paused.flow.pause_writing()
    gone.disconnected = True
    for cycle in (paused, gone):
        before = state(cycle)
        assert not send_at_once(cycle, b"hello")
        assert state(cycle) == before


def test_chunks_of_another_server_are_its_own() -> None:
    class Counting(RequestResponseCycle):
        sent = 0

        async def send(self, message: Any) -> None:
            self.sent += 1
            await super().send(message)

    Counting.__module__ = RequestResponseCycle.__module__
    cycle = begun(Counting)
    assert send_at_once(cycle, part_of_chunk())
    assert cycle.sent == 2
    assert cycle.transport.parts[-1] == CHUNK


@pytest.mark.parametrize("data", [b"hello", part_of_chunk()], ids=["bytes", "chunk"])
def test_parts_of_a_body_go_through_h11(data: bytes | memoryview) -> None:
    transport, conn = Transport(), h11.Connection(h11.SERVER)
    conn.receive_data(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    conn.next_event()
    logger = logging.getLogger("uvicorn.error")
    scope: Any = {"type": "http", "method": "GET", "path": "/", "headers": []}
    flow = FlowControl(transport)  # type: ignore[arg-type]
    cycle: Any = H11Cycle(scope, conn, transport, flow, logger, logger, False, [], asyncio.Event(), list)  # type: ignore[arg-type]
    asyncio.run(cycle.send({"type": "http.response.start", "status": 200, "headers": STREAMED}))
    assert send_at_once(cycle, data)
    assert transport.parts[-1] == CHUNK


def test_only_uvicorn_behind_starlette_is_written_to() -> None:
    cycle, found = cycle_of(), []

    async def note(_: Any, send: Send) -> None:
        found.append(cycle_behind(send))

    scope = {**cycle.scope, "query_string": b"", "root_path": ""}
    with pytest.raises(ValueError, match="behind the answer"):
        asyncio.run(app_of(note, cycle)(scope, cycle.receive, cycle.send))

    async def watching(message: Message) -> None:
        await cycle.send(message)

    assert [*found, cycle_behind(watching), cycle_behind(cycle.receive)] == [cycle, None, None]  # type: ignore[arg-type]
