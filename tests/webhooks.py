"""A real HTTP endpoint for webhooks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent. ``answers`` are the statuses of the next requests; then it is 204."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.headers: dict[str, str] = {}
        """Of the answers."""
        self.got: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.hanging = threading.Event()
        self.hangs = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [document for _, document in self.got]

    @property
    def types(self) -> list[str]:
        return [document["type"].removeprefix("starlette-wasm.") for document in self.documents]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.hangs:
            self.server.hanging.wait(60)
        self.server.got.append(({name.lower(): value for name, value in self.headers.items()}, document))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.hanging.set()
            receiver.shutdown()
            thread.join()
