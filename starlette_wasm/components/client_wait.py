"""Waits of a guest for its client, which are not the guest's time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..engine.invocation import Pause
from ..sync.cancel_scope import Interrupted, Why
from .http_exchange import HttpExchange, do_nothing
from .values import Value


async def wait_for_client(
    begin: Callable[[], Awaitable[Value]],
    exchange: HttpExchange,
    pause: Pause,
    postpone: Callable[[float], None] | None,
) -> Value:
    """Wait, without that being the guest's time as long as it is the client who keeps it waiting.

    ``postpone`` moves the deadline of its calls. Raises Interrupted if the client does not take the answer.
    """
    takes = exchange.full
    bound = asyncio.timeout(exchange.patience) if takes else None

    def look() -> None:
        """Let the guest's time run, if it waits for something else than the client, such as a timer."""
        if not exchange.stalled:
            pause.end()
            if bound is not None and not bound.expired():
                bound.reschedule(None)

    exchange.on_change = look
    try:
        if bound is None:
            return await begin()
        async with bound:
            return await begin()
    except TimeoutError:
        if bound is not None and bound.expired():
            raise Interrupted(Why.GONE) from None
        raise
    finally:
        exchange.on_change = do_nothing
        waited = pause.end()
        exchange.waited += waited
        exchange.patience -= waited if takes else 0
        if postpone is not None:
            postpone(waited)
