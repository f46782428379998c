"""Calls of functions that may wait: tasks, and subtasks of the host and of other components."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from . import glue
from .async_builtins import AsyncBuiltins, BuiltinResult
from .awaited import Await
from .errors import CanonicalTrap
from .flat_plan import AsyncFunction, HostFunction, ImportedFunction, LiftedFunction
from .handles import CallScope
from .lifting import lift_params
from .lowering import lower_result, store_at
from .pipes import End
from .scheduler import Scheduler, Waits
from .tasks import Caller, HostCaller, OnReturn, Task
from .types import async_signature
from .values import Value
from .waitables import MAX_SUBTASKS, RETURNED, STARTED, GuestSubtask, HostSubtask, Waitable, WaitableSet

if TYPE_CHECKING:
    from .calls import Calls, InstanceState


class AsyncCalls:
    """What is async among the calls of one invocation."""

    def __init__(self, calls: Calls, waits: Waits | None) -> None:
        self._calls = calls
        self.scheduler = Scheduler(calls, waits)
        self.builtins = AsyncBuiltins(calls, self.scheduler)

    def close(self) -> None:
        """End what the guest has left under way."""
        for each in self.scheduler.subtasks:
            each.stop()

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
        """Run a task to its end, and those that it has begun. ``on_return`` gets the result as soon as it is there; the
        task may go on.
        """
        caller = HostCaller(on_return)
        task = self._task(function, caller, lambda: values)
        yield from self.scheduler.begin(task)
        yield from self.scheduler.block(lambda: task.has_ended)
        yield from self.scheduler.run_others()
        return caller.result

    def _task(self, function: LiftedFunction, caller: Caller, arguments: Callable[[], Sequence[Value]]) -> Task:
        side = self._calls.side(function.instance, function.options, CallScope())
        return Task(function, side, self._calls.state(function.instance), caller, arguments)

    def inner(
        self, host: HostFunction, function: LiftedFunction, state: InstanceState, flat: list[int]
    ) -> BuiltinResult:
        """Call a function of another component that may wait."""
        kind, scheduler = function.type, self.scheduler
        side = self._calls.side(host.instance, host.options)
        side.to_guest = True
        form = glue.form_of(host)
        at = flat[-1] if form.result_spilled else None
        subtask = GuestSubtask(side, host.options, kind.result, (at or 0) & 0xFFFFFFFF, self._calls.held)
        task = self._task(function, subtask, lambda: lift_params(side, kind, flat, form))
        task.side.to_guest = True
        task.may_block = host.options.is_async or scheduler.call.may_block
        yield from scheduler.begin_above(task, lambda: host.options.is_async or subtask.has_ended)
        if not host.options.is_async:
            if not subtask.has_ended:
                scheduler.call.check_blocking()
                yield from scheduler.block(lambda: subtask.has_ended)
            lowering = lower_result(side, kind, subtask.take(), at)
            return (yield from self._calls.allocating(lowering, host.options, state, glue.REALLOC))
        if subtask.has_ended:
            event = yield from self._calls.allocating(subtask.deliver(), host.options, state, glue.REALLOC)
            return [event[2]]
        subtask.task = task
        subtask.index = state.handles.add(subtask)
        return [subtask.tell() | subtask.index << 4]

    def imported(self, host: HostFunction, state: InstanceState, flat: list[int]) -> BuiltinResult:
        """Call a function of the host that is lowered as async."""
        assert isinstance(host.of, ImportedFunction)
        kind = host.of.type
        side = self._calls.side(host.instance, host.options)
        form = async_signature(kind, lowered=True)
        result = self._calls.imports.call(host.of, lift_params(side, kind, flat, form))
        at = flat[-1] & 0xFFFFFFFF
        if isinstance(result, Await):
            subtask = HostSubtask(side, host.options, kind.result, at, self._calls.held)
            yield from self._begin(subtask, result)
            subtask.index = state.handles.add(subtask)
            return [STARTED | subtask.index << 4]
        side.end_call()
        if kind.result is not None:
            storing = store_at(side, at, result, kind.result)
            yield from self._calls.allocating(storing, host.options, state, glue.REALLOC)
        return [RETURNED]

    def _begin(self, subtask: HostSubtask, result: Await) -> Generator[Any, Any, None]:
        """Start what the host does for a guest that goes on meanwhile."""
        under_way = self.scheduler.subtasks = [each for each in self.scheduler.subtasks if not each.resolved]
        if len(under_way) >= MAX_SUBTASKS:
            raise CanonicalTrap(f"more than {MAX_SUBTASKS} subtasks")
        under_way.append(subtask)
        yield Await(lambda: subtask.start(result.begin, self.scheduler.host.notify))

    def awaited(self, host: HostFunction, result: Await) -> Generator[Any, Any, Value]:
        """Wait for the host on the guest's stack, while other tasks run."""
        if not self.scheduler.has_tasks:
            value: Value = yield result
            return value
        subtask = HostSubtask(self._calls.side(host.instance, host.options), host.options, None, 0, self._calls.held)
        yield from self._begin(subtask, result)
        yield from self.scheduler.block(subtask.ready, (subtask,))
        return subtask.take()
