"""The body of a request, within its time and its bounds, and the wait for a client to disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope

from ..exceptions import RequestTimeout, RequestTooLarge, RuntimeClosed
from ..sync.cancel_scope import Interrupted
from ..sync.timeout import wait_within
from .scope import header

if TYPE_CHECKING:
    from ..runtime.runtime import WasmRuntime

T = TypeVar("T")
_REPLAY_PAUSE = 0.05


def read_body(runtime: WasmRuntime, receive: Receive, limit: int) -> Awaitable[bytes]:
    """Return the whole body. Raises RequestTooLarge as soon as that is known, RequestTimeout if it does not come within
    ``body_timeout_ms``, RuntimeClosed if draining ends before, and ClientDisconnect."""
    return _bounded(runtime, _read(receive, limit))


def read_first_part(runtime: WasmRuntime, receive: Receive, limit: int, declared: int) -> Awaitable[tuple[bytes, bool]]:
    """Return what comes of the body first, and whether more will come. Raises what read_body() does.

    Take ``declared``, its length as the client has it: once that is there, some servers have its end to give yet.
    """
    return _bounded(runtime, _read_part(receive, limit, declared))


@coroutine
def _bounded(runtime: WasmRuntime, work: Coroutine[Any, None, T]) -> Generator[Any, None, T]:
    """Return what ``work`` reads, which is there already, as a rule."""
    try:
        first = work.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    return (yield from _rest(runtime, work, first).__await__())


async def _rest(runtime: WasmRuntime, work: Coroutine[Any, None, T], first: object) -> T:
    """Wait for what ``work`` reads; ``first`` is what that waits for."""
    limit_ms = runtime.settings.body_timeout_ms
    try:
        return await wait_within(work, first, limit_ms, RequestTimeout, partial(runtime.invoker.guard, None))
    except Interrupted:
        raise RuntimeClosed(runtime.state) from None


async def _read_part(receive: Receive, limit: int, declared: int) -> tuple[bytes, bool]:
    body, more = await _message(receive, limit)
    if more and len(body) >= declared:
        end, more = await _message(receive, limit, len(body))
        body += end
    return body, more


async def _message(receive: Receive, limit: int, before: int = 0) -> tuple[bytes, bool]:
    """Return a part of a body, of which there were so many bytes before, and whether more will come."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message.get("body", b"")
    if before + len(body) > limit:
        raise RequestTooLarge(limit)
    return body, message.get("more_body", False)


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
