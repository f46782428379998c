"""A component, compiled: its core modules, and where each of their imports comes from."""

from __future__ import annotations

import ctypes
import os
import weakref
from functools import cached_property
from typing import Any

from ..engine import capi
from ..engine.compile import InvalidModuleError, UnsupportedModuleError
from ..engine.engine import Engine
from ..engine.line_table import LineTable
from ..engine.module import Module
from ..engine.native.library import ModuleState, native
from ..engine.pages import pages_of
from . import glue
from .compile import unpack
from .core_module import CoreFacts
from .direct_calls import direct_calls
from .edge_call import can_be_made
from .errors import ComponentError
from .exported import functions_of
from .flat_plan import CoreExport, CoreItem, ImportedFunction, LiftedFunction
from .http_call import handler_of
from .python_types import PythonTypes
from .quick_answers import QuickCalls
from .restore import MAX_LOOKED_AT, MAX_MEMORIES, Keeper
from .wasi import asks_host, find_offers, opens_files
from .weights import checks_of
from .worlds import find_entry

Source = tuple[int, bytes]
"""The step whose core instance exports it, and its name; the step is GLUE for what the host makes."""
GLUE = -1


class ComponentModule(Module):
    """Owns the code of all core modules, as Module does of one."""

    one_instance = False

    def __init__(self, engine: Engine, code: capi.Code, facts: dict[str, Any]) -> None:
        """Make it from what compile_component() gave, which must be trusted: it is native code.

        Raises InvalidModuleError and UnsupportedModuleError.
        """
        self.engine = engine
        self._facts = facts
        try:
            self.flat = unpack(facts)
            self.entry = find_entry(self.flat)
            self.offers = find_offers(self.flat)
        except ComponentError as error:  # it was made by another version of this package
            raise InvalidModuleError(str(error)) from None
        self.glue = glue.make(self.flat)
        self.lines = LineTable.from_facts(None)
        self.lines_left_out = None
        self.label = "an unnamed component"
        self.live = set()
        self.state = ModuleState()
        self.host = ()
        self._facts_of = [CoreFacts.load(each) for each in facts["modules"]]
        self._lay_out()
        self.reads_random = self.reads_clock = False  # there is no io memory to put them into
        self.reads_args = self.reads_environ = any("wasi:cli/environment@" in each.interface for each in self.offers)
        self.uses_edge = any(asks_host(each) for each in self.offers)
        self.uses_files = self.slow_files = any(opens_files(each) for each in self.offers)
        self.calls_host = bool(self.flat.hosts)
        self.host_names = self.host_call_names = ()
        self.calls_are_noted = False  # component.c has its own
        self.native = native
        """component.c, if it is there."""
        handler = handler_of(self.entry)
        self.quick_calls = QuickCalls(self.flat, self.offers, handler)
        self.stream_calls = {} if self.native is None else self.quick_calls.of_streams
        """Functions of the host, by their number, with which streams are read and written."""
        """How component.c answers each function of the host."""
        self.checks = [checks_of(host) for host in self.flat.hosts]
        """For each function of the host, whether it may be carried out on the event loop."""
        self.arities = [len(glue.form_of(host).params) for host in self.flat.hosts]
        """How many core arguments each function of the host has."""
        self.direct_calls = direct_calls(self.flat.hosts, self.offers)
        """For each function of the host, how it is called if its types are plain."""
        self.makes_edge_calls = native is not None and can_be_made(self.entry)
        self.makes_http_calls = native is not None and handler is not None
        self._load(code, facts["codes"])

    def _load(self, code: capi.Code, sizes: list[int]) -> None:
        code = memoryview(code if isinstance(code, memoryview) else bytearray(code))
        pointers: list[int] = []
        at = 0
        try:
            for size in sizes:
                pointers.append(capi.deserialize_module(self.engine.ptr, code[at : at + size]))
                at += size
        except capi.EngineError as error:
            for each in pointers:
                capi.module_delete(each)
            raise InvalidModuleError(str(error)) from None
        *self.modules, self.glue_module = pointers
        self.pre = self.glue_module
        free = weakref.finalize(self, _free, self.engine, pointers)
        free.atexit = False  # the process frees it with everything else
        self._free = free

    def _lay_out(self) -> None:
        """Work out where each import comes from, what belongs into the glue's table, and how large all memories are."""
        flat = self.flat
        modules = list(dict.fromkeys(step.module for step in flat.steps))
        self.steps: list[tuple[int, tuple[Source, ...]]] = []
        """For each core instance: the number of its module, and the source of each import."""
        self.slots_after: list[list[tuple[int, Source]]] = [[] for _ in flat.steps]
        """What is put into the glue's table once a step is done."""
        for step in flat.steps:
            number = modules.index(step.module)
            facts = self._facts_of[number]
            self.steps.append((number, tuple(_source(step.item(*each)) for each in facts.imports)))
        for slot, item in enumerate(self.glue.slots):
            source = _source(item)
            if source[0] != GLUE:
                self.slots_after[source[0]].append((slot, source))
            elif self.slots_after:
                self.slots_after[0].append((slot, source))
        facts_of = [self._facts_of[number] for number, _ in self.steps]
        self.starts = [index for index, facts in enumerate(facts_of) if facts.starts]
        self.growers = [index for index, facts in enumerate(facts_of) if facts.grows]
        self.globals = [(index, facts.state) for index, facts in enumerate(facts_of) if facts.state]
        self.memories = [(index, pages) for index, facts in enumerate(facts_of) for pages in facts.memories]
        """The step and the pages of each memory."""
        self.restorable = (
            self.engine.pooled
            and len(self.memories) <= MAX_MEMORIES
            and sum(pages for _, pages in self.memories) <= MAX_LOOKED_AT
            and all(facts.restorable for facts in facts_of)
            and pages_of(os.getpid()) is not None
        )
        """Whether an instance can be brought back to its first state: see restore.py."""
        self.keeper = Keeper(self.engine)
        self.tables = sum(facts.tables for facts in facts_of)
        self.stack_pages = 0
        self.min_pages = sum(pages for _, pages in self.memories)
        if any(len(facts.memories) > 1 for facts in facts_of):
            raise UnsupportedModuleError("a core module of it has more than one memory", "split the module")

    @cached_property
    def functions(self) -> dict[str, LiftedFunction]:
        """What it exports, by the names for typed calls."""
        return functions_of(self.flat)

    @cached_property
    def unresolved(self) -> list[ImportedFunction]:
        """What it imports and the host does not offer."""
        imported = [host.of for host in self.flat.hosts if isinstance(host.of, ImportedFunction)]
        return [each for each in imported if each not in self.offers]

    @cached_property
    def python_types(self) -> PythonTypes:
        return PythonTypes(self.flat)

    @property
    def speaks_edge(self) -> bool:
        """Whether its requests and answers are those of the ``edge`` protocol, whatever is configured."""
        return self.entry is not None and self.entry.world != "command"

    @property
    def streams(self) -> bool:
        """Whether its requests can come, and its answers leave, while it runs."""
        return self.entry is not None and self.entry.world == "http"

    def memory_of(self, step: int) -> int | None:
        """Return the step that defines the memory which a core instance works on; None if it has none."""
        seen = set()
        while step not in seen:
            seen.add(step)
            number, sources = self.steps[step]
            facts = self._facts_of[number]
            if facts.memories:
                return step
            found = [source for source, each in zip(sources, facts.imports, strict=True) if each[2] == "memory"]
            if not found:
                return None
            step = found[0][0]
        return None

    @property
    def facts(self) -> dict[str, Any]:
        return self._facts

    def serialize(self) -> bytes:
        return b"".join(map(capi.serialize_module, (*self.modules, self.glue_module)))

    def close(self) -> bool:
        self.pre = None
        self.state.closed = True
        self.keeper.close()
        if self.busy:
            return False
        self._free()
        return True


def _source(item: CoreItem) -> Source:
    if isinstance(item, CoreExport):
        return item.step, item.name.encode()
    return GLUE, b"h%d" % item.number


def _free(engine: Engine, modules: list[int]) -> None:
    if not engine.dead:  # in a forked child another thread may have held a lock of the engine, for ever
        for each in modules:
            capi.module_delete(each)


def externs(count: int) -> Any:
    """Make an array for the imports of a core instance."""
    return (capi.Extern * max(count, 1))()


EXTERN_SIZE = ctypes.sizeof(capi.Extern)
