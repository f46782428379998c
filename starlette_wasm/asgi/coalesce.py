"""An answer in one write to the socket, where uvicorn would make two.

uvicorn writes the head when ``http.response.start`` comes, and the body with the next message: two system calls, and
two packets of which the client wakes up for the first. ASGI cannot announce that the body is there already. So the
transport is held while both messages go through ``send``, and is written to once. What is around this app sees both
messages as ever; with another server, or a middleware that has put its own function in the place of ``receive``,
nothing is held.
"""

from __future__ import annotations

from typing import Any

from starlette.types import Receive, Send

from .._compat import CORKABLE, uvicorn_cycle
from .direct_write import write_at_once


async def send_in_one_write(
    receive: Receive, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """Send an answer to the client of ``receive``."""
    cycle: Any = getattr(receive, "__self__", None)
    known = CORKABLE.get(type(cycle))
    if known is None:
        known = uvicorn_cycle(receive) is not None
    if known and write_at_once(cycle, send, status, headers, body):
        return
    held = _CorkedTransport(cycle) if known else None
    try:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    finally:
        if held is not None and cycle.transport is held:
            held.release()


class _CorkedTransport:
    """Stands in for the transport of one answer until release(), or until uvicorn goes on to the next request."""

    __slots__ = ("_cycle", "_on_response", "_parts", "_transport", "write")

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._on_response = cycle.on_response
        self._parts: list[bytes] = []
        self.write = self._parts.append
        cycle.transport, cycle.on_response = self, self._complete

    def release(self) -> None:
        cycle, transport = self._cycle, self._transport
        cycle.transport, cycle.on_response = transport, self._on_response
        if self._parts and not transport.is_closing():  # the client has gone while a middleware took its time
            transport.write(b"".join(self._parts))

    def _complete(self) -> None:
        self.release()
        self._on_response()

    def close(self) -> None:
        """Write what is held back: called after an answer that ends the connection."""
        if self._parts and not self._transport.is_closing():
            self._transport.write(b"".join(self._parts))
            self._parts.clear()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
