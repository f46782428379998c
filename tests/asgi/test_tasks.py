"""Handlers of ``wasi:http`` 0.3, whose bodies are streams: what test_streaming.py does not test of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import JSON, add_function, config, eventually, run
from capability_servers import Received, Upstream
from ports import free_port
from test_streaming import CHUNKED, LIMITS, TE, Client, middleware, sent_back_in_pieces, serving

from starlette_wasm import EdgeRequest, FunctionTrapped, RequestTimeout, RequestTooLarge
from starlette_wasm.asgi import answer_sender
from starlette_wasm.components.wasi import client3


@pytest.fixture
def wasm(tmp_path: Path) -> JSON:
    add_function(tmp_path, "task", "components/http_task")
    return config(tmp_path, {"/{rest:path}": {"functionName": "task", "policy": "p"}}, policies={"p": LIMITS})


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads wait for the body to be whole as long as the guest waits for nothing, on slow machines too."""
    monkeypatch.setattr(answer_sender, "_LINGER", 60)


def test_bodies_that_are_handed_on_are_streamed(wasm: JSON) -> None:
    """The guest has ended by then, and gave the body of its request as that of its answer."""

    async def go() -> None:
        async with serving(wasm) as served:
            client = await sent_back_in_pieces(served, "/forward", b"first", b"second")
            assert (client.status, client.pieces, client.whole) == (200, [b"first", b"second"], True)
            large = Client("/forward", "POST", CHUNKED)
            large.write(bytes(150_000), more=False)
            await large.ask(served)
            assert (len(large.body), large.whole) == (150_000, True)

    run(go())


async def echo(request: Received, writer: asyncio.StreamWriter) -> None:
    """Give the body back, in chunks if it came so, with the trailers; an empty one is answered in part."""
    body, ends = request.body, b""
    if request.header("transfer-encoding"):
        while size := int(await request.reader.readline() or b"0", 16):
            body += (await request.reader.readexactly(size + 2))[:size]
        ends = await request.reader.readline()
    if body == b"break":
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbroken")
        await writer.drain()
        writer.close()
        return
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    assert not ends.strip()


ASKING = {"allowedHosts": ["*"], "maxNetworkRequests": 10, "allowPrivateNetworks": "true"}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(answers={"/echo": echo}) as upstream:
        yield upstream


@pytest.mark.parametrize(("path", "body"), [("/proxy", b"abc"), ("/proxy", bytes(150_000)), ("/send", b"hello")])
def test_requests_of_a_guest_are_sent(
    wasm: JSON, upstream: Upstream, path: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "/send":  # whose guest has given the body before it waits for the answer
        monkeypatch.setattr(client3, "_SOON", 60)

    async def go() -> None:
        async with serving(wasm, ASKING) as served:
            client = Client(f"{path}/{upstream.port}", "POST", CHUNKED)
            client.write(body, more=False)
            await client.ask(served)
            assert (client.status, client.body, client.whole) == (200, body, True)

    run(go())
    (received,) = upstream.received
    assert (received.method, received.header("host")) == ("POST", f"127.0.0.1:{upstream.port}")
    assert (received.header("content-length") == "5") == (path == "/send")


@pytest.mark.parametrize(
    ("policy", "code"),
    [({}, b"15"), ({"allowedHosts": ["*"], "maxNetworkRequests": 1}, b"15"), (ASKING, b"06")],
)
def test_requests_that_are_not_sent_have_an_error_code(wasm: JSON, policy: JSON, code: bytes) -> None:
    port = free_port()  # which nobody listens to

    async def go() -> None:
        async with serving(wasm, policy) as served:
            for path in ("/proxy", "/send"):
                client = Client(f"{path}/{port:05}", "POST", CHUNKED)
                client.write(b"abc", more=False)
                await client.ask(served)
                assert (client.status, client.headers[b"x-error"], client.whole) == (200, code, True)

    run(go())


@pytest.mark.usefixtures("patient")
def test_answers_of_others_that_break_off_break_the_answer(
    wasm: JSON, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> None:
        async with serving(wasm, ASKING) as served:
            client = Client(f"/proxy/{upstream.port}", "POST", CHUNKED)
            client.write(b"break", more=False)
            await client.ask(served)
            assert client.status == 500

    run(go())
    assert "the trailers of its response are the error HTTP-protocol-error" in caplog.text


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("path", "status", "length", "body"),
    [
        ("/hello", 200, b"5", b"hello"),
        ("/declared", 200, b"5", b"hello"),
        ("/empty", 200, b"0", b""),
        ("/status/404", 404, b"5", b"hello"),
        ("/quick", 200, b"5", b"hello"),
        ("/download/200000", 200, b"200000", bytes(200_000)),
    ],
)
def test_quick_answers_leave_whole(wasm: JSON, path: str, status: int, length: bytes, body: bytes) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            client = await Client(path).ask(served)
            assert (client.status, client.headers[b"content-length"], client.body) == (status, length, body)
            assert client.headers[b"x-kind"] == b"task"

    run(go())


def test_trailers_and_the_end_of_sending_are_futures(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            offered: Any = {"extensions": {"http.response.trailers": {}}}
            client = await Client("/trailers", "GET", TE, **offered).ask(served)
            assert client.sent[-1]["headers"] == [(b"x-sum", b"1234")]
            assert (await Client("/sent").ask(served)).body == b"hello"

    run(go())


def test_reads_can_be_cancelled(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            client = Client("/cancel", "POST", CHUNKED)
            asking = asyncio.create_task(client.ask(served))
            await eventually(lambda: client.body, 60)
            assert client.body == b"2"
            client.leave()
            await asking

    run(go())


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("path", "reason"), [("/error", "with the error internal-error"), ("/unfinished", "without finishing the body")]
)
def test_faults_before_the_head_are_problems(
    wasm: JSON, path: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            assert (await Client(path).ask(served)).status == 500

    run(go())
    assert reason in caplog.text


def test_faults_behind_the_head_are_raised(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            client = Client("/trap/200")
            with pytest.raises(FunctionTrapped, match="unreachable"):
                await client.ask(served)
            assert (client.status, client.body, client.whole) == (200, b"hello", False)

    run(go())


def test_requests_beyond_their_bound_are_refused(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            client = Client("/echo", "POST", CHUNKED)
            asking = asyncio.create_task(client.ask(served))
            client.write(b"abc")
            await eventually(lambda: client.body, 60)
            client.write(bytes(210_000))
            with pytest.raises(RequestTooLarge):
                await asking
        async with serving(wasm, body_timeout_ms=300) as served:
            client = Client("/echo", "POST", CHUNKED)
            with pytest.raises(RequestTimeout):
                await client.ask(served)
            assert not client.whole

    run(go())


def test_calls_from_python_have_the_answer_whole(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            runtime = middleware(served).runtime
            for _ in range(3):
                request = EdgeRequest(path="/echo", url="http://h/echo", body="abc", method="POST")
                assert (await runtime.invoke("task", request, policy="p")).content == b"abc"

    run(go())
