"""The app of ``dev``: a line for each request, and a page for a function that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..testing.calls import Call
from .dev_page import error_page

_calls: ContextVar[list[Call] | None] = ContextVar("calls of a request", default=None)


class RequestCalls(list[Call]):
    """Takes the calls of each request into a list of its own, which is gone with the request."""

    def append(self, call: Call) -> None:
        """Add a call to the request under way."""
        found = _calls.get()
        if found is None:
            found = []
            _calls.set(found)
        found.append(call)

    def __reversed__(self) -> Iterator[Call]:
        return reversed(_calls.get() or [])


Told = Callable[[Scope, int, float, list[Call]], None]


class DevApp:
    """Hands each request to ``told``, a callable, when it is over: its scope, status, seconds and calls."""

    def __init__(self, app: ASGIApp, told: Told) -> None:
        self._app = app
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        calls: list[Call] = []
        _calls.set(calls)
        begin = time.perf_counter()
        answer = _Answer(scope, send, calls)
        try:
            await self._app(scope, receive, answer.send)
        finally:
            self._told(scope, answer.status, time.perf_counter() - begin, calls)


class _Answer:
    """Holds back an answer of a fault, for the page that takes its place in a browser."""

    def __init__(self, scope: Scope, send: Send, calls: list[Call]) -> None:
        self.status = 500
        self._scope = scope
        self._send = send
        self._calls = calls
        self._held: list[Message] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status >= 500 and self._wants_page():
                self._held.append(message)
                return
        if not self._held:
            await self._send(message)
            return
        self._held.append(message)
        if not message.get("more_body"):
            for each in self._page() or self._held:
                await self._send(each)

    def _wants_page(self) -> bool:
        accepted = b",".join(value for name, value in self._scope["headers"] if name == b"accept")
        return b"text/html" in accepted

    def _page(self) -> list[Message] | None:
        """Return the page instead, if it is a function that failed."""
        failed = next((call for call in reversed(self._calls) if call.error is not None), None)
        if failed is None:
            return None
        body = error_page(failed).encode()
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        return [
            {"type": "http.response.start", "status": self.status, "headers": headers},
            {"type": "http.response.body", "body": body},
        ]
