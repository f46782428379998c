"""``ComponentGuest``: the instances of one invocation of a component, made or restored, and what is left of them."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Generator, Sequence
from typing import Any

from ..capabilities import Session
from ..engine import capi
from ..engine.invocation import Invocation
from ..engine.native.component_state import ComponentState
from ..engine.outcome import End, Outcome
from ..engine.plan import NO_STRINGS
from ..engine.scratch import Scratch
from . import glue
from .bound import ComponentPlan
from .calls import Await, Calls, Imports, Request
from .core_call import CoreCall
from .edge_call import EdgeCall
from .endings import class_end
from .errors import CanonicalTrap, OutOfTime
from .files.granted import Files
from .flat_plan import CoreItem, HostFunction
from .held import Held
from .http_call import HttpCall
from .http_exchange import HttpExchange
from .instance import CoreInstances
from .lent_streams import LentStreams
from .restore import Kept
from .side import NO_MEMORY, Memory
from .typed import Linked, LinkedImports, TypedCall
from .types import Signature
from .values import Value
from .wasi.host import Bounds, GuestInput, WasiHost, strings_of


class ComponentGuest(Invocation):
    """An Invocation that has core instances, and leaves them to the next one if they can be restored."""

    __slots__ = (
        *("_answer", "_called", "_calls", "_core_call", "_cores", "_due", "_ended_by", "_kept", "_lent", "_mismatch"),
        *("_native", "_of_entry", "_quiet", "_resumes", "_returned", "_script", "_stack", "_unbooked", "_wasi"),
        *("_well_ended", "content", "exchange", "is_packed", "linked", "typed"),
    )

    plan: ComponentPlan

    def __init__(self, plan: ComponentPlan, stdin: bytes, environ: bytes = NO_STRINGS, args: bytes = b"") -> None:
        super().__init__(plan, stdin, environ, args)
        self.host = None  # an instance may be made only to see whether that goes
        self._script: Generator[Request | None, Any, bytes] | None = None
        self._stack: list[tuple[int, Generator[Request, Any, list[int]]]] = []
        self._native: EdgeCall | HttpCall | None = None
        """The call that component.c makes, in the place of the script."""
        self._of_entry = False
        """Whether the function of the guest that runs is one for a request, and not one that gives it room."""
        self._called: CoreItem | None = None
        """The function that was called last."""
        self._answer = b""
        self._ended_by: CanonicalTrap | None = None
        self._mismatch: ValueError | None = None
        self._kept: Kept | None = None
        self._well_ended = False
        self._due: tuple[Value] | None = None
        """What a call of the host has given, until it is written to the guest's memory in a thread."""
        self._returned: list[int] | None = None
        """What the function for a request has returned, until it is lifted in a thread."""
        self._resumes = False
        """Whether a task goes on, as what it waited for is there."""
        self.exchange: HttpExchange | None = None
        """The request, if a handler is to answer it as it comes: set before it is started."""
        self._lent: LentStreams | None = None
        """What C may use of its streams."""
        self._unbooked = 0
        """Bytes through it for which time on the event loop was not counted."""
        self.typed: TypedCall | None = None
        """What is called in the place of the entry, likewise."""
        self.linked: Linked | None = None
        """What other functions answer, likewise."""
        self.is_packed = False
        """Whether its input is the head of a request, packed, and no message of the ``edge`` protocol."""
        self.content = b""
        """The body of that request."""
        entry = plan.component.entry
        self._quiet = entry is not None and entry.world == "edge"
        """Whether it is to begin on the event loop, if it calls the host or not: what stubs WASI does not."""
        self._cores: CoreInstances | None = None

    @property
    def _there(self) -> CoreInstances:
        assert self._cores is not None, "it is closed, or was not started"
        return self._cores

    def _make(self, scratch: Scratch) -> None:
        kept = self._kept = self.plan.component.keeper.take(self.plan)
        if kept is None:
            state = ComponentState()
            data = self.number if self.plan.component.native is None else ctypes.addressof(state)
            self._store = capi.store_new(self.engine.ptr, data, None)
            self._cores = cores = CoreInstances(self.plan, self._store, scratch, state)
            self._context = cores.context
            self._instantiated = True
        else:
            self._hold(kept, scratch)
            kept.cores.forget_request()
            if self.plan.component.native is None:
                kept.cores.hold(False)

    def _hold(self, kept: Kept, scratch: Scratch) -> None:
        """Go on with an instance that was restored, under the number that its store has."""
        self._kept, self._store, self._cores = kept, kept.store, kept.cores
        if kept.number:
            self.engine.live.pop(self.number, None)
            self.number = kept.number
            self.engine.live[self.number] = self
        kept.cores.lend(scratch)
        self._context = kept.cores.context
        self._instantiated = True

    def _remember(self) -> None:
        """Take down the first state, if it does not depend on the host, for instances that are restored."""
        if not self.plan.restores or self.host_calls:
            return
        if self.plan.snapshot is None:
            self.plan.snapshot = self.plan.component.keeper.snapshots.of(self._there)
        assert self._store is not None
        self._there.save_globals()
        self._kept = Kept(self.plan, self._store, self._there, self.number)

    def _prepare_calls(self) -> None:
        """Make what answers the guest's calls of the host, if it is not there yet."""
        if getattr(self, "_calls", None) is None:
            imports = self._imports()
            instances = self.plan.component.flat.instances
            self._calls = Calls(instances, self._there.memory, imports, self._wasi.wakeup, self._room_of_values,
                                self._check_time)  # fmt: skip
            self._calls.held = Held(self._spare)

    def _imports(self) -> Imports:
        limits = self.plan.limits
        environ = [(name, value) for name, _, value in (each.partition("=") for each in strings_of(self._environ))]
        self._wasi = WasiHost(
            self.plan.component.offers,
            GuestInput(self._stdin, strings_of(self.plan.args), environ, self.plan.config),
            Bounds(limits.stdout, limits.stderr, self.engine.config.clock_resolution_ns, self._spare // 4),
            edge_call=self._edge_call,
            exchange=self.exchange,
            session=self.host if isinstance(self.host, Session) else None,
            room=lambda: self._room(sum(self._there.sizes())),
            files=Files(self.plan.preopens, limits, self.plan.tenant),
        )
        self._wasi.returns = isinstance(self._native, EdgeCall)
        return self._wasi if self.linked is None else LinkedImports(self._wasi, self.linked)

    def _room(self, used: int) -> int:
        """Return how many bytes a call may copy, beside what calls under way hold."""
        calls = getattr(self, "_calls", None)  # component.c may have called the guest, and nothing else
        return max(super()._room(used) - (0 if calls is None else calls.held.size), 0)

    def _check_time(self) -> None:
        if self.is_over:
            raise OutOfTime("time limit exceeded")

    def _room_of_values(self) -> int:
        """Return how many bytes the values of a call may take: what is left of the memory, and an answer."""
        return self._room(sum(self._there.sizes())) + self.plan.limits.stdout

    def _edge_call(self, operation: int, payload: bytes) -> Value | Await:
        """Answer ``call`` of the world ``edge`` as ``edge.call`` of a core module is."""
        if self.host is None:
            raise CanonicalTrap("there is nothing here that answers calls of the host")
        answer = self.host.take(operation, memoryview(payload), self._room(sum(self._there.sizes())))
        return answer if isinstance(answer, bytes) else Await(answer)

    @property
    def _has_failed(self) -> bool:
        scratch = self._made
        return bool(scratch.trap.value or scratch.error.value or self._ended_by)

    def _read(self, frame: int, slot: int, count: int) -> list[int]:
        data = capi.string_at(self._there.frames + frame + slot * glue.SLOT, count * glue.SLOT)
        return list(struct.unpack(f"<{count}Q", data))

    def _write(self, frame: int, slot: int, flat: Sequence[int]) -> None:
        data = struct.pack(f"<{len(flat)}Q", *flat)
        capi.memmove(self._there.frames + frame + slot * glue.SLOT, data, len(data))

    def _memory_of(self, host: HostFunction) -> Memory:
        return NO_MEMORY if host.options.memory is None else self._there.memory(host.options.memory)

    def set_clocks(self) -> None:
        """Do nothing: there is no io memory."""

    def _begin_call(self, function: int, flat: list[int], form: Signature) -> None:
        self._core_call = call = CoreCall(self._context, function, flat, form, self._made)
        self._future = call.future

    def _outcome(self, *, stopped: bool = False) -> Outcome:
        scratch = self._made
        future, self._future = self._future, None
        if future:
            capi.future_delete(future)
        outcome = Outcome(End.OK, b"" if stopped else self._answer)
        cores = self._there
        outcome.memory_bytes = sum(cores.sizes())
        self.host_calls += cores.state.calls
        cores.state.calls = 0
        trap, error = scratch.take_failure()
        if error:
            outcome.end, outcome.reason = End.TRAP, capi.take_failure(error)
        if trap:
            outcome.end = End.TRAP
            outcome.reason, outcome.frames, _ = capi.take_trap(trap)
        wasi: WasiHost | None = getattr(self, "_wasi", None)  # if it was asked for anything
        if self._ended_by is not None:
            class_end(outcome, self._ended_by, b"" if wasi is None else bytes(wasi.stdout))
        self._well_ended = outcome.end is End.OK and not stopped and self._ended_by is None
        if wasi is not None:
            outcome.denials = tuple(wasi.files.budget.denials)
            outcome.stderr, outcome.stderr_dropped = bytes(wasi.stderr), wasi.stderr_dropped
        if outcome.end is End.TRAP:
            refused = cores.refused_pages()
            if refused:
                outcome.end, outcome.refused_pages = End.MEMORY, refused
        return outcome

    def finish(self) -> Outcome:
        """Finish as an Instance does. Raises ValueMismatchError for arguments that do not fit their types."""
        outcome = super().finish()
        if self._mismatch is not None:
            raise self._mismatch
        return outcome

    def _keep(self) -> None:
        """Leave an instance that has ended well to the next request."""
        kept, self._kept = self._kept, None
        if kept is None or not self._well_ended or self._future is not None or not self._store or self.engine.dead:
            return
        keeper = self.plan.component.keeper
        kept.state.dirty = True
        self.engine.live.pop(self.number, None)  # before it is offered: in another thread it may be taken at once
        self.number = 0
        if keeper.offer(kept):
            self._store = None
            keeper.clean()

    def _size(self) -> int:
        return 0 if self.engine.dead or self._cores is None else sum(self._cores.sizes())

    def _release(self) -> None:
        wasi: WasiHost | None = getattr(self, "_wasi", None)  # it may not have come to that
        if wasi is not None:
            wasi.close()
        if self._lent is not None:
            self._lent.close()
        self._keep()
        super()._release()
        self._native = None
        self._script = None
        self._stack.clear()
        self._cores = None
