"""What the async ABI lets a guest wait for, and the sets that it waits with.

An event is worked out when the guest asks for it: until then a waitable only knows whether there is one. So what the
host has is copied once, into the guest's memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any

from .errors import CanonicalTrap
from .flat_plan import NO_OPTIONS, CanonOptions
from .held import Held, size_of
from .lowering import Realloc, store_at
from .side import Side
from .types import ValueType
from .values import Value

NONE, SUBTASK, STREAM_READ, STREAM_WRITE, FUTURE_READ, FUTURE_WRITE = range(6)
"""Codes of events."""
STARTED, RETURNED, CANCELLED_BEFORE_RETURNED = 1, 2, 4
"""States of a subtask."""
MAX_OF_SET = 1000
MAX_SUBTASKS = 1000
_SMALL = 32 << 10
"""What a result takes, as size_of() has it, that is lowered on the event loop: 500 parts at most."""
Event = tuple[int, int, int]
"""A code, the index of the waitable, and what came of it."""
Delivery = Generator[Realloc, int, Event]


class Waitable:
    """Has an index in the table of its component instance."""

    def __init__(self) -> None:
        self.index = 0
        self.set: WaitableSet | None = None
        self.options: CanonOptions = NO_OPTIONS
        """Those with which what it is about is lifted or lowered."""

    def ready(self) -> bool:
        """Return whether there is an event."""
        raise NotImplementedError

    def deliver(self) -> Delivery:
        """Return the event, which is there; the guest may have to give room for it."""
        raise NotImplementedError

    def is_light(self) -> bool:
        """Return whether deliver() takes no time: it may then be called on the event loop."""
        return True

    def join(self, new: WaitableSet | None) -> None:
        """Wait with that set, or with none."""
        if self.set is not None:
            del self.set.items[self]
        self.set = new
        if new is not None:
            if len(new.items) >= MAX_OF_SET:
                raise CanonicalTrap(f"more than {MAX_OF_SET} waitables in a set")
            new.items[self] = None

    def check_apart(self, done: str = "cancelled") -> None:
        """Trap if it is in a set, which what takes its event at once may not be."""
        if self.set is not None:
            raise CanonicalTrap(f"a waitable is {done} that is in a waitable set")


class WaitableSet:
    def __init__(self) -> None:
        self.items: dict[Waitable, None] = {}
        """In the order in which they get their turns."""

    def ready(self) -> bool:
        return self._next() is not None

    def is_light(self) -> bool:
        """Return whether the event that is next, if there is one, is worked out in no time."""
        found = self._next()
        return found is None or found.is_light()

    def _next(self) -> Waitable | None:
        return next((each for each in self.items if each.ready()), None)

    def take_turn(self) -> Waitable | None:
        """Return one that is ready, which is the last to get the next turn."""
        found = self._next()
        if found is not None:
            del self.items[found]
            self.items[found] = None
        return found


class Subtask(Waitable):
    """A call of the host that is under way."""

    def __init__(self, side: Side, options: CanonOptions, kind: ValueType | None, at: int, held: Held) -> None:
        """Take ``at``, where the guest wants the result, of that type, if there is one.

        Its arguments, and then its result until the guest takes that, are ``held``. Traps if that is too much.
        """
        super().__init__()
        self._held = held
        held.hold(self, side.copied)
        self.options = options
        self._side = side
        self._kind = kind
        self._at = at
        self._task: asyncio.Task[Value] | None = None
        self._size = 0
        self.resolved = False
        """Whether the guest knows how it ended."""

    async def start(self, begin: Callable[[], Awaitable[Value]], notify: Callable[[], None]) -> None:
        """Start the work, on the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(begin))
        self._task.add_done_callback(partial(self._ended, notify))

    async def _run(self, begin: Callable[[], Awaitable[Value]]) -> Value:
        value = await begin()
        self._size = await size_of(value)
        self._held.hold(self, self._size)
        return value

    def _ended(self, notify: Callable[[], None], task: asyncio.Task[Value]) -> None:
        """Wake the guest. It may end without asking how the call ended: asyncio is not to complain of that."""
        failed = task.cancelled() or task.exception() is not None
        if failed or self.resolved:
            self._held.release(self)
        notify()

    def ready(self) -> bool:
        return not self.resolved and self._task is not None and self._task.done()

    def is_light(self) -> bool:
        return self._size <= _SMALL

    def deliver(self) -> Delivery:
        self.resolved = True
        self._side.end_call()
        assert self._task is not None
        if self._kind is not None:
            yield from store_at(self._side, self._at, self._task.result(), self._kind)
        self._task = None
        self._held.release(self)
        return SUBTASK, self.index, RETURNED

    def cancel(self) -> Delivery:
        """End it, or give the event of one that has ended. Traps if the guest knows that it has ended."""
        if self.resolved:
            raise CanonicalTrap("subtask.cancel of a subtask that has ended or is cancelled")
        if self.ready():
            return (yield from self.deliver())
        self.resolved = True
        self._side.end_call()
        self.stop()
        return SUBTASK, self.index, CANCELLED_BEFORE_RETURNED

    def stop(self) -> None:
        """Stop the work, in any thread."""
        if self._task is not None and not self._task.done():
            with suppress(RuntimeError):  # the loop was closed
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)


def checked_bytes(memory: Any, at: int, size: int) -> int:
    """Trap unless so many bytes are there."""
    memory.read(at + size - 1 if size else at, min(size, 1))
    return at
