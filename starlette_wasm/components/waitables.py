"""What the async ABI lets a guest wait for, and the sets that it waits with.

An event is worked out when the guest asks for it: until then a waitable only knows whether there is one. So what the
host has is copied once, into the guest's memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import CanonicalTrap
from .flat_plan import NO_OPTIONS, CanonOptions
from .held import Held, size_of
from .lowering import Realloc, store_at
from .side import Side
from .types import ValueType
from .values import Value

if TYPE_CHECKING:
    from .tasks import Task

NONE, SUBTASK, STREAM_READ, STREAM_WRITE, FUTURE_READ, FUTURE_WRITE, TASK_CANCELLED = range(7)
"""Codes of events."""
STARTING, STARTED, RETURNED, CANCELLED_BEFORE_STARTED, CANCELLED_BEFORE_RETURNED = range(5)
"""States of a subtask."""
MAX_OF_SET = 1000
MAX_OF_SETS = 2000
"""Waitables in all sets of one invocation: they are looked at each time that a guest may go on."""
MAX_SUBTASKS = 1000
_SMALL = 32 << 10
"""What a result takes, as size_of() has it, that is lowered on the event loop: 500 parts at most."""
Event = tuple[int, int, int]
"""A code, the index of the waitable, and what came of it."""
NO_EVENT: Event = (NONE, 0, 0)
CANCELLED_EVENT: Event = (TASK_CANCELLED, 0, 0)
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

    def may_come(self) -> bool:
        """Return whether the host may yet make it ready."""
        return False

    def join(self, new: WaitableSet | None) -> None:
        """Wait with that set, or with none."""
        if self.set is not None:
            self.set.remove(self)
        self.set = new
        if new is not None:
            new.add(self)

    def check_apart(self, done: str = "cancelled") -> None:
        """Trap if it is in a set, which what takes its event at once may not be."""
        if self.set is not None:
            raise CanonicalTrap(f"a waitable is {done} that is in a waitable set")


@dataclass(slots=True)
class Joined:
    """How many waitables are in the sets of one invocation."""

    count: int = 0


class WaitableSet:
    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self.items: dict[Waitable, None] = {}
        """In the order in which they get their turns."""
        self.waiters = 0
        """How many tasks wait with it."""

    def add(self, waitable: Waitable) -> None:
        """Traps if there are too many."""
        if len(self.items) >= MAX_OF_SET:
            raise CanonicalTrap(f"more than {MAX_OF_SET} waitables in a set")
        self._joined.count += 1
        if self._joined.count > MAX_OF_SETS:
            raise CanonicalTrap(f"more than {MAX_OF_SETS} waitables in sets")
        self.items[waitable] = None

    def remove(self, waitable: Waitable) -> None:
        del self.items[waitable]
        self._joined.count -= 1

    def check_drop(self) -> None:
        """Trap unless it may be dropped."""
        if self.items:
            raise CanonicalTrap("a waitable set is dropped that is not empty")
        if self.waiters:
            raise CanonicalTrap("a waitable set is dropped with which a task waits")

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
    """A call that is under way, of the host or of another component."""

    resolved: bool
    """Whether the guest knows how it ended."""


class HostSubtask(Subtask):
    """A call of the host."""

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

    def may_come(self) -> bool:
        return not self.resolved and (self._task is None or not self._task.done())

    def deliver(self) -> Delivery:
        self.resolved = True
        self._side.end_call()
        assert self._task is not None
        if self._kind is not None:
            yield from store_at(self._side, self._at, self._task.result(), self._kind)
        self._task = None
        self._held.release(self)
        return SUBTASK, self.index, RETURNED

    def take(self) -> Value:
        """Return the result, which is there."""
        self.resolved = True
        assert self._task is not None
        self._held.release(self)
        return self._task.result()

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


class GuestSubtask(Subtask):
    """A call of another component of the same invocation: what its task tells the guest that called it."""

    def __init__(self, side: Side, options: CanonOptions, kind: ValueType | None, at: int, held: Held) -> None:
        """Take ``at``, where the guest wants the result of that type, if there is one."""
        super().__init__()
        self.options = options
        self._side = side
        self._kind = kind
        self._at = at
        self._held = held
        self._value: Value = None
        self._size = 0
        self._state = self._told = STARTING
        self.resolved = False
        self.is_cancelled = False
        """Whether the guest has asked for that."""
        self.task: Task | None = None
        """What was called, once the guest knows it."""

    @property
    def state(self) -> int:
        """How far the task is."""
        return self._state

    @property
    def has_ended(self) -> bool:
        """Whether the task has a result, or will have none."""
        return self._state > STARTED

    def started(self) -> None:
        """Note that the task has its arguments."""
        self._state = STARTED

    def returned(self, value: Value, size: int) -> None:
        """Take the result, until the guest asks for it. Traps if that is too much."""
        self._held.hold(self, size)
        self._value, self._size, self._state = value, size, RETURNED

    def cancelled(self) -> None:
        """Note that there will be no result."""
        self._state = CANCELLED_BEFORE_STARTED if self._state == STARTING else CANCELLED_BEFORE_RETURNED

    def tell(self) -> int:
        """Note that the guest is told how far the task is, and return that."""
        self._told = self._state
        self.resolved = self.has_ended
        return self._state

    def take(self) -> Value:
        """Return the result, which the guest gets now, and take back what was lent."""
        value, self._value = self._value, None
        self._side.end_call()
        self._held.release(self)
        return value

    def ready(self) -> bool:
        return self._state != self._told

    def is_light(self) -> bool:
        return self._size <= _SMALL

    def deliver(self) -> Delivery:
        state = self.tell()
        if self.has_ended:
            value = self.take()
            if state == RETURNED and self._kind is not None:
                yield from store_at(self._side, self._at, value, self._kind)
        return SUBTASK, self.index, state


def checked_bytes(memory: Any, at: int, size: int) -> int:
    """Trap unless so many bytes are there."""
    memory.read(at + size - 1 if size else at, min(size, 1))
    return at
