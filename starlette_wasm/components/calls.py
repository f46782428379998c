"""Calls between component instances, and between them and the host, as generators.

A generator yields what only the engine can do: a GuestCall, of which it is sent the flat results, or an Await, of
which it is sent the value. Whoever runs it may be the entry of a request, or the glue in the middle of a guest's call.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from . import glue
from .async_abi import AsyncCalls
from .awaited import Await as Await
from .direct_calls import PlacedResult
from .errors import CanonicalTrap
from .flat_plan import AsyncFunction, CanonOptions, CoreExport, HostFunction, ImportedFunction, LiftedFunction
from .glue import GuestCall
from .handles import CallScope, Handle, HandleTable
from .held import Held
from .lifting import lift_params, lift_result
from .lowering import Realloc, lower_params, lower_result
from .scheduler import Waits
from .side import MAX_ROOM, Memory, NoMemory, Side
from .tasks import Call, Task
from .types import Resource, signature
from .values import Value

T = TypeVar("T")
Request = GuestCall | Await
Calling = Generator[Request, Any, Value]
HostCalling = Generator[Request, Any, list[int]]
_MOST_BACKPRESSURE = 1 << 16


@dataclass(slots=True, eq=False)
class InstanceState:
    """What the canonical ABI keeps of a component instance."""

    handles: HandleTable = field(default_factory=HandleTable)
    entered: bool = False
    """Whether a call of it is under way that does not wait."""
    may_leave: bool = True
    backpressure: int = 0
    """How often it has asked for no more tasks."""
    entering: int = 0
    """How many tasks wait to be begun in it."""
    exclusive: Task | None = None
    """The task beside which no other that is exclusive may run."""

    def count_backpressure(self, more: int) -> list[int]:
        """Count up or down. Traps at the bounds of the specification."""
        self.backpressure += more
        if not 0 <= self.backpressure < _MOST_BACKPRESSURE:
            raise CanonicalTrap("backpressure counter overflow" if more > 0 else "backpressure counter underflow")
        return []


class Imports(Protocol):
    """What the host gives to one invocation."""

    def call(self, function: ImportedFunction, values: Sequence[Value]) -> Value | Await:
        """Return the result, or what to wait for. Raises CanonicalTrap to end the guest."""

    def drop(self, resource: Resource, rep: Any) -> None:
        """Note that the guest has dropped a resource of the host's."""


class Calls:
    """The calls of one invocation. ``memory`` gives a core memory of its place in the plan."""

    def __init__(
        self,
        instances: int,
        memory_of: Any,
        imports: Imports,
        waits: Waits | None = None,
        room: Callable[[], int] = lambda: MAX_ROOM,
        check_time: Callable[[], None] = lambda: None,
    ) -> None:
        """Take ``waits``, how the guest waits on the event loop, if it is to run tasks. ``room`` gives how many bytes
        the values of one call may take. ``check_time`` raises OutOfTime once the guest has no time left.
        """
        self._room = room
        self._check_time = check_time
        self.held = Held()
        """What calls that are under way hold of the room."""
        self._states = [InstanceState() for _ in range(instances)]
        self._memory_of = memory_of
        self.imports = imports
        self.tasks = AsyncCalls(self, waits)
        self.scheduler = self.tasks.scheduler

    def answered_directly(
        self, host: HostFunction, flat: list[int], placed: PlacedResult | None, memory: Memory, result: Value
    ) -> HostCalling:
        """Do what answered() does, and soon if the result is bytes or text that ``placed`` can write."""
        if isinstance(result, Await):
            result = yield from self._awaited(host, result)
        data = None if placed is None else placed.data(result)
        if data is None or placed is None:
            return (yield from self.answered(host, flat, result))
        lowering = placed.lower(memory, flat, data)
        return (yield from self.allocating(lowering, host.options, self._states[host.instance], glue.REALLOC))

    def state(self, instance: int) -> InstanceState:
        return self._states[instance]

    def begun(self, instance: int) -> None:
        """Take note that a component instance is called, if that was not done by lifted()."""
        if not self._states[instance].entered:
            self.scheduler.enter(self._states[instance])

    def forbid_leaving(self, instance: int) -> None:
        """Let it call nothing outside of it from now on."""
        self._states[instance].may_leave = False

    def handles(self) -> int:
        """Return how many handles there are."""
        return sum(len(state.handles) for state in self._states)

    def starts(self, instance: int, starting: bool) -> None:
        """Take note that a start function of an instance begins, or has returned: meanwhile that is not entered."""
        if starting:
            self.scheduler.enter(self._states[instance])
        else:
            self.scheduler.leave()

    def lifted(self, function: LiftedFunction, values: Sequence[Value]) -> Calling:
        """Call a function that a component exports."""
        state, scope = self._states[function.instance], CallScope()
        self.scheduler.enter(state)
        side = self.side(function.instance, function.options, scope)
        caller, self.scheduler.call = self.scheduler.call, Call()
        form = signature(function.type, lowered=False)
        flat = yield from self.allocating(
            lower_params(side, function.type, values), function.options, state, glue.CALLEE_REALLOC
        )
        results: list[int] = yield GuestCall(glue.CALL, function.core, flat, form)
        value = lift_result(side, function.type, results)
        if scope.borrows:
            raise CanonicalTrap("borrow handles still remain at the end of the call")
        post_return = function.options.post_return
        if post_return is not None:
            state.may_leave = False
            yield GuestCall(glue.POST_RETURN, post_return, results, glue.post_return_form(form))
            state.may_leave = True
        self.scheduler.leave()
        self.scheduler.call = caller
        return value

    def host(self, host: HostFunction, flat: list[int]) -> HostCalling:
        """Carry out a function that the host makes: what a guest has called, and with what."""
        state = self._states[host.instance]
        if not (state.may_leave or is_always_allowed(host)):
            raise CanonicalTrap("cannot leave component instance")
        if isinstance(host.of, Resource):
            return (yield from self._resource(host, host.of, state, flat[0] & 0xFFFFFFFF))
        if isinstance(host.of, AsyncFunction):
            return (yield from self.tasks.builtins.call(host, host.of, state, flat))
        if isinstance(host.of, LiftedFunction) and (host.of.type.is_async or host.options.is_async):
            return (yield from self.tasks.inner(host, host.of, state, flat))
        if host.options.is_async:
            return (yield from self.tasks.imported(host, state, flat))
        side = self.side(host.instance, host.options)
        # They are not kept while the guest waits: what is to be sent for it was copied.
        if isinstance(host.of, LiftedFunction):
            result = yield from self.lifted(host.of, lift_params(side, host.of.type, flat))
        else:
            result = self.imports.call(host.of, lift_params(side, host.of.type, flat))
        return (yield from self.answered(host, flat, result, side))

    def answered(self, host: HostFunction, flat: list[int], result: Value, side: Side | None = None) -> HostCalling:
        """Give a guest what its call has come to, or what it waits for."""
        assert isinstance(host.of, ImportedFunction | LiftedFunction)
        side = side or self.side(host.instance, host.options)
        if isinstance(result, Await):
            result = yield from self._awaited(host, result)
        side.end_call()
        at = flat[-1] if signature(host.of.type, lowered=True).result_spilled else None
        lowering = lower_result(side, host.of.type, result, at)
        return (yield from self.allocating(lowering, host.options, self.state(host.instance), glue.REALLOC))

    def _awaited(self, host: HostFunction, result: Await) -> Calling:
        """Wait for the host: other tasks run meanwhile, if the function may wait by its type."""
        assert isinstance(host.of, ImportedFunction)
        if host.of.type.is_async:
            return (yield from self.tasks.awaited(host, result))
        return (yield result)

    def side(self, instance: int, options: CanonOptions, scope: CallScope | None = None) -> Side:
        memory: Memory = NoMemory() if options.memory is None else self._memory_of(options.memory)
        handles = self._states[instance].handles
        return Side(instance, handles, memory, options.encoding, scope, room=self._room, check_time=self._check_time)

    def allocating(
        self, lowering: Generator[Realloc, int, T], options: CanonOptions, state: InstanceState, kind: int
    ) -> Generator[Request, Any, T]:
        """Lower, with the realloc of the options, which may call nothing outside of its instance."""
        try:
            asked = next(lowering)
            while True:
                assert options.realloc is not None  # the plan was refused otherwise
                state.may_leave = False
                call, self.scheduler.call = self.scheduler.call, Call()
                (at,) = yield glue.realloc_call(kind, options.realloc, asked.alignment, asked.size)
                state.may_leave, self.scheduler.call = True, call
                asked = lowering.send(at)
        except StopIteration as done:
            result: T = done.value
            return result

    def _resource(self, host: HostFunction, resource: Resource, state: InstanceState, given: int) -> HostCalling:
        if host.kind == "new":
            return [state.handles.add(Handle(resource, given))]
        if host.kind == "rep":
            return [state.handles.get(given, resource).rep]
        handle = state.handles.remove(given, resource)
        if handle.scope is not None:
            handle.scope.borrows -= 1
        elif resource.instance is None:
            self.imports.drop(resource, handle.rep)
        elif isinstance(resource.destructor, CoreExport | HostFunction):
            yield from self._destroy(resource.destructor, self._states[resource.instance], state, handle.rep)
        return []

    def _destroy(
        self, destructor: CoreExport | HostFunction, owner: InstanceState, caller: InstanceState, rep: int
    ) -> Generator[Request, Any, None]:
        if owner is not caller:
            self.scheduler.enter(owner)
        call, self.scheduler.call = self.scheduler.call, Call()
        yield glue.destroy_call(destructor, rep)
        self.scheduler.call = call
        if owner is not caller:
            self.scheduler.leave()


def is_always_allowed(host: HostFunction) -> bool:
    """Return whether a guest may call it while it may not leave its instance: nothing happens outside of that."""
    if isinstance(host.of, AsyncFunction):
        return host.of.name.startswith(("context.", "backpressure."))
    return host.kind == "rep"
