"""The app of ``dev``: a line for each request, and a page for a function that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..exceptions import WasmError
from ..testing.calls import Call
from .dev_hosts import DevHosts, host_of, refuse
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
    """Hands each request to ``told``, a callable, when it is over: its scope, status, seconds and calls.

    Requests for hosts that are not of ``hosts`` are refused. An error of ours that keeps the app from its start goes to
    ``failed``, in place of a traceback.
    """

    def __init__(self, app: ASGIApp, told: Told, failed: Callable[[WasmError], None], hosts: DevHosts) -> None:
        self._app = app
        self._told = told
        self._failed = failed
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif not self._hosts.allow(host_of(scope)):
            await refuse(scope, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def hold(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                held.append(message)  # with a traceback, most often; what is raised next has the reason
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold)
        except WasmError as error:
            self._failed(error)
            held = [{"type": "lifespan.startup.failed", "message": ""}]
        finally:
            for message in held:
                await send(message)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
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
