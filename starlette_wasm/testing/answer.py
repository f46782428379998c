"""What a request to an app or a function came to, and how to ask without a server."""

from __future__ import annotations

import asyncio
import json as json_module
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.types import ASGIApp, Message, Scope

from ..capabilities import Violation
from ..exceptions import WasmError
from .calls import Call, Line, Span


@dataclass(slots=True)
class Answer:
    """The answer to one request. ``calls`` are the calls of functions that it took, in their order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    calls: list[Call] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body, read as JSON."""
        return json_module.loads(self.body)

    def header(self, name: str) -> str | None:
        """Return the first value of a header."""
        return next((value for each, value in self.headers if each == name.lower()), None)

    @property
    def error(self) -> WasmError | None:
        """What the last call failed with, None if it did not."""
        return self.calls[-1].error if self.calls else None

    @property
    def logs(self) -> list[Line]:
        """The lines that the functions printed on stderr."""
        return [line for call in self.calls for line in call.logs]

    @property
    def violations(self) -> list[Violation]:
        """What the policies refused."""
        return [violation for call in self.calls for violation in call.violations]

    @property
    def spans(self) -> list[Span]:
        """The spans that the functions started, the outermost ones."""
        return [span for call in self.calls for span in call.spans]

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU time that the functions used."""
        return sum(call.cpu_s for call in self.calls)

    @property
    def memory_bytes(self) -> int:
        """The most memory that one of the functions had."""
        return max((call.memory_bytes for call in self.calls), default=0)


def make_scope(
    method: str, path: str, headers: Mapping[str, str] | Sequence[tuple[str, str]], *, host: str = "localhost"
) -> Scope:
    """Return the scope of a request; ``path`` may have a query."""
    target = urlsplit(path)
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    sent = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    if not any(name == b"host" for name, _ in sent):
        sent.insert(0, (b"host", host.encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(target.path) or "/",
        "raw_path": (target.path or "/").encode("ascii", "replace"),
        "query_string": target.query.encode("ascii", "replace"),
        "root_path": "",
        "headers": sent,
        "client": ("127.0.0.1", 50000),
        "server": (host, 80),
    }


async def ask(app: ASGIApp, scope: Scope, body: bytes) -> Answer:
    """Send a request to an ASGI app in this process."""
    incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    answer = Answer(0, [], b"")

    async def receive() -> Message:
        if incoming:
            return incoming.pop(0)
        await asyncio.Event().wait()  # the client stays until it has the answer
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")

    if body and not any(name == b"content-length" for name, _ in scope["headers"]):
        scope["headers"].append((b"content-length", str(len(body)).encode()))
    await app(scope, receive, send)
    return answer
