"""Which task of an invocation runs: one at a time, until it waits.

All guests of an invocation have one stack. While a call on it waits, tasks that can go on are called back on top of
it, so that they have to return before what is below goes on. A function that waits on its stack therefore keeps its
caller waiting as well, even one that called it as async: if it waits for what its caller would do next, that is a
deadlock here, where the specification switches stacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from . import glue
from .awaited import Await
from .errors import CanonicalTrap
from .glue import GuestCall
from .lifting import lift_result
from .lowering import lower_params
from .tasks import Call, Task
from .types import Signature
from .waitables import CANCELLED_EVENT, NO_EVENT, Event, HostSubtask, Waitable, WaitableSet

if TYPE_CHECKING:
    from .calls import Calls, InstanceState

EXIT, YIELD, WAIT = range(3)
"""What a core function of a task wants next."""
MAX_TASKS = 250
"""Tasks of one invocation that wait to be called back."""
DEADLOCK = "deadlock detected: event loop cannot make further progress"
ONE_STACK = "a function waits on its stack, which its caller could end, who waits below it: lift it with a callback"
Running = Generator[Any, Any, None]


class Waits(Protocol):
    """How the guest waits on the event loop."""

    def notify(self) -> None: ...
    async def until(self, ready: Callable[[], bool]) -> None: ...


class Scheduler:
    """Runs the tasks of one invocation."""

    def __init__(self, calls: Calls, waits: Waits | None) -> None:
        self._calls = calls
        self._waits = waits
        self.call = Call()
        """The innermost call under way."""
        self._tasks: list[Task] = []
        """Those that wait to be begun or called back, in the order in which they get their turns."""
        self._entered: list[InstanceState] = []
        """The instances that the calls under way are in, but for calls that wait."""
        self.subtasks: list[HostSubtask] = []
        """Calls of the host under way, and some that have ended."""
        self._blocked: list[Collection[Waitable]] = []
        """What the calls that wait on the stack wait for."""
        self._callers: list[Callable[[], bool]] = []
        """For each call on the stack of another component, whether its caller would go on."""

    @property
    def host(self) -> Waits:
        assert self._waits is not None, "it was made for calls that wait for nothing"
        return self._waits

    @property
    def has_tasks(self) -> bool:
        """Whether any task waits."""
        return bool(self._tasks)

    def resumes_light(self) -> bool:
        """Return whether what goes on next gets an event that is worked out in no time."""
        task = self._next()
        return task is None or task.waited is None or task.waited.is_light()

    def enter(self, state: InstanceState) -> None:
        """Note that an instance is called. Traps if a call of it is under way, and does not wait."""
        if state.entered:
            raise CanonicalTrap("cannot enter component instance")
        state.entered = True
        self._entered.append(state)

    def leave(self) -> None:
        """Note that the instance that was entered last has returned."""
        self._entered.pop().entered = False

    def begin(self, task: Task) -> Running:
        """Begin a task, now or once its instance has room for it."""
        if task.state.entered:
            raise CanonicalTrap("cannot enter component instance")
        if task.state.entering or not task.can_go_on():
            task.state.entering += 1
            self._park(task)
            return
        yield from self._start(task)

    def begin_above(self, task: Task, goes_on: Callable[[], bool]) -> Running:
        """Begin a task on the stack of its caller; ``goes_on`` tells whether that does not wait for it."""
        self._callers.append(goes_on)
        yield from self.begin(task)
        self._callers.pop()

    def withdraw(self, task: Task) -> None:
        """Cancel a task that has not begun."""
        self._tasks.remove(task)
        task.state.entering -= 1
        task.is_new = False
        task.caller.cancelled()

    def cancel(self, task: Task) -> Running:
        """Ask a task to end, at once if it waits for something."""
        task.ask_to_cancel()
        if task in self._tasks and task.can_go_on():
            yield from self._go_on(task)

    def block(self, ready: Callable[[], bool], on: Collection[Waitable] = (), *, may_stay: bool = False) -> Running:
        """Let other tasks run until it is ready, which depends ``on`` something, or on what they do.

        Traps if nothing will ever make it ready; returns then if it ``may_stay`` so.
        """
        call, entered, self._entered = self.call, self._entered, []
        for each in entered:
            each.entered = False
        self._blocked.append(on)
        while not ready():
            task = self._next()
            if task is not None:
                yield from self._go_on(task)
            elif self._may_come():
                yield Await(
                    partial(self.host.until, lambda: ready() or self._next() is not None or not self._may_come())
                )
            elif may_stay:
                break
            else:
                raise CanonicalTrap(ONE_STACK if any(goes_on() for goes_on in self._callers) else DEADLOCK)
        self._blocked.pop()
        for each in entered:
            each.entered = True
        self.call, self._entered = call, entered

    def pause(self) -> Running:
        """Let the event loop have its turn, and the task that has the next one."""
        turns = iter((False, True))
        yield Await(lambda: asyncio.sleep(0))
        yield from self.block(lambda: next(turns) or self._next() is None)

    def run_others(self) -> Running:
        """Run the tasks that are left to their ends, but those that wait for what never comes."""
        if self._tasks:
            yield from self.block(lambda: not self._tasks, may_stay=True)

    def _next(self) -> Task | None:
        known: dict[WaitableSet, bool] = {}
        return next((each for each in self._tasks if each.can_go_on(known)), None)

    def _may_come(self) -> bool:
        """Return whether the host may yet give something that a guest waits for."""
        sets = {each.waited for each in self._tasks if each.waited is not None}
        waited = [*self._blocked, *(each.items for each in sets), self.subtasks]
        return any(each.may_come() for items in waited for each in items)

    def _park(self, task: Task) -> None:
        if len(self._tasks) >= MAX_TASKS:
            raise CanonicalTrap(f"more than {MAX_TASKS} tasks wait")
        self._tasks.append(task)

    def _start(self, task: Task) -> Running:
        function, options = task.function, task.function.options
        task.is_new = False
        self._take_turn(task)
        caller, self.call = self.call, task
        lowering = lower_params(task.side, function.type, task.arguments())
        task.caller.started()
        flat = yield from self._calls.allocating(lowering, options, task.state, glue.ANY_REALLOC)
        form = glue.form_of_lifted(function)
        results: list[int] = yield GuestCall(glue.ANY, function.core, flat, form)
        if not options.is_async:
            yield from self._give(task, results, form)
        if options.callback is None:
            self._end(task)
        else:
            self._follow(task, results[0])
        self.leave()
        self.call = caller

    def _take_turn(self, task: Task) -> None:
        self.enter(task.state)
        if task.is_exclusive:
            task.state.exclusive = task

    def _give(self, task: Task, results: list[int], form: Signature) -> Running:
        """Give the caller what a function returned that is not lifted as async."""
        value = lift_result(task.side, task.function.type, results)
        task.resolve(value, task.side.copied)
        post_return = task.function.options.post_return
        if post_return is not None:
            task.state.may_leave = False
            yield GuestCall(glue.ANY_POST_RETURN, post_return, results, glue.post_return_form(form))
            task.state.may_leave = True

    def _end(self, task: Task) -> None:
        task.end()
        if task.state.exclusive is task:
            task.state.exclusive = None

    def _follow(self, task: Task, packed: int) -> None:
        """Do what the core function of a task wants next."""
        code, index = packed & 15, (packed & 0xFFFFFFFF) >> 4
        if code == EXIT:
            self._end(task)
            return
        if code not in (YIELD, WAIT):
            raise CanonicalTrap(f"unsupported callback code: {code}")
        waited = task.state.handles.get_kind(index, WaitableSet, "waitable set") if code == WAIT else None
        task.wait_for(waited)
        task.state.exclusive = None
        self._park(task)

    def _go_on(self, task: Task) -> Running:
        """Begin a task that had to wait for that, or call it back."""
        if task.is_new:
            self._tasks.remove(task)
            task.state.entering -= 1
            yield from self._start(task)
            return
        waited = task.waited
        if waited is None and not task.is_to_be_cancelled:
            yield Await(lambda: asyncio.sleep(0))
        elif waited is not None and not waited.is_light():
            yield Await(partial(self.host.until, task.can_go_on))
        self._tasks.remove(task)
        self._take_turn(task)
        caller, self.call = self.call, task
        event = yield from self._event(task)
        callback = task.function.options.callback
        assert callback is not None  # only such tasks return before they have ended
        (packed,) = yield GuestCall(glue.ANY, callback, list(event), glue.CALLBACK_FORM)
        self._follow(task, packed)
        self.leave()
        self.call = caller

    def _event(self, task: Task) -> Generator[Any, Any, Event]:
        """Return what a task is called back with, for which its guest may have to give room."""
        waited = task.waited
        task.wait_for(None)
        if task.take_cancellation():
            return CANCELLED_EVENT
        found = None if waited is None else waited.take_turn()
        if found is None:
            return NO_EVENT
        return (yield from self._calls.allocating(found.deliver(), found.options, task.state, glue.ANY_REALLOC))
