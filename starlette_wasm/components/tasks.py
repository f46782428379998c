"""Calls of a guest, and tasks: calls that may wait, and that may go on after their result.

A task is a call of a function whose type is async. Lifted with a callback, its core function returns with what it
waits for, and is called back with each event; otherwise it waits on its stack (component model, CanonicalABI.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from .errors import CanonicalTrap
from .flat_plan import LiftedFunction
from .lifting import lift_values
from .side import Side
from .types import ValueType
from .values import Value
from .waitables import WaitableSet

if TYPE_CHECKING:
    from .calls import InstanceState

OnReturn = Callable[[Value], None]
_REQUESTED, _DELIVERED = 1, 2


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


class Caller(Protocol):
    """Who called a task."""

    def started(self) -> None:
        """Note that the task has its arguments."""

    def returned(self, value: Value, size: int) -> None:
        """Take the result, of so many bytes in the guest's memory."""

    def cancelled(self) -> None:
        """Note that the task has ended without a result, as was asked for."""


class HostCaller:
    """The host, which cancels no task. ``on_return`` gets the result as soon as it is there."""

    def __init__(self, on_return: OnReturn) -> None:
        self._on_return = on_return
        self.result: Value = None

    def started(self) -> None:
        """Do nothing: it waits for the result."""

    def returned(self, value: Value, size: int) -> None:
        self.result = value
        self._on_return(value)

    def cancelled(self) -> None:
        raise AssertionError("the host cancels no task")


class Task(Call):
    """One call of a function whose type is async."""

    def __init__(
        self,
        function: LiftedFunction,
        side: Side,
        state: InstanceState,
        caller: Caller,
        arguments: Callable[[], Sequence[Value]],
    ) -> None:
        """Take ``arguments``, which lifts them: when the task begins, which may be later."""
        super().__init__(may_block=True)
        self.function = function
        self.side = side
        self.state = state
        self.caller = caller
        self.arguments = arguments
        self.is_resolved = False
        """Whether its result is known, or that there is none."""
        self.has_ended = False
        self.is_new = True
        """Whether it has not begun."""
        self.waited: WaitableSet | None = None
        """What it waits for, to be called back; None if it yields."""
        self._cancelled = 0

    @property
    def is_exclusive(self) -> bool:
        """Whether no other task of its kind may run in its instance beside it."""
        options = self.function.options
        return not options.is_async or options.callback is not None

    def can_go_on(self, known: dict[WaitableSet, bool] | None = None) -> bool:
        """Return whether it can be begun, or called back. What is ``known`` of sets is not worked out again."""
        state = self.state
        if state.entered or (self.is_exclusive and state.exclusive is not None):
            return False
        if self.is_new:
            return not state.backpressure
        waited = self.waited
        if waited is None or self.is_to_be_cancelled:
            return True
        if known is None:
            return waited.ready()
        if waited not in known:
            known[waited] = waited.ready()
        return known[waited]

    @property
    def is_to_be_cancelled(self) -> bool:
        """Whether its guest has not been asked yet to end it."""
        return self._cancelled == _REQUESTED

    def ask_to_cancel(self) -> None:
        """Have its guest asked to end it, once that waits for something that can be cancelled."""
        self._cancelled = _REQUESTED

    def take_cancellation(self) -> bool:
        """Return whether its guest is to be asked now."""
        if self._cancelled != _REQUESTED:
            return False
        self._cancelled = _DELIVERED
        return True

    def give(self, side: Side, result: ValueType | None, flat: list[int]) -> None:
        """Take the result, from ``task.return``."""
        kind = self.function.type.result
        if self.is_resolved:
            raise CanonicalTrap("task.return is called twice")
        if (result and result.text) != (kind and kind.text) or side.encoding != self.side.encoding:
            raise CanonicalTrap("task.return gives a result of another type than that of its task")
        self.resolve(None if kind is None else lift_values(side, kind, flat), side.copied)

    def resolve(self, value: Value, size: int) -> None:
        """Give the result to the caller."""
        self._check_borrows()
        self.is_resolved = True
        self.caller.returned(value, size)

    def cancel(self) -> None:
        """End it without a result, from ``task.cancel``."""
        if self._cancelled != _DELIVERED or self.is_resolved:
            raise CanonicalTrap("task.cancel is called, and nobody has asked for that")
        self._check_borrows()
        self.is_resolved = True
        self.caller.cancelled()

    def wait_for(self, waited: WaitableSet | None) -> None:
        """Note what it waits for now."""
        for each, more in ((self.waited, -1), (waited, 1)):
            if each is not None:
                each.waiters += more
        self.waited = waited

    def end(self) -> None:
        """Note that its code has ended. Traps if there is no result."""
        if not self.is_resolved:
            raise CanonicalTrap("a task ended without a result")
        self.has_ended = True

    def _check_borrows(self) -> None:
        assert self.side.scope is not None
        if self.side.scope.borrows:
            raise CanonicalTrap("borrow handles still remain at the end of the call")
