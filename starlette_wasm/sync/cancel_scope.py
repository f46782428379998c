"""What ends a wait early: a client that goes away, a runtime that closes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from enum import Enum
from types import TracebackType

OnDisconnect = Callable[[], Awaitable[object]]
"""Returns when nobody waits for the answer any more."""


class Why(Enum):
    GONE = "the client is gone"
    CLOSING = "the runtime closes"


class Interrupted(Exception):
    """Raised at the end of a CancelScope block, in place of the cancellation."""

    def __init__(self, why: Why) -> None:
        self.why = why
        super().__init__(why.value)


class CancelScopes:
    """The blocks under way, to interrupt them all."""

    def __init__(self) -> None:
        self._blocks: set[CancelScope] = set()

    def __len__(self) -> int:
        return len(self._blocks)

    def interrupt(self, why: Why) -> None:
        for block in list(self._blocks):
            block.interrupt(why)

    def add(self, block: CancelScope) -> None:
        self._blocks.add(block)

    def discard(self, block: CancelScope) -> None:
        self._blocks.discard(block)


class CancelScope:
    """Cancels the body of an ``async with`` when ``on_disconnect`` returns, or when the group is interrupted.

    ``on_disconnect`` runs in ``context``: what a traced ``receive`` adds to a trace is not part of the body's span.
    """

    def __init__(self, group: CancelScopes, on_disconnect: OnDisconnect | None, context: Context | None = None) -> None:
        self._group = group
        self._gone = on_disconnect
        self._context = context
        self._why: Why | None = None
        self._sent = False
        """Whether the task was cancelled from here."""
        self._watch: asyncio.Future[object] | None = None
        self._over = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "needs a task to cancel"
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._group.add(self)
        if self._gone is not None:
            self._watch = self._loop.create_task(_watch(self._gone), context=self._context)
            self._watch.add_done_callback(self._on_gone)

    def _on_gone(self, watch: asyncio.Future[object]) -> None:
        if not watch.cancelled():
            watch.exception()  # a broken connection is gone too
            self.interrupt(Why.GONE)

    def interrupt(self, why: Why) -> None:
        """Interrupt it, from any thread."""
        if self._over or self._why is not None:
            return
        self._why = why
        if asyncio._get_running_loop() is self._loop:
            self._cancel()
        else:
            with suppress(RuntimeError):  # its loop is closed: nothing runs there any more
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if not self._over:
            self._sent = True
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._group.discard(self)
        if self._watch is not None:
            self._watch.remove_done_callback(self._on_gone)
            self._watch.cancel()
        # As asyncio.timeout() does it: who else has cancelled the task is to be obeyed.
        if not self._sent or self._why is None:  # from another thread, it may have come too late
            return
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise Interrupted(self._why) from None


async def _watch(on_disconnect: OnDisconnect) -> object:
    return await on_disconnect()
