"""Requests that come, and answers that leave, while a handler of ``wasi:http`` runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from apps import JSON, add_function, app, config, eventually, run
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Scope

from starlette_wasm import EdgeRequest, FunctionTrapped, InvalidFunctionResponse, RequestTooLarge, WasmMiddleware
from starlette_wasm.asgi import answer_sender, streamed
from starlette_wasm.asgi.routes import wasm_route
from starlette_wasm.components.http_exchange import REQUEST_BOUND, RESPONSE_BOUND, HttpExchange, do_nothing
from starlette_wasm.components.wasi.exchange_streams import RequestStream

LIMITS = {"executionTimeoutMs": 20_000, "maxRequestBytes": 200_000, "maxResponseBytes": 1 << 20}
TE = (b"te", b"trailers")
CHUNKED = (b"transfer-encoding", b"chunked")


class Client:
    """One request, message by message."""

    def __init__(self, path: str, method: str = "GET", *headers: tuple[bytes, bytes], **scope: Any) -> None:
        self.scope: Scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": b"", "headers": [(b"host", b"h"), *headers], "scheme": "http",
            "server": ("h", 80), "client": ("c", 1), **scope,
        }  # fmt: skip
        self.sent: list[Message] = []
        self.received = 0
        self.takes = asyncio.Event()
        """Cleared as long as the client takes nothing."""
        self.takes.set()
        self._messages: asyncio.Queue[Message] = asyncio.Queue()

    def write(self, body: bytes, *, more: bool = True) -> None:
        self._messages.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})

    async def _receive(self) -> Message:
        message = await self._messages.get()
        self.received += len(message.get("body", b""))
        return message

    async def _send(self, message: Message) -> None:
        await self.takes.wait()
        self.sent.append(message)

    async def ask(self, app: ASGIApp) -> Client:
        await app(self.scope, self._receive, self._send)
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def pieces(self) -> list[bytes]:
        return [each["body"] for each in self.sent[1:] if each["type"] == "http.response.body" and each.get("body")]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def whole(self) -> bool:
        """Whether the answer has ended as it should."""
        return bool(self.sent) and not self.sent[-1].get("more_body", False) and len(self.sent) > 1


def middleware(served: Any) -> WasmMiddleware:
    found = served.middleware_stack
    while not isinstance(found, WasmMiddleware):
        found = found.app
    return found


@pytest.fixture
def wasm(tmp_path: Path) -> JSON:
    add_function(tmp_path, "stream", "components/http_stream")
    return config(tmp_path, {"/{rest:path}": {"functionName": "stream", "policy": "p"}}, policies={"p": LIMITS})


@pytest.fixture(params=["http_stream", "http_task"], ids=["0.2", "0.3"])
def either(tmp_path: Path, request: pytest.FixtureRequest) -> JSON:
    """A handler of ``wasi:http`` 0.2, and one of 0.3, with the same paths."""
    add_function(tmp_path, "stream", f"components/{request.param}")
    return config(tmp_path, {"/{rest:path}": {"functionName": "stream", "policy": "p"}}, policies={"p": LIMITS})


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads wait for the body to be whole as long as the guest waits for nothing, on slow machines too."""
    monkeypatch.setattr(answer_sender, "_LINGER", 60)


@asynccontextmanager
async def serving(wasm: JSON, policy: JSON | None = None, **settings: Any) -> AsyncIterator[ASGIApp]:
    """The app, started; no guest is left behind."""
    if policy:
        (Path(wasm["policiesDir"]) / "p.yaml").write_text(
            "\n".join(f"{key}: {value}" for key, value in (LIMITS | policy).items())
        )
    served = app(wasm, **settings)
    await Client("/hello").ask(served)
    yield served
    runtime = middleware(served).runtime
    await eventually(lambda: runtime.stats()["live"] == 0, 60)
    await runtime.close()


async def sent_back_in_pieces(served: ASGIApp, path: str, *pieces: bytes) -> Client:
    """Send a body, each piece once the one before has come back, and wait for the end of the answer."""
    client = Client(path, "POST", CHUNKED)
    asking = asyncio.create_task(client.ask(served))
    for piece in pieces:
        before = client.body
        client.write(piece)
        await eventually(lambda sent=before + piece: client.body == sent, 60)
    assert not client.whole
    client.write(b"", more=False)
    await asking
    return client


def test_bodies_reach_the_guest_as_they_come(either: JSON) -> None:
    async def go() -> None:
        async with serving(either) as served:
            client = await sent_back_in_pieces(served, "/echo", b"first", b"second", b"third")
            assert client.whole
            assert client.pieces == [b"first", b"second", b"third"]
            assert b"content-length" not in client.headers

    run(go())


def test_answers_leave_as_they_are_written(either: JSON) -> None:
    async def go() -> None:
        async with serving(either) as served:
            client = await Client("/events/200").ask(served)
            assert (client.status, client.pieces, client.whole) == (200, [b"event\n"] * 3, True)

    run(go())


@pytest.mark.usefixtures("patient")
def test_quick_answers_leave_whole(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            client = await Client("/declared/70000").ask(served)
            assert (client.headers[b"content-length"], client.body) == (b"70000", bytes(70000))
            client = Client("/upload", "POST", (b"content-length", b"6"))
            client.write(b"abc")
            client.write(b"def", more=False)
            await client.ask(served)
            assert (client.status, client.body) == (200, b"6")
            assert (await Client("/status/404").ask(served)).status == 404
            assert (await Client("/empty").ask(served)).headers[b"content-length"] == b"0"

    run(go())


def exchanges(patch: pytest.MonkeyPatch) -> list[HttpExchange]:
    """Those that are made from now on."""
    made: list[HttpExchange] = []

    def make(**given: Any) -> HttpExchange:
        made.append(HttpExchange(**given))
        return made[-1]

    patch.setattr(streamed, "HttpExchange", make)
    return made


def test_clients_that_take_nothing_make_the_guest_wait(either: JSON, monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        async with serving(either) as served:
            made = exchanges(monkeypatch)
            client = Client("/download/1000000")
            client.takes.clear()
            asking = asyncio.create_task(client.ask(served))
            await eventually(lambda: made and made[0].response is not None and not made[0].response.room, 60)
            await eventually(lambda: made[0].on_change is not do_nothing, 60)  # the guest waits for the client
            body = made[0].response
            assert body is not None
            await asyncio.sleep(0.1)
            assert len(body) <= RESPONSE_BOUND
            assert body.total <= RESPONSE_BOUND + (64 << 10)
            client.takes.set()
            await asking
            assert (client.body, client.whole) == (bytes(1_000_000), True)
            assert made[0].waited > 0

    run(go())


def test_guests_that_read_nothing_make_the_client_wait(either: JSON) -> None:
    async def go() -> None:
        async with serving(either, {"maxRequestBytes": 1 << 30, "executionTimeoutMs": 500}) as served:
            client = Client("/never", "POST", CHUNKED)
            for _ in range(100):
                client.write(bytes(10_000))
            await client.ask(served)
            assert client.status == 504
            assert client.received <= REQUEST_BOUND + 10_000

    run(go())


@pytest.mark.usefixtures("patient")
def test_trailers_follow_if_they_are_wanted(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            offered: Any = {"extensions": {"http.response.trailers": {}}}
            client = await Client("/trailers", "GET", TE, **offered).ask(served)
            assert client.sent[0]["trailers"] is True
            assert client.sent[-1] == {
                "type": "http.response.trailers", "headers": [(b"x-sum", b"1234")], "more_trailers": False
            }  # fmt: skip
            assert client.body == b"hello"
            for other in (Client("/trailers", "GET", TE), Client("/trailers", **offered)):
                await other.ask(served)
                assert "trailers" not in other.sent[0]
                assert [each["type"] for each in other.sent] == ["http.response.start", "http.response.body"]

    run(go())


def test_guests_may_go_on_until_their_deadline(either: JSON, caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        async with serving(either, {"executionTimeoutMs": 3000}) as served:
            client = Client("/after/60000")
            asking = asyncio.create_task(client.ask(served))
            await eventually(lambda: client.whole, 60)
            assert not asking.done()
            client.leave()  # as servers call it once the answer is out
            await asking
            assert (client.status, client.body) == (200, b"hello")

    with caplog.at_level(logging.WARNING):
        run(go())
    assert [each.getMessage() for each in caplog.records if "after its answer" in each.getMessage()] == [
        "stream (execution-timeout) after its answer: stream v1: time limit exceeded (3000 ms)"
    ]


def test_faults_after_the_answer_change_nothing_of_it(wasm: JSON, caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            client = await Client("/aftertrap/20").ask(served)
            assert (client.status, client.body, client.whole) == (200, b"hello", True)
            assert middleware(served).runtime.stats()["ok"] == 2

    with caplog.at_level(logging.WARNING):
        run(go())
    assert "stream (wasm-trap) after its answer: stream v1: wasm trap: unreachable" in caplog.text


def test_clients_that_leave_end_the_guest(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            waiting = Client("/never")
            asking = asyncio.create_task(waiting.ask(served))
            runtime = middleware(served).runtime
            await eventually(lambda: runtime.stats()["live"], 60)
            waiting.leave()
            await asking
            assert waiting.status == 499
            assert runtime.stats()["gone"] == 1
            taking = Client("/events/60000")
            asking = asyncio.create_task(taking.ask(served))
            await eventually(lambda: taking.body, 60)
            taking.leave()
            await asking
            assert (taking.status, taking.whole) == (200, False)
            assert runtime.stats()["gone"] == 2

    run(go())


def test_clients_that_leave_while_they_send_end_the_guest(either: JSON) -> None:
    async def go() -> None:
        async with serving(either) as served:
            client = Client("/echo", "POST", CHUNKED)
            client.write(b"abc")
            client.leave()
            await client.ask(served)
            assert middleware(served).runtime.stats()["gone"] == 1

    run(go())


def test_answers_that_cannot_be_sent_end_the_guest(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            client = Client("/events/60000")

            async def broken(message: Message) -> None:
                raise OSError("gone")

            with pytest.raises(OSError, match="gone"):
                await served(client.scope, client._receive, broken)

    run(go())


def test_faults_behind_the_head_are_raised(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            client = Client("/trap/200")
            with pytest.raises(FunctionTrapped, match="unreachable"):
                await client.ask(served)
            assert (client.status, client.body, client.whole) == (200, b"begun", False)
            client = Client("/flood")
            with pytest.raises(InvalidFunctionResponse, match="more than 1048576 bytes"):
                await client.ask(served)
            assert not client.whole
            assert middleware(served).runtime.stats()["wasm-trap"] == 1

    run(go())


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("path", "status"), [("/trap/0", 500), ("/over", 500), ("/invalid", 502), ("/unfinished", 500), ("/greedy", 500)]
)
def test_faults_before_the_head_are_problems(wasm: JSON, path: str, status: int) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            client = await Client(path).ask(served)
            assert (client.status, client.headers[b"content-type"]) == (status, b"application/problem+json")

    run(go())


@pytest.mark.usefixtures("patient")
def test_answers_beyond_their_bound_are_refused(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm, {"maxResponseBytes": 100_000}) as served:
            assert (await Client("/download/100000").ask(served)).body == bytes(100_000)
            assert (await Client("/download/100001").ask(served)).status == 502

    run(go())


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("path", "said"), [("/short/10", "has 9 bytes"), ("/long/10", "more than the 10 bytes")])
def test_lengths_are_held(wasm: JSON, path: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            assert (await Client(path).ask(served)).status == 500

    run(go())
    assert said in caplog.text


@pytest.mark.usefixtures("patient")
def test_head_has_no_body(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            client = await Client("/hello", "HEAD").ask(served)
            assert (client.headers[b"content-length"], client.body, client.whole) == (b"5", b"", True)
            client = await Client("/download/1000000", "HEAD").ask(served)
            assert (client.status, client.body, client.whole) == (200, b"", True)
            client = await Client("/status/204").ask(served)
            assert (client.status, client.body, b"content-length" in client.headers) == (204, b"", False)

    run(go())


def test_requests_beyond_their_bound_are_refused(wasm: JSON) -> None:
    def asks(path: str) -> Client:
        client = Client(path, "POST", CHUNKED)
        for _ in range(3):
            client.write(bytes(70_000))
        return client

    async def go() -> None:
        async with serving(wasm) as served:
            assert (await asks("/upload").ask(served)).status == 413
            client = Client("/echo", "POST", CHUNKED)
            asking = asyncio.create_task(client.ask(served))
            client.write(bytes(70_000))
            await eventually(lambda: client.body, 60)
            client.write(bytes(140_000))
            with pytest.raises(RequestTooLarge):
                await asking
            assert not client.whole
            declared = await Client("/upload", "POST", (b"content-length", b"200001")).ask(served)
            assert (declared.status, declared.received) == (413, 0)

    run(go())


def test_bodies_that_do_not_come_are_timeouts(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm, body_timeout_ms=300) as served:
            client = Client("/upload", "POST", CHUNKED)
            client.write(b"abc")
            await client.ask(served)
            assert client.status == 408

    run(go())


def test_answers_that_nobody_takes_end(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm, body_timeout_ms=300) as served:
            client = Client("/download/1000000")
            client.takes.clear()
            await client.ask(served)
            assert client.sent == []
            assert middleware(served).runtime.stats()["gone"] == 1

    run(go())


def test_waits_for_the_client_are_not_the_guests_time(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm, {"executionTimeoutMs": 4000}) as served:
            client = Client("/upload", "POST", CHUNKED)
            client.write(b"abc")
            asking = asyncio.create_task(client.ask(served))
            await asyncio.sleep(4.5)
            client.write(b"def", more=False)
            await asking
            assert (client.status, client.body) == (200, b"6")

    run(go())


def test_waits_for_something_else_are_the_guests_time(wasm: JSON, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that asks for the body, and then for a timer, has no more time than others."""
    monkeypatch.setattr(RequestStream, "ready", lambda stream: stream._exchange.readable() and False)

    async def go() -> None:
        async with serving(wasm, {"executionTimeoutMs": 500}, body_timeout_ms=0) as served:
            client = Client("/upload", "POST", CHUNKED)
            asking = asyncio.create_task(client.ask(served))
            client.write(b"abc")
            async with asyncio.timeout(60):
                await asking
            assert client.status == 504

    run(go())


def test_bodies_are_asked_for_when_the_guest_reads(wasm: JSON) -> None:
    async def go() -> None:
        async with serving(wasm) as served:
            expecting = (b"content-length", b"3"), (b"expect", b"100-continue")
            client = Client("/hello", "POST", *expecting)
            client.write(b"abc", more=False)
            await client.ask(served)
            assert (client.status, client.received) == (200, 0)
            client = Client("/echo", "POST", *expecting)
            client.write(b"abc", more=False)
            await client.ask(served)
            assert client.body == b"abc"

    run(go())


def test_calls_from_python_have_the_answer_whole(wasm: JSON) -> None:
    @wasm_route("/own/{rest:path}", function="stream", policy="p")
    async def handler(request: Request, call: Any) -> Response:
        response: Response = await call(request)
        assert response.body == b"hello"
        return response

    async def go() -> None:
        served = app({**wasm, "rules": []}, [handler])
        client = Client("/own/x")
        client.write(b"", more=False)
        assert (await client.ask(served)).body == b"hello"
        runtime = middleware(served).runtime
        answer = await runtime.invoke(
            "stream", EdgeRequest(path="/upload", url="http://h/upload", body="abc"), policy="p"
        )
        assert answer.content == b"3"
        await runtime.close()

    run(go())


def test_routes_stream_too(wasm: JSON) -> None:
    from starlette_wasm import WasmRoute

    async def go() -> None:
        served = app({**wasm, "rules": []}, [WasmRoute("/{rest:path}", function="stream", policy="p")])
        client = await Client("/events/200").ask(served)
        assert client.pieces == [b"event\n"] * 3
        client = Client("/trap/200")
        with pytest.raises(FunctionTrapped):
            await client.ask(served)
        await middleware(served).runtime.close()

    run(go())


def test_a_quota_bounds_handlers_that_stream(wasm: JSON) -> None:
    async def go() -> None:
        tenants = [{"name": "acme", "hosts": ["h"], "requestsPerMinute": 1}]
        async with serving(wasm | {"tenants": tenants}) as served:  # which has sent one request
            refused = await Client("/events/200").ask(served)
            assert (refused.status, refused.headers[b"content-type"]) == (429, b"application/problem+json")
            free = Client("/events/200")
            free.scope["headers"] = [(b"host", b"other")]
            assert (await free.ask(served)).status == 200

    run(go())
