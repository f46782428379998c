"""Gates in Python, and an HTTP one that is real."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from starlette_wasm.canary.gates import Gate, Step, check_gates
from starlette_wasm.config.router import CanaryHook

STEP = Step("f", "1", "2", 10, 30)


class Endpoint(ThreadingHTTPServer):
    status = 204
    asked: bytes = b""


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        self.server.asked = self.rfile.read(int(self.headers["content-length"]))
        if self.server.status:
            self.send_response(self.server.status)
            self.send_header("content-length", "0")
            self.end_headers()
        else:
            threading.Event().wait(1)  # longer than the hook has

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "problem"), [(204, None), (200, None), (403, "hooks[0] answered 403"), (0, "TimeoutError")]
)
def test_any_2xx_in_time_lets_pass(endpoint: Endpoint, status: int, problem: str | None) -> None:
    endpoint.status = status
    hook = CanaryHook(url=f"http://127.0.0.1:{endpoint.server_port}/gate", timeout_ms=5000 if status else 100)
    given = asyncio.run(check_gates(STEP, [hook], []))
    assert problem in given if given and problem else given is problem
    assert json.loads(endpoint.asked) == {
        "function": "f",
        "stable_version": "1",
        "canary_version": "2",
        "percent": 10,
        "next_percent": 30,
    }


def test_an_endpoint_that_is_not_there_holds() -> None:
    problem = asyncio.run(check_gates(STEP, [CanaryHook(url="http://127.0.0.1:1/")], []))
    assert problem == "hooks[0] did not answer: ConnectionRefusedError"


def test_the_url_of_an_endpoint_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    problem = asyncio.run(check_gates(STEP, [CanaryHook(url="http://127.0.0.1:1/s3cret?token=s3cret")], []))
    assert "s3cret" not in f"{problem} {caplog.text}"
    assert "canary of f: hooks[0] (127.0.0.1) did not answer" in caplog.text


async def yes(step: Step) -> bool:
    return True


def no(step: Step) -> bool:
    return False


def broken(step: Step) -> bool:
    raise ZeroDivisionError("oh")


@pytest.mark.parametrize(
    ("gate", "problem"), [(yes, None), (no, "gate no is closed"), (broken, "gate broken failed: ZeroDivisionError")]
)
def test_a_gate_in_python_holds_unless_it_says_yes(gate: Gate, problem: str | None) -> None:
    given = asyncio.run(check_gates(STEP, [], [yes, gate]))
    assert problem in given if given and problem else given is problem


def test_a_gate_that_takes_too_long_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starlette_wasm.canary.gates.GATE_SECONDS", 0.01)

    async def slow(step: Step) -> bool:
        await asyncio.Event().wait()
        return True

    assert "failed: TimeoutError" in (asyncio.run(check_gates(STEP, [], [slow])) or "")


def test_an_async_gate_takes_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that came late would leave a coroutine that nobody awaits."""
    monkeypatch.delattr("starlette_wasm.canary.gates._in_thread")

    async def gate(step: Step) -> bool:
        return True

    assert asyncio.run(check_gates(STEP, [], [gate])) is None


def test_the_error_of_a_gate_goes_to_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    def gate(step: Step) -> bool:
        raise ValueError("password=hunter2")

    given = asyncio.run(check_gates(STEP, [], [gate]))
    assert given is not None
    assert given.endswith("failed: ValueError")
    assert "hunter2" in caplog.text


def test_an_endpoint_that_speaks_no_http_holds() -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"garbage\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        hook = CanaryHook(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        assert (await check_gates(STEP, [hook], []) or "").endswith("did not answer: BadStatusLine")
        server.close()
        await server.wait_closed()

    asyncio.run(main())
