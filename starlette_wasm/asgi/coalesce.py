"""An answer in one write to the socket, where uvicorn would make two.

uvicorn writes the head when ``http.response.start`` comes, and the body with the next message: two system calls, and
two packets of which the client wakes up for the first. ASGI cannot announce that the body is there already. So the
transport is held while both messages go through ``send``, and is written to once. What is around this app sees both
messages as ever; with another server, or a middleware that has put its own function in the place of ``receive``,
nothing is held.

If nobody listens, a guest's answer needs no message: answer_at_once() goes from the scope to the transport without a
step that waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.types import Receive, Scope, Send

from .._compat import CORKABLE, uvicorn_cycle
from ..engine.fast_path import NOT_TAKEN, NotTaken, Started
from ..engine.native.library import native
from ..functions.target import Target
from ..invocation.fast_path import Answered
from ..telemetry import NO_TELEMETRY
from .direct_write import Outlet, body_of, outlet_of, take_body, write, write_at_once
from .scope import MAX_HEAD, SENT_AS, WITHOUT_BODY

if TYPE_CHECKING:
    from ..runtime.runtime import WasmRuntime


async def send_in_one_write(
    receive: Receive, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """Send an answer to the client of ``receive``."""
    known = _may_be_uvicorn(receive)
    if known and write_at_once(receive, send, status, headers, body):
        return
    cycle: Any = uvicorn_cycle(receive) if known else None
    held = None if cycle is None else _CorkedTransport(cycle)
    try:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    finally:
        if held is not None and cycle.transport is held:
            held.release()


def answer_at_once(
    runtime: WasmRuntime,
    target: object,
    region: str,
    path: str,
    params: dict[str, str],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> Answered | Started | NotTaken | None:
    """Answer on the fast path, if nobody listens. None: it was written to the client.

    ``path`` is the one inside the mount. Not taken if the body has yet to come.
    """
    outlet = outlet_of(receive, send) if SENT_AS not in scope and _may_be_uvicorn(receive) else None
    if outlet is not None and outlet[3]:
        outlet = None  # whoever looks at the messages is given the headers
    body = None
    if scope["method"] not in WITHOUT_BODY:
        body = _body_at_hand(target, scope, receive, outlet)
        if body is None:
            return NOT_TAKEN
    if outlet is None:
        return runtime.fast_path.answer(target, scope, path, params, body, region, NO_TELEMETRY.trace)
    cycle, lines, _, _ = outlet
    server = (None, None, lines, cycle.default_headers)
    found = runtime.fast_path.answer(target, scope, path, params, body, region, server)
    if isinstance(found, (Started, NotTaken)):
        return found
    if body is not None:
        take_body(cycle)
    status, headers, content = found
    if headers is not None:
        return status, headers, content
    write(outlet, status, content)
    return None


def _body_at_hand(target: object, scope: Scope, receive: Receive, outlet: Outlet | None) -> bytes | None:
    """Return the whole body of a request that has one, if it is there, and the target would take it as a whole."""
    if outlet is None or type(target) is not Target or target.streams or native is None:
        return None
    return body_of(outlet[0], receive) if native.follows(scope, target.max_body, MAX_HEAD) else None


def _may_be_uvicorn(receive: Receive) -> bool:
    """Return whether it is a method of uvicorn's cycles, or of a class that was not looked at yet."""
    return CORKABLE.get(type(getattr(receive, "__self__", None)), True)


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
