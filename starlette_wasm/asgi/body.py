"""The body of a request, within its time and its bounds, and the wait for a client to disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope

from ..exceptions import RequestTimeout, RequestTooLarge, RuntimeClosed
from ..sync.cancel_scope import Interrupted
from ..sync.timeout import wait_within
from .scope import header

if TYPE_CHECKING:
    from ..runtime.runtime import WasmRuntime

_REPLAY_PAUSE = 0.05


@coroutine
def read_body(runtime: WasmRuntime, receive: Receive, limit: int) -> Generator[Any, None, bytes]:
    """Return the whole body. Raises RequestTooLarge as soon as that is known, RequestTimeout if it does not come within
    ``body_timeout_ms``, RuntimeClosed if draining ends before, and ClientDisconnect."""
    work = _read(receive, limit)
    try:
        first = work.send(None)
    except StopIteration as done:  # it is there already, as a rule
        body: bytes = done.value
        return body
    return (yield from _rest_of_body(runtime, work, first).__await__())


async def _rest_of_body(runtime: WasmRuntime, work: Coroutine[Any, None, bytes], first: object) -> bytes:
    """Wait for the body, which ``work`` reads; ``first`` is what that waits for."""
    limit_ms = runtime.settings.body_timeout_ms
    try:
        return await wait_within(work, first, limit_ms, RequestTimeout, partial(runtime.invoker.guard, None))
    except Interrupted:
        raise RuntimeClosed(runtime.state) from None


async def _read(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] | None = None
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body = message.get("body", b"")
        size += len(body)
        if size > limit:
            raise RequestTooLarge(limit)
        if chunks is not None:
            chunks.append(body)
        if not message.get("more_body", False):
            return body if chunks is None else b"".join(chunks)
        if chunks is None:
            chunks = [body]


def replayed(request: Request, receive: Receive) -> Receive:
    """Return ``receive`` from the start of the body again, if it was read with ``request.body()``."""
    body: bytes | None = getattr(request, "_body", None)
    if body is None:
        return receive
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone away. The body must have been read, if there is one."""
    if (await receive())["type"] == "http.disconnect":
        return  # else it was the empty body of a request that has none, or a replay
    while (await receive())["type"] != "http.disconnect":
        # Middleware that has read the body may replay it for ever, at once.
        await asyncio.sleep(_REPLAY_PAUSE)


async def gone(scope: Scope, receive: Receive, had_body: bool) -> None:
    """Return when the client has gone away, once the body has been read.

    Never for a request that expects ``100 Continue`` and has no body: a server sends that at the first ``receive()``,
    and may not if nothing is awaited (RFC 9110, section 10.1.1).
    """
    if not had_body and header(scope, b"expect") is not None:
        await asyncio.get_running_loop().create_future()
    await disconnected(receive)
