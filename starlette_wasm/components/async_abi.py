"""The built-ins of the async ABI, and the tasks whose code calls them (component model, CanonicalABI.md).

A task is a call of a function that is lifted with a callback: its core function returns, with what it waits for, and
is called back with each event. No stack of the guest is suspended.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from . import glue
from .awaited import Await
from .errors import CanonicalTrap
from .flat_plan import AsyncFunction, HostFunction, ImportedFunction, LiftedFunction
from .glue import GuestCall
from .lifting import lift_params, lift_values
from .lowering import lower_params, store_at
from .pipes import BLOCKED, End, Pipe
from .side import Side
from .types import AsyncValueType, ValueType, async_signature
from .values import Value
from .waitables import (
    MAX_SUBTASKS,
    NONE,
    RETURNED,
    STARTED,
    Event,
    Subtask,
    Waitable,
    WaitableSet,
    checked_bytes,
)

if TYPE_CHECKING:
    from .calls import Calls, InstanceState

EXIT, YIELD, WAIT = range(3)
"""What a core function of a task wants next."""
OnReturn = Callable[[Value], None]


class Waits(Protocol):
    """How the guest waits on the event loop."""

    def notify(self) -> None: ...
    async def until(self, ready: Callable[[], bool]) -> None: ...


class Call:
    """One call of a function that a component exports, or of a destructor."""

    def __init__(self, *, may_block: bool = False) -> None:
        """Begin it; ``may_block`` is whether its guest may wait on its stack: a function that is not async may not."""
        self.context = [0, 0]
        self.may_block = may_block

    def check_blocking(self) -> None:
        """Trap if it may not."""
        if not self.may_block:
            raise CanonicalTrap("cannot block a synchronous task before returning")


class Task(Call):
    """One call of a function that is lifted as async."""

    def __init__(self, function: LiftedFunction, side: Side, on_return: OnReturn) -> None:
        super().__init__(may_block=True)
        self.function = function
        self.side = side
        self.returned = False
        self.result: Value = None
        self._on_return = on_return

    def give(self, side: Side, result: ValueType | None, flat: list[int]) -> None:
        """Take the result, from ``task.return``."""
        kind = self.function.type.result
        if self.returned:
            raise CanonicalTrap("task.return is called twice")
        if (result and result.text) != (kind and kind.text) or side.encoding != self.side.encoding:
            raise CanonicalTrap("task.return gives a result of another type than that of its task")
        assert self.side.scope is not None
        if self.side.scope.borrows:
            raise CanonicalTrap("borrow handles still remain at the end of the call")
        self.returned = True
        self.result = None if kind is None else lift_values(side, kind, flat)
        self._on_return(self.result)


class AsyncCalls:
    """What is async among the calls of one invocation."""

    def __init__(self, calls: Calls, waits: Waits | None) -> None:
        self._calls = calls
        self._waits = waits
        self.call = Call()
        """The innermost call under way."""
        self._subtasks: list[Subtask] = []
        self._waited: WaitableSet | None = None
        """What the task waits for, if it waits."""

    @property
    def _host(self) -> Waits:
        assert self._waits is not None, "it was made for calls that wait for nothing"
        return self._waits

    def close(self) -> None:
        """End what the guest has left under way."""
        for each in self._subtasks:
            each.stop()

    def resumes_light(self) -> bool:
        """Return whether the task that waits gets an event that is worked out in no time."""
        return self._waited is None or self._waited.is_light()

    def is_light(self, function: AsyncFunction, state: InstanceState, flat: Sequence[int]) -> bool:
        """Return whether what a built-in gives of what others have begun takes no time."""
        found = state.handles.peek(flat[0] & 0xFFFFFFFF)
        if isinstance(found, WaitableSet):
            return found.is_light()
        if isinstance(found, End) and function.name == "future.read":
            return found.reads_little()
        return not isinstance(found, Waitable) or not found.ready() or found.is_light()

    def lifted(
        self, function: LiftedFunction, values: Sequence[Value], on_return: OnReturn
    ) -> Generator[Any, Any, Value]:
        """Run a task to its end. ``on_return`` gets the result as soon as it is there; the task may go on."""
        state, side, _ = self._calls.enter(function)
        lowering = lower_params(side, function.type, values)
        flat = yield from self._calls.allocating(lowering, function.options, state, glue.CALLEE_REALLOC)
        task = self.call = Task(function, side, on_return)
        callback = function.options.callback
        assert callback is not None  # the plan was refused otherwise
        form = async_signature(function.type, lowered=False)
        (packed,) = yield GuestCall(glue.CALL, function.core, flat, form)
        while packed & 15 != EXIT:
            code, index = packed & 15, (packed & 0xFFFFFFFF) >> 4
            event: Event = (NONE, 0, 0)
            if code == WAIT:
                waited = state.handles.get_kind(index, WaitableSet, "waitable set")
                self._waited = waited
                if not waited.ready() or not waited.is_light():
                    yield Await(partial(self._host.until, waited.ready))
                self._waited = None
                event = yield from self._next_event(waited, state)
            elif code == YIELD:
                yield Await(lambda: asyncio.sleep(0))
            else:
                raise CanonicalTrap(f"unsupported callback code: {code}")
            (packed,) = yield GuestCall(glue.CALL, callback, list(event), glue.CALLBACK_FORM)
        if not task.returned:
            raise CanonicalTrap("a task ended without a result")
        state.entered = False
        return task.result

    def _next_event(self, waited: WaitableSet, state: InstanceState) -> Generator[Any, Any, Event]:
        """Return the event of one that is ready, for which the guest may have to give room."""
        found = waited.take_turn()
        assert found is not None, "nothing takes an event away meanwhile"
        return (yield from self._calls.allocating(found.deliver(), found.options, state, glue.CALLEE_REALLOC))

    def imported(self, host: HostFunction, state: InstanceState, flat: list[int]) -> Generator[Any, Any, list[int]]:
        """Call a function of the host that is lowered as async."""
        assert isinstance(host.of, ImportedFunction)
        kind = host.of.type
        side = self._calls.side(host.instance, host.options)
        form = async_signature(kind, lowered=True)
        result = self._calls.imports.call(host.of, lift_params(side, kind, flat, form))
        at = flat[-1] & 0xFFFFFFFF
        if isinstance(result, Await):
            self._subtasks = [each for each in self._subtasks if not each.resolved]
            if len(self._subtasks) >= MAX_SUBTASKS:
                raise CanonicalTrap(f"more than {MAX_SUBTASKS} subtasks")
            subtask = Subtask(side, host.options, kind.result, at, self._calls.held)
            self._subtasks.append(subtask)
            subtask.index = state.handles.add(subtask)
            begin = result.begin
            yield Await(lambda: subtask.start(begin, self._host.notify))
            return [STARTED | subtask.index << 4]
        side.end_call()
        if kind.result is not None:
            storing = store_at(side, at, result, kind.result)
            yield from self._calls.allocating(storing, host.options, state, glue.REALLOC)
        return [RETURNED]

    def builtin(
        self, host: HostFunction, function: AsyncFunction, state: InstanceState, flat: list[int]
    ) -> Generator[Any, Any, list[int]]:
        """Carry out a built-in."""
        family, _, action = function.name.partition(".")
        numbers = [each & 0xFFFFFFFF for each in flat]
        if family in ("stream", "future"):
            return (yield from self._copy(host, function, action, state, numbers))
        if family == "subtask":
            return (yield from self._subtask(host, action, state, *numbers))
        if family in ("waitable-set", "waitable"):
            return (yield from self._waitable(host, action, state, numbers))
        if family == "context":
            return self._context(action, function.slot, numbers)
        if family == "backpressure":
            return state.count_backpressure(1 if action == "inc" else -1)
        task = self.call
        if function.name == "thread.yield":
            if task.may_block:
                yield Await(lambda: asyncio.sleep(0))
            return [0]  # nobody cancels a task
        if not isinstance(task, Task):
            raise CanonicalTrap(f"{function.name} is called outside of a task")
        if function.name == "task.return":
            task.give(self._calls.side(host.instance, host.options), function.type, flat)
            return []
        raise CanonicalTrap("task.cancel is called, and nobody has asked for that")

    def _context(self, action: str, slot: int, numbers: list[int]) -> list[int]:
        context = self.call.context
        if action == "get":
            return [context[slot]]
        context[slot] = numbers[0]
        return []

    def _subtask(
        self, host: HostFunction, action: str, state: InstanceState, index: int
    ) -> Generator[Any, Any, list[int]]:
        subtask = state.handles.get_kind(index, Subtask, "subtask")
        if action == "cancel":
            subtask.check_apart()
            event = yield from self._calls.allocating(subtask.cancel(), subtask.options, state, glue.ANY_REALLOC)
            return [event[2]]
        if not subtask.resolved:
            raise CanonicalTrap("a subtask is dropped that has not ended")
        subtask.join(None)
        state.handles.free(index)
        return []

    def _waitable(
        self, host: HostFunction, action: str, state: InstanceState, numbers: list[int]
    ) -> Generator[Any, Any, list[int]]:
        handles = state.handles
        if action == "new":
            return [handles.add(WaitableSet())]
        if action == "wait":
            self.call.check_blocking()
        if action == "join":
            waitable = handles.get_kind(numbers[0], Waitable, "waitable")
            waitable.join(handles.get_kind(numbers[1], WaitableSet, "waitable set") if numbers[1] else None)
            return []
        waited = handles.get_kind(numbers[0], WaitableSet, "waitable set")
        if action == "drop":
            if waited.items:
                raise CanonicalTrap("a waitable set is dropped that is not empty")
            handles.free(numbers[0])
            return []
        side = self._calls.side(host.instance, host.options)
        at = checked_bytes(side.memory, numbers[1], 8)
        if action == "wait" and not waited.ready():
            yield Await(partial(self._host.until, waited.ready))
        found = waited.take_turn()
        event: Event = (NONE, 0, 0)
        if found is not None:
            event = yield from self._calls.allocating(found.deliver(), found.options, state, glue.ANY_REALLOC)
        side.memory.write(at, struct.pack("<II", *event[1:]))
        return [event[0]]

    def _copy(
        self, host: HostFunction, function: AsyncFunction, action: str, state: InstanceState, numbers: list[int]
    ) -> Generator[Any, Any, list[int]]:
        kind, waits = function.type, action in ("read", "write") and not host.options.is_async
        assert isinstance(kind, AsyncValueType)
        if waits:
            self.call.check_blocking()
        if action == "new":
            pipe = Pipe(kind)
            read, write = (self._add(state, End(pipe, writes=writes)) for writes in (False, True))
            return [read | write << 32]
        writes = action.endswith(("write", "writable"))
        end = state.handles.get_end(numbers[0], kind)
        assert isinstance(end, End)
        if end.writes is not writes:
            raise CanonicalTrap(f"{function.name} of the other end of a {kind.kind}")
        if action.startswith("drop"):
            end.drop()
            state.handles.free(numbers[0])
            return []
        if action.startswith("cancel"):
            end.check_apart()
            end.cancel()
            kind_of_room = glue.ANY_REALLOC
        else:
            count = numbers[2] if len(numbers) > 2 else 1
            if waits:
                end.check_apart("waited for by itself")
            end.begin(self._calls.side(host.instance, host.options), host.options, numbers[1], count)
            kind_of_room = glue.REALLOC
        if not end.ready():
            if not waits:
                return [BLOCKED]
            yield Await(partial(self._host.until, end.ready))
        event = yield from self._calls.allocating(end.deliver(), end.options, state, kind_of_room)
        return [event[2]]

    @staticmethod
    def _add(state: InstanceState, end: End) -> int:
        end.index = state.handles.add(end)
        return end.index
