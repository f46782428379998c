"""The built-ins of the async ABI (component model, CanonicalABI.md)."""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from . import glue
from .errors import CanonicalTrap
from .flat_plan import AsyncFunction, HostFunction
from .pipes import BLOCKED, End, Pipe
from .scheduler import Scheduler
from .tasks import Call, Task
from .types import AsyncValueType
from .waitables import (
    CANCELLED_EVENT,
    NO_EVENT,
    Delivery,
    Event,
    GuestSubtask,
    HostSubtask,
    Joined,
    Subtask,
    Waitable,
    WaitableSet,
    checked_bytes,
)

if TYPE_CHECKING:
    from .calls import Calls, InstanceState

BuiltinResult = Generator[Any, Any, list[int]]


class AsyncBuiltins:
    """Carries them out, for the guests of one invocation."""

    def __init__(self, calls: Calls, scheduler: Scheduler) -> None:
        self._calls = calls
        self._scheduler = scheduler
        self._joined = Joined()

    def call(self, host: HostFunction, function: AsyncFunction, state: InstanceState, flat: list[int]) -> BuiltinResult:
        """Carry out the one that ``function`` is."""
        family, _, action = function.name.partition(".")
        numbers = [each & 0xFFFFFFFF for each in flat]
        call = self._scheduler.call
        match family:
            case "stream" | "future":
                return (yield from self._copy(host, function, action, state, numbers))
            case "subtask":
                return (yield from self._subtask(function, action, state, numbers[0]))
            case "waitable-set":
                return (yield from self._waitable_set(host, function, action, state, numbers))
            case "waitable":
                return self._join(state, *numbers)
            case "context":
                return _context(call, action, function.slot, numbers)
            case "backpressure":
                return state.count_backpressure(1 if action == "inc" else -1)
            case "thread":
                return (yield from self._yield(function, call))
        if not isinstance(call, Task) or not call.function.options.is_async:
            raise CanonicalTrap(f"{function.name} is called outside of a task")
        if action == "return":
            side = self._calls.side(host.instance, host.options)
            side.to_guest = call.side.to_guest
            call.give(side, function.type, flat)
        else:
            call.cancel()
        return []

    def _yield(self, function: AsyncFunction, call: Call) -> BuiltinResult:
        if _takes_cancellation(function, call):
            return [1]
        if call.may_block:
            yield from self._scheduler.pause()
        return [int(_takes_cancellation(function, call))]

    def _subtask(self, function: AsyncFunction, action: str, state: InstanceState, index: int) -> BuiltinResult:
        subtask = state.handles.get_kind(index, Subtask, "subtask")
        if action == "cancel":
            if not function.flag:
                subtask.check_apart()
            if isinstance(subtask, GuestSubtask):
                yield from self._cancel(subtask)
                if not subtask.has_ended:
                    if function.flag:
                        return [BLOCKED]
                    self._scheduler.call.check_blocking()
                    yield from self._scheduler.block(lambda: subtask.has_ended)
            delivery = _delivery_of_cancelled(subtask)
            event = yield from self._calls.allocating(delivery, subtask.options, state, glue.ANY_REALLOC)
            return [event[2]]
        if not subtask.resolved:
            raise CanonicalTrap("a subtask is dropped that has not ended")
        subtask.join(None)
        state.handles.free(index)
        return []

    def _cancel(self, subtask: GuestSubtask) -> Generator[Any, Any, None]:
        """Ask the task of another component to end."""
        if subtask.resolved or subtask.is_cancelled:
            raise CanonicalTrap("subtask.cancel of a subtask that has ended or is cancelled")
        subtask.is_cancelled = True
        task = subtask.task
        assert task is not None, "the guest knows it by its index"
        if task.is_new:
            self._scheduler.withdraw(task)
        elif not subtask.has_ended:
            yield from self._scheduler.cancel(task)

    @staticmethod
    def _join(state: InstanceState, index: int, index_of_set: int) -> list[int]:
        waitable = state.handles.get_kind(index, Waitable, "waitable")
        new = state.handles.get_kind(index_of_set, WaitableSet, "waitable set") if index_of_set else None
        waitable.join(new)
        return []

    def _waitable_set(
        self, host: HostFunction, function: AsyncFunction, action: str, state: InstanceState, numbers: list[int]
    ) -> BuiltinResult:
        if action == "new":
            return [state.handles.add(WaitableSet(self._joined))]
        if action == "wait":
            self._scheduler.call.check_blocking()
        waited = state.handles.get_kind(numbers[0], WaitableSet, "waitable set")
        if action == "drop":
            waited.check_drop()
            state.handles.free(numbers[0])
            return []
        side = self._calls.side(host.instance, host.options)
        at = checked_bytes(side.memory, numbers[1], 8)
        event = yield from self._event_of(waited, function, state, waits=action == "wait")
        side.memory.write(at, struct.pack("<II", *event[1:]))
        return [event[0]]

    def _event_of(
        self, waited: WaitableSet, function: AsyncFunction, state: InstanceState, *, waits: bool
    ) -> Generator[Any, Any, Event]:
        call = self._scheduler.call
        if _takes_cancellation(function, call):
            return CANCELLED_EVENT
        if waits and not waited.ready():
            waited.waiters += 1
            yield from self._scheduler.block(
                lambda: waited.ready() or _is_to_be_cancelled(function, call), waited.items
            )
            waited.waiters -= 1
            if _takes_cancellation(function, call):
                return CANCELLED_EVENT
        found = waited.take_turn()
        if found is None:
            return NO_EVENT
        return (yield from self._calls.allocating(found.deliver(), found.options, state, glue.ANY_REALLOC))

    def _copy(
        self, host: HostFunction, function: AsyncFunction, action: str, state: InstanceState, numbers: list[int]
    ) -> BuiltinResult:
        kind, waits = function.type, action in ("read", "write") and not host.options.is_async
        assert isinstance(kind, AsyncValueType)
        if waits:
            self._scheduler.call.check_blocking()
        if action == "new":
            pipe = Pipe(kind)
            read, write = (_add(state, End(pipe, writes=writes)) for writes in (False, True))
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
            if not function.flag:
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
            yield from self._scheduler.block(end.ready, (end,))
        event = yield from self._calls.allocating(end.deliver(), end.options, state, kind_of_room)
        return [event[2]]


def _delivery_of_cancelled(subtask: Subtask) -> Delivery:
    """Return the event of a subtask that the guest has cancelled, after what there is to do for that."""
    assert isinstance(subtask, GuestSubtask | HostSubtask)
    return subtask.deliver() if isinstance(subtask, GuestSubtask) else subtask.cancel()


def _is_to_be_cancelled(function: AsyncFunction, call: Call) -> bool:
    """Return whether a built-in that its guest lets be cancelled has to give that."""
    return function.flag and isinstance(call, Task) and call.is_to_be_cancelled


def _takes_cancellation(function: AsyncFunction, call: Call) -> bool:
    """Return whether it gives that now, which is done once."""
    return function.flag and isinstance(call, Task) and call.take_cancellation()


def _context(call: Call, action: str, slot: int, numbers: list[int]) -> list[int]:
    if action == "get":
        return [call.context[slot]]
    call.context[slot] = numbers[0]
    return []


def _add(state: InstanceState, end: End) -> int:
    end.index = state.handles.add(end)
    return end.index
