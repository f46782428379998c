"""Reads a component's binary to its definitions. Nothing but ComponentError comes out, and in bounded time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..engine.binary import COMPONENT_PREAMBLE
from .cursor import Budget, Cursor
from .definitions import (
    AsyncBuiltin,
    Component,
    CoreExports,
    CoreInstance,
    CoreModule,
    Definition,
    Export,
    Exports,
    ImportDef,
    Instance,
    Lift,
    Lower,
    Options,
    ResourceBuiltin,
)
from .errors import UnsupportedComponentError
from .read_types import (
    MAX_DEPTH,
    alias,
    core_sort,
    core_type,
    extern_desc,
    extern_name,
    result_list,
    sort,
    type_def,
)

NO_THREADS = "build it without threads of the component model: offered is thread.yield alone"
MAX_MODULES = 200
"""Core modules of a component, with all that is nested in it."""
_ENCODINGS = {0: "utf8", 1: "utf16", 2: "latin1+utf16"}
_INDEXED = {3: "memory", 4: "realloc", 5: "post-return", 7: "callback"}
# Each built-in of the async ABI, and what follows its code: t a type, m a memory, s a slot, f a flag, k a core type,
# r a result, o options.
_ASYNC = {
    0x05: ("task.cancel", ""), 0x06: ("subtask.cancel", "f"), 0x08: ("backpressure.set", ""),
    0x09: ("task.return", "ro"), 0x0A: ("context.get", "ks"), 0x0B: ("context.set", "ks"), 0x0C: ("thread.yield", "f"),
    0x0D: ("subtask.drop", ""), 0x0E: ("stream.new", "t"), 0x0F: ("stream.read", "to"), 0x10: ("stream.write", "to"),
    0x11: ("stream.cancel-read", "tf"), 0x12: ("stream.cancel-write", "tf"), 0x13: ("stream.drop-readable", "t"),
    0x14: ("stream.drop-writable", "t"), 0x15: ("future.new", "t"), 0x16: ("future.read", "to"),
    0x17: ("future.write", "to"), 0x18: ("future.cancel-read", "tf"), 0x19: ("future.cancel-write", "tf"),
    0x1A: ("future.drop-readable", "t"), 0x1B: ("future.drop-writable", "t"), 0x1C: ("error-context.new", "o"),
    0x1D: ("error-context.debug-message", "o"), 0x1E: ("error-context.drop", ""), 0x1F: ("waitable-set.new", ""),
    0x20: ("waitable-set.wait", "fm"), 0x21: ("waitable-set.poll", "fm"), 0x22: ("waitable-set.drop", ""),
    0x23: ("waitable.join", ""), 0x24: ("backpressure.inc", ""), 0x25: ("backpressure.dec", ""),
}  # fmt: skip
_THREADS = {
    0x26: "index", 0x27: "new-indirect", 0x28: "resume-later", 0x29: "suspend", 0x2A: "suspend-then-resume",
    0x2B: "yield-then-resume", 0x2C: "suspend-then-promote", 0x2D: "yield-then-promote", 0x40: "spawn-ref",
    0x41: "spawn-indirect", 0x42: "available-parallelism",
}  # fmt: skip
"""Built-ins of threads, of which no more than the name is read: they are not taken."""


def read(data: bytes) -> Component:
    """Read the definitions of a component. Raises ComponentError."""
    return _Reader(data).component(Cursor(data, budget=Budget()), 0)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._modules = 0
        self._sections: dict[int, tuple[str, Callable[[Cursor], Definition]]] = {
            2: ("core instance section", _core_instance),
            3: ("core type section", core_type),
            5: ("instance section", _instance),
            6: ("alias section", alias),
            7: ("type section", type_def),
            8: ("canonical section", _canon),
            10: ("import section", lambda cursor: ImportDef(extern_name(cursor), extern_desc(cursor))),
            11: ("export section", _export),
        }

    def component(self, cursor: Cursor, depth: int) -> Component:
        if depth > MAX_DEPTH:
            raise cursor.fail(f"components are nested more than {MAX_DEPTH} deep")
        if cursor.take(min(8, cursor.end - cursor.at)) != COMPONENT_PREAMBLE:
            raise cursor.fail("it does not begin like a component")
        items: list[Definition] = []
        while cursor.more:
            items += self._section(cursor, depth)
        return Component(tuple(items))

    def _section(self, cursor: Cursor, depth: int) -> Iterator[Definition]:
        number, size = cursor.byte(), cursor.u32()
        cursor.spend(1)
        if number == 0:
            cursor.part(size, "custom section").name()
        elif number == 1:
            yield self._module(cursor.part(size, "core module"))
        elif number == 4:
            yield self.component(cursor.part(size, "nested component"), depth + 1)
        elif number in self._sections:
            what, item = self._sections[number]
            part = cursor.part(size, what)
            yield from part.vector(lambda: item(part))
            part.done()
        elif number == 9:
            raise UnsupportedComponentError(
                "it has a start function, which is not taken", "let the start function of a core module do it"
            )
        else:
            raise cursor.fail(f"unknown section {number}")

    def _module(self, part: Cursor) -> CoreModule:
        self._modules += 1
        if self._modules > MAX_MODULES:
            raise part.fail(f"it has more than {MAX_MODULES} core modules")
        return CoreModule(part.at, part.end)


def _core_instance(cursor: Cursor) -> Definition:
    kind = cursor.byte()
    if kind == 0:
        return CoreInstance(cursor.u32(), cursor.vector(lambda: _core_argument(cursor)))
    if kind == 1:
        return CoreExports(cursor.vector(lambda: (cursor.name(), core_sort(cursor), cursor.u32())))
    raise cursor.fail(f"unknown core instance 0x{kind:02x}")


def _core_argument(cursor: Cursor) -> tuple[str, int]:
    name = cursor.name()
    if cursor.byte() != 0x12:
        raise cursor.fail("an argument of a core module is no instance")
    return name, cursor.u32()


def _instance(cursor: Cursor) -> Definition:
    kind = cursor.byte()
    if kind == 0:
        return Instance(cursor.u32(), cursor.vector(lambda: (cursor.name(), sort(cursor), cursor.u32())))
    if kind == 1:
        return Exports(cursor.vector(lambda: (extern_name(cursor), sort(cursor), cursor.u32())))
    raise cursor.fail(f"unknown instance 0x{kind:02x}")


def _export(cursor: Cursor) -> Export:
    name, of, index = extern_name(cursor), sort(cursor), cursor.u32()
    flag = cursor.byte()
    if flag > 1:
        raise cursor.fail(f"0x{flag:02x} stands where 0 or 1 is expected")
    if flag:
        extern_desc(cursor)  # a type that this one fits: nothing is made of it
    return Export(name, of, index)


def _canon(cursor: Cursor) -> Definition:
    code = cursor.byte()
    if code in (0, 1):
        if cursor.byte():
            raise cursor.fail("unknown kind of lifting or lowering")
        if code == 0:
            return Lift(cursor.u32(), _options(cursor), cursor.u32())
        return Lower(cursor.u32(), _options(cursor))
    if code in (2, 3, 4):
        return ResourceBuiltin(("new", "drop", "rep")[code - 2], cursor.u32())
    if code == 7:
        return ResourceBuiltin("drop", cursor.u32())
    if code in _THREADS:
        raise UnsupportedComponentError(
            f"it uses thread.{_THREADS[code]}, which is not run: a component has one thread", NO_THREADS
        )
    if code not in _ASYNC:
        raise cursor.fail(f"unknown built-in 0x{code:02x}")
    name, immediates = _ASYNC[code]
    steps: dict[str, tuple[str, Callable[[], Any]]] = {
        "t": ("type", cursor.u32),
        "m": ("memory", cursor.u32),
        "s": ("slot", cursor.u32),
        "f": ("flag", lambda: bool(cursor.byte())),
        "k": ("kind", cursor.byte),
        "r": ("type", lambda: result_list(cursor)),
        "o": ("options", lambda: _options(cursor)),
    }
    given = [steps[each] for each in immediates]
    return AsyncBuiltin(name, **{key: step() for key, step in given})


def _options(cursor: Cursor) -> Options:
    given = cursor.vector(lambda: _option(cursor))
    names = [name for name, _ in given]
    for name in names:
        if names.count(name) > 1:
            raise cursor.fail(f"the option {name} is given twice")
    found = dict(given)
    return Options(
        _ENCODINGS[found.get("encoding", 0) or 0],
        found.get("memory"),
        found.get("realloc"),
        found.get("post-return"),
        found.get("callback"),
        "async" in found,
    )


def _option(cursor: Cursor) -> tuple[str, int | None]:
    code = cursor.byte()
    if code in _ENCODINGS:
        return "encoding", code
    if code in _INDEXED:
        return _INDEXED[code], cursor.u32()
    if code == 6:
        return "async", None
    if code in (8, 9):
        raise UnsupportedComponentError("it lifts or lowers with garbage collection", "build it without WasmGC")
    raise cursor.fail(f"unknown option 0x{code:02x}")
