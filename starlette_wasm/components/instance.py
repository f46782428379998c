"""The core instances of one component, in one store: made in the order of its plan."""

from __future__ import annotations

import ctypes
from typing import Any

from ..engine import capi, layout
from ..engine.bounds import TABLE_ELEMENTS
from ..engine.native.component_state import ComponentState, FirstState, HttpState
from ..engine.native.library import NativeLibrary
from ..engine.scratch import Scratch
from .bound import ComponentPlan
from .core_module import LIMIT, MEMORY, REFUSED, START_EXPORT, STATE
from .errors import CanonicalTrap
from .flat_plan import CoreExport, CoreItem, LiftedFunction
from .glue import FRAMES, HOLD, TABLE
from .module import EXTERN_SIZE, GLUE, Source, externs
from .quick_answers import QuickCalls

_NO_DEADLINE = 1 << 40
_ALL_TRIMMED = (1 << 64) - 1
_INSTANCE_SIZE = ctypes.sizeof(capi.Instance)
_STEP, _NATIVE_STEP = b"component_step", b"component_step_native"


class CoreInstances:
    """All core instances of a component. What is asked for by name is kept."""

    def __init__(self, plan: ComponentPlan, store: int, scratch: Scratch, state: ComponentState) -> None:
        """Make them; nothing of the guest runs. ``state`` is the data of the store. Raises EngineError."""
        self._plan = plan
        self.state = state
        """What component.c knows of them, for as long as the store is there."""
        self.state_at = ctypes.addressof(state)
        self._scratch = scratch
        self.context = capi.store_context(store)
        module = plan.component
        count = len(module.steps)
        self._instances = (capi.Instance * (count + 1))()
        self._at = ctypes.addressof(self._instances)
        self._found: dict[Source, Any] = {}
        self._saved: list[tuple[int, Any]] = []
        self._kept_alive: list[Any] = []
        self._live: dict[CoreItem, LiveMemory] = {}
        self._http: HttpState | None = None
        self.http_at = 0
        """The address of what wasi_http.c knows of a request, once that was made."""
        capi.store_limiter(
            store, plan.bound + layout.PAGE, TABLE_ELEMENTS, count + 1, module.tables + 1, len(module.memories) + 1
        )
        capi.set_epoch_deadline(self.context, _NO_DEADLINE)  # instantiation runs none of the guest's code
        self._make_glue()
        for step, (number, sources) in enumerate(module.steps):
            self._make(step, module.modules[number], sources)
            for slot, source in module.slots_after[step]:
                self._fill(slot, source)
        for step in module.growers:
            self._set_limit(step)
        self._memories = [
            LiveMemory(self.context, self.address((step, MEMORY.encode())) + capi.EXTERN_OF)
            for step, _ in module.memories
        ]
        if module.native is not None:
            self._prepare_answers()

    @property
    def native(self) -> NativeLibrary:
        native = self._plan.component.native
        assert native is not None
        return native

    def _prepare_answers(self) -> None:
        """Prepare what component.c needs to answer calls of the host itself."""
        module, state = self._plan.component, self.state
        hosts = module.flat.hosts
        memories = (ctypes.c_void_p * max(len(hosts), 1))()
        for host in hosts:
            if host.options.memory is not None and module.quick_calls.kind(host.number):
                memories[host.number] = self.item(host.options.memory)
        self._kept_alive.append(memories)
        state.resolution = module.engine.config.clock_resolution_ns
        state.quick_calls = ctypes.addressof(module.quick_calls.calls)
        state.memories = ctypes.addressof(memories)
        state.frames, state.context = self.frames, self.context

    def prepare_edge(self, function: LiftedFunction) -> None:
        """Prepare what component.c needs to call ``handle``."""
        options, state = function.options, self.state
        if state.handle or options.memory is None or options.realloc is None:
            return
        state.memory, state.realloc = self.item(options.memory), self.item(options.realloc)
        self._prepare_entry(function)

    def _prepare_entry(self, function: LiftedFunction) -> None:
        after = function.options.post_return
        self.state.handle = self.item(function.core)
        self.state.post_return = None if after is None else self.item(after)

    def prepare_http(self, function: LiftedFunction) -> HttpState:
        """Prepare what wasi_http.c needs to answer what a handler calls."""
        if self._http is None:
            self._http = HttpState()
            self.state.http = self.http_at = ctypes.addressof(self._http)
            self._prepare_entry(function)
        return self._http

    @property
    def quick_calls(self) -> QuickCalls:
        return self._plan.component.quick_calls

    def first_state(self, snapshot: list[int], sizes: list[int], most: int) -> FirstState:
        """Return what component.c puts back, of snapshots of the memories at these places, of these sizes."""
        memories = [self.address((step, MEMORY.encode())) for step, _ in self._plan.component.memories]
        values = [(at - capi.EXTERN_OF, value) for at, value in self._saved]
        values += [(self.address((step, REFUSED.encode())), capi.Value(kind=capi.I32))
                   for step in self._plan.component.growers]  # fmt: skip
        arrays = [_array(ctypes.c_void_p, memories), _array(ctypes.c_void_p, snapshot),
                  _array(ctypes.c_uint64, sizes), _array(ctypes.c_void_p, [at for at, _ in values]),
                  _array(capi.Value, [value for _, value in values])]  # fmt: skip
        self._kept_alive += arrays
        places = [ctypes.addressof(each) for each in arrays]
        return FirstState(self.context, *places, most, _ALL_TRIMMED, 0, len(memories), len(values))

    def _make_glue(self) -> None:
        given = externs(1)
        name = _STEP if self._plan.component.native is None else _NATIVE_STEP
        self._plan.module.engine.host_function(self.context, name, ctypes.addressof(given))
        self._instantiate(len(self._instances) - 1, self._plan.component.glue_module, given, 1)
        self.frames = capi.memory_data(self.context, self.address((GLUE, FRAMES.encode())) + capi.EXTERN_OF)
        """Address of the glue's memory: it never grows, and never moves."""

    def _make(self, step: int, module: int, sources: tuple[Source, ...]) -> None:
        given = externs(len(sources))
        at = ctypes.addressof(given)
        for index, source in enumerate(sources):
            self._get(source, at + index * EXTERN_SIZE)
        self._instantiate(step, module, given, len(sources))

    def _instantiate(self, step: int, module: int, given: Any, count: int) -> None:
        scratch = self._scratch
        scratch.trap.value = None
        scratch.error.value = capi.instance_new(
            self.context, module, ctypes.addressof(given), count, self._at + step * _INSTANCE_SIZE, scratch.trap_at
        )
        if scratch.error.value or scratch.trap.value:
            trap, error = scratch.take_failure()
            raise capi.EngineError(capi.take_error(error) if error else capi.take_trap(trap or 0)[0])

    def _get(self, source: Source, into: int) -> None:
        step, name = source
        place = len(self._instances) - 1 if step == GLUE else step
        if not capi.export_get(self.context, self._at + place * _INSTANCE_SIZE, name, len(name), into):
            raise capi.EngineError(f"a core instance has no export {name.decode()!r:.100}")

    def address(self, source: Source) -> int:
        """Address of the extern of an export."""
        found = self._found.get(source)
        if found is None:
            found = self._found[source] = capi.Extern()
            self._get(source, ctypes.addressof(found))
        return ctypes.addressof(found)

    def item(self, item: CoreItem) -> int:
        """Address of the extern of an item of the plan."""
        source = (item.step, item.name.encode()) if isinstance(item, CoreExport) else (GLUE, b"h%d" % item.number)
        return self.address(source)

    def _fill(self, slot: int, source: Source) -> None:
        table = self.address((GLUE, TABLE.encode())) + capi.EXTERN_OF
        self._get(source, self._scratch.extern_at)
        self._scratch.set_funcref()
        capi.check(capi.table_set(self.context, table, slot, self._scratch.value_at))

    def _set_limit(self, step: int) -> None:
        of = self._plan.component.memory_of(step)
        limit = 0 if of is None else self._plan.page_limits[of]
        value = capi.Value(kind=capi.I32)
        value.of.i32 = min(limit, 0x7FFFFFFF)
        at = self.address((step, LIMIT.encode())) + capi.EXTERN_OF
        capi.check(capi.global_set(self.context, at, ctypes.addressof(value)))

    def refused_pages(self) -> int:
        """Return how many pages a ``memory.grow`` asked for that was refused; 0 if none was."""
        return max((self._global(step, REFUSED) for step in self._plan.component.growers), default=0)

    def _global(self, step: int, name: str) -> int:
        value = capi.Value()
        at = self.address((step, name.encode())) + capi.EXTERN_OF
        capi.global_get(self.context, at, ctypes.addressof(value))
        return int(value.of.i32) & 0xFFFFFFFF

    def sizes(self) -> list[int]:
        """Return how many bytes each memory of the guest has."""
        return [memory.size() for memory in self._memories]

    def ranges(self) -> list[tuple[int, int]]:
        """Address and size of each memory of the guest."""
        return [memory.range() for memory in self._memories]

    def save_globals(self) -> None:
        """Remember the globals that can change, for reset_globals()."""
        for step, count in self._plan.component.globals:
            for number in range(count):
                at = self.address((step, f"{STATE}{number}".encode())) + capi.EXTERN_OF
                value = capi.Value()
                capi.global_get(self.context, at, ctypes.addressof(value))
                self._saved.append((at, value))

    def reset_globals(self) -> None:
        """Put back what save_globals() has found, and forget refused pages."""
        for at, value in self._saved:
            capi.check(capi.global_set(self.context, at, ctypes.addressof(value)))
        nothing = capi.Value(kind=capi.I32)
        for step in self._plan.component.growers:
            at = self.address((step, REFUSED.encode())) + capi.EXTERN_OF
            capi.check(capi.global_set(self.context, at, ctypes.addressof(nothing)))

    def changed_global(self) -> int | None:
        """Return the number of the first global that is not what save_globals() has found; None if none is."""
        value = capi.Value()
        for number, (at, first) in enumerate(self._saved):
            capi.global_get(self.context, at, ctypes.addressof(value))
            if value.number != first.number:
                return number
        return None

    def hold(self, held: bool) -> None:
        """Set whether a guest that wants to call the host is to wait until it is polled after the next tick."""
        capi.memmove(self.frames + HOLD, held.to_bytes(4, "little"), 4)

    def lend(self, scratch: Scratch) -> None:
        """Use that scratch from now on: each invocation has one."""
        self._scratch = scratch

    def forget_request(self) -> None:
        """Have component.c answer nothing from the last request: what that has lent it is gone."""
        self.state.lent = None
        if self._http is not None:
            self._http.open = 0

    def start_function(self, step: int) -> int:
        return self.address((step, START_EXPORT.encode()))

    def memory(self, item: CoreItem) -> LiveMemory:
        found = self._live.get(item)
        if found is None:
            found = self._live[item] = LiveMemory(self.context, self.item(item) + capi.EXTERN_OF)
        return found


def _array(kind: Any, items: list[Any]) -> Any:
    return (kind * max(len(items), 1))(*items)


class LiveMemory:
    """A core memory as it is now. Valid as long as its instance."""

    __slots__ = ("_at", "_context")

    def __init__(self, context: int, at: int) -> None:
        self._context = context
        self._at = at

    def size(self) -> int:
        size: int = capi.memory_size(self._context, self._at)
        return size

    def range(self) -> tuple[int, int]:
        """Return its address and size."""
        base: int = capi.memory_data(self._context, self._at) or 0
        return base, self.size()

    def _place(self, at: int, size: int) -> int:
        if at + size > capi.memory_size(self._context, self._at):
            raise CanonicalTrap("out of bounds memory access")
        base: int = capi.memory_data(self._context, self._at)
        return base + at

    def read(self, at: int, size: int) -> bytes:
        return capi.string_at(self._place(at, size), size) if size else self._nothing(at)

    def _nothing(self, at: int) -> bytes:
        self._place(at, 0)
        return b""

    def write(self, at: int, data: bytes) -> None:
        capi.memmove(self._place(at, len(data)), data, len(data))
