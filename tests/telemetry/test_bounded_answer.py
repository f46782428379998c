"""Receivers of telemetry that never end an answer take neither a thread, nor its CPU, nor memory for ever."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from unittest.mock import ANY

import pytest
import requests
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection

from starlette_wasm.telemetry.bounded_answer import BoundedAnswer
from starlette_wasm.telemetry.bounded_session import bounded_session
from starlette_wasm.telemetry.events.post import Poster, PostFailed
from starlette_wasm.telemetry.otlp import FastSpanExporter

OK = b"HTTP/1.1 200 OK\r\n"
ENDLESS = {
    "100 again and again": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0.0),
    "a body without end": (OK + b"\r\n", b"x" * 65536, 0.0),
    "a head in single bytes": (OK + b"x: ", b"x", 0.05),
    "a body in single bytes": (OK + b"\r\n", b"x", 0.05),
}
SECONDS = {"100 again and again": 2.0, "a head in single bytes": 0.5, "a body in single bytes": 0.5}
"""The other one has to be taken, and ends by its bytes."""
TAKEN = {"100 again and again": False, "a body without end": True, "a head in single bytes": False}
"""Whether the status was there, which is all that counts; of single bytes that depends on the machine."""


class Endless:
    """Answers each request with a piece, and another one again and again."""

    def __init__(self, first: bytes, again: bytes, pause: float) -> None:
        self._first, self._again, self._pause = first, again, pause
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._closing = threading.Event()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._closing.is_set():
                answering = threading.Thread(target=self._answer, args=(self._socket.accept()[0],), daemon=True)
                self._threads.append(answering)
                answering.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(self._first)
            while True:
                connection.sendall(self._again)
                if self._closing.wait(self._pause):
                    break

    def close(self) -> None:
        self._closing.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(60)


@pytest.fixture(params=ENDLESS)
def what(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def endless(what: str) -> Iterator[Endless]:
    made = Endless(*ENDLESS[what])
    yield made
    made.close()


def ended(work: Callable[[], object]) -> object:
    """Return the result of work that has to end."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(60)
    assert results, "it has not ended"
    return results[0]


def test_a_webhook_that_does_not_end_gives_its_thread_back(endless: Endless, what: str) -> None:
    def post() -> bool:
        poster = Poster(endless.url, {}, SECONDS.get(what, 60))
        assert poster._places.acquire(blocking=False)
        try:
            poster._post(b"{}", {})
        except PostFailed:
            return False
        return True

    assert ended(post) == TAKEN.get(what, ANY)


def test_a_collector_that_does_not_end_is_left(endless: Endless, what: str) -> None:
    span = TracerProvider().get_tracer("t").start_span("s")
    span.end()
    assert isinstance(span, ReadableSpan)
    exporter = FastSpanExporter(endpoint=endless.url, timeout=SECONDS.get(what, 60))
    assert (ended(lambda: exporter.export([span])) is SpanExportResult.SUCCESS) == TAKEN.get(what, ANY)


def test_nothing_of_an_answer_is_kept() -> None:
    bomb = gzip.compress(b"0" * (64 << 20))
    head = OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    made = Endless(head, bomb, 60.0)
    try:
        answer = bounded_session().post(made.url, b"", timeout=60)
    finally:
        made.close()
    assert (answer.status_code, answer.content) == (200, b"")


def test_another_session_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    given = requests.Session()
    assert FastSpanExporter(session=given)._client._transport._session is given
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "unknown")
    with pytest.raises(RuntimeError, match="'unknown' not found"):
        FastSpanExporter()


def test_a_socks_proxy_is_connected_to_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection(HTTPConnection):
        pass

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class Manager(PoolManager):
        def __init__(self, proxy: str, *given: object, **named: object) -> None:
            super().__init__()
            self.pool_classes_by_scheme = {"http": Pool, "https": Pool}

    monkeypatch.setattr("requests.adapters.SOCKSProxyManager", Manager)
    adapter = bounded_session().get_adapter("https://collector.test/")
    assert isinstance(adapter, requests.adapters.HTTPAdapter)
    for _ in range(2):
        pool = adapter.proxy_manager_for("socks5h://127.0.0.1:1080").connection_from_url("https://collector.test/")
        assert isinstance(pool, Pool)
        assert issubclass(pool.ConnectionCls, Connection)
        assert issubclass(pool.ConnectionCls.response_class, BoundedAnswer)
    plain = adapter.proxy_manager_for("http://127.0.0.1:3128").connection_from_url("http://collector.test/")
    assert issubclass(plain.ConnectionCls.response_class, BoundedAnswer)
