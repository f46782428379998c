"""Links stdio, clocks, random and the exit code into a guest's bytes when it is loaded.

Function imports come first in a module's index space. Each is replaced by a definition, in front of the guest's
own functions and in the same order, so no index in the guest changes. The io memory, the host table, a few types
and helpers are appended behind the guest's own. One instruction is replaced, ``memory.grow``: a call
checks the policy's bound there and notes what was refused, which the engine does not report otherwise; with it
``memory.size``, as an instance that is restored keeps pages that its guest has not asked for yet.

The guest is validated alone before (it cannot name the io memory or the host table), and what comes out is
validated by wasmtime like any module: a mistake here can break a guest, not the sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from . import binary, first_values, layout, remedies
from .binary import (
    CODE,
    ELEMENT,
    EXPORT,
    FUNCTION,
    IMPORT,
    MEMORY,
    START,
    TABLE,
    TYPE,
    Reader,
    UnsupportedError,
    leb,
    vector,
)
from .changes import only_memory_changes
from .configuration import OPENERS, WASI
from .stack import stack_pages

IO, MAIN, HOST, GUEST_MEMORY = "edge:io", "edge:main", "edge:host", "memory"
EDGE = "edge"
_HELPERS = (
    *("strings", "stream", "gone", "exists", "size", "look", "end", "may_grow", "charge", "no_entry_left"),
    *("take_entry", "denied", "memory_grow"),
)
_ASKED = {
    "fd_fdstat_get": "(local.get $fd) (i32.const 0)",
    "fd_filestat_get": "(local.get $fd) (i32.const 0)",
    "fd_tell": "(local.get $fd) (i32.const 0)",
    "path_filestat_get": "(local.get $fd) (local.get $follow) (local.get $path) (local.get $path_len) (i32.const 0)",
}
"""What wasi.wat asks the host for itself, and with which arguments."""
_OURS = {(EDGE, "call"): "edge_call", (EDGE, "take"): "edge_take"}
_NOT_WASI = {*_HELPERS, *_OURS.values()}
_SOURCE = Path(__file__).with_name("wasi.wat").read_text()
_SIZE = b"\x41\0\x28\x42\1" + leb(layout.FIELDS["pages"])
"""``(i32.load $io (i32.const @pages))``: how large the guest's memory is, as far as the guest knows."""
_NO_LOCALS = b"\0"
_MOST_PAGES = 65536
Moves = dict[int, list[tuple[int, int]]]
"""For each of the guest's own functions in which instructions were replaced: where each began, and how many bytes it is
longer now."""


@dataclass(frozen=True)
class Linked:
    """A linked module and what the host must know of it."""

    wasm: bytes
    host: tuple[str, ...]
    """The functions that the host puts into its table, in order."""
    imports: tuple[str, ...]
    min_pages: int
    """What the guest's memory has from the start, in pages of 64 KiB."""
    stack_pages: int
    """How many of them are its stack, as far as that is known."""
    moves: Moves
    restorable: bool
    """Whether an instance can be brought back to its first state: see restore.c."""
    room: int
    """Pages by which the guest's memory can grow: 0 if it has no ``memory.grow``, else as its maximum has it."""


@dataclass(frozen=True)
class _Body:
    params: tuple[str, ...]
    results: tuple[str, ...]
    text: str  # parameters, results, locals and instructions


@cache
def _bodies() -> dict[str, _Body]:
    text = re.sub(r";;.*", "", _SOURCE)
    found, depth, begin = {}, 0, 0
    for match in re.finditer(r"[()]", text):
        if match[0] == "(":
            if not depth:
                begin = match.start()
            depth += 1
            continue
        depth -= 1
        if not depth:
            head = re.match(r"\(func \$(\w+)", text[begin:])
            assert head is not None
            body = text[begin + head.end() : match.start()]
            signature = re.match(r"(\s*\((?:param|result)[^()]*\))*", body)
            assert signature is not None
            params, results = (
                tuple(
                    kind
                    for part in re.findall(rf"\({key}([^()]*)\)", signature[0])
                    for kind in part.split()
                    if not kind.startswith("$")
                )
                for key in ("param", "result")
            )
            found[head[1]] = _Body(params, results, body)
    return found


def link(guest: bytes, assemble: Callable[[str], bytes]) -> Linked:
    """Link a validated core module.

    ``assemble`` turns the text format into the binary one. Raises UnsupportedError for a module that is no WASI
    preview 1 command, or does not fit.
    """
    sections, custom = binary.split(guest)
    # DWARF describes the module before linking: the engine could only be misled. See dwarf.py for what reads it.
    custom = [body for body in custom if not Reader(body).name().startswith(".debug_")]
    types = _types(sections.get(TYPE, b"\0"))
    imports = _imports(sections.get(IMPORT, b"\0"), types)
    (min_pages, max_pages), stack = _one_memory(sections.get(MEMORY, b"\0")), stack_pages(sections)
    start, exported = _exports(sections.get(EXPORT, b"\0"))
    own, own_kinds = vector(sections.get(FUNCTION))
    kind_of_start = [*(kind for _, kind in imports), *_leb_items(own_kinds)][start]
    if types[kind_of_start] != ((), ()):
        raise UnsupportedError("its _start takes parameters or gives results", "build it as a WASI command")
    tables, own_tables = vector(sections.get(TABLE))
    first = Reader(sections[START]).u32() if START in sections else None

    files = any(name in OPENERS for name, _ in imports)
    host = _host_functions([name for name, _ in imports], files)

    donor = _donor(types, imports, host, files, tables, own, first, start)
    donated, _ = binary.split(assemble(donor))
    added = list(binary.bodies(donated[CODE]))
    before, after = added[: len(imports)], added[len(imports) + own :]
    grow = _grow_helper(len(imports), own)

    n_types, all_types = vector(donated[TYPE])
    sections[TYPE] = leb(n_types) + all_types
    _, all_kinds = vector(donated[FUNCTION])
    kinds = _leb_items(all_kinds)
    n = len(imports)
    sections[FUNCTION] = (
        leb(len(kinds)) + b"".join(map(leb, kinds[:n])) + own_kinds + b"".join(map(leb, kinds[n + own :]))
    )
    moves, mine = _replace_memory(sections.get(CODE, b"\0"), grow)
    globals_ = first_values.globals_of(sections)
    restorable = only_memory_changes(sections, [each.kind for each in globals_ if each.mutable], tables)
    if restorable:
        # All of it that an instance which is brought back needs: its memory is put back by restore.c.
        after[-1] = _NO_LOCALS + first_values.reset(globals_) + after[-1].removeprefix(_NO_LOCALS)
    sections[CODE] = leb(len(kinds)) + b"".join(leb(len(body)) + body for body in (*before, *mine, *after))
    _, own_memory = vector(sections[MEMORY])
    sections[MEMORY] = leb(2) + own_memory + b"\x08" + leb(layout.IO) + b"\0"  # pages of one byte
    exports = [
        binary.name(IO) + b"\2" + leb(1),
        binary.name(MAIN) + b"\0" + leb(len(kinds) - 1),
        binary.name(GUEST_MEMORY) + b"\2" + leb(0),
    ]
    if host:
        exports.append(binary.name(HOST) + b"\1" + leb(tables))
        sections[TABLE] = leb(tables + 1) + own_tables + b"\x70\1" + leb(len(host)) + leb(len(host))
    sections[EXPORT] = leb(len(exports)) + b"".join(exports)
    # Being exported allowed ref.func to name a function; what else allows it is a declarative element segment.
    declared = binary.referenced(sections[CODE], exported)
    if declared:
        segments, own_segments = vector(sections.get(ELEMENT))
        segment = b"\3\0" + leb(len(declared)) + b"".join(map(leb, declared))
        sections[ELEMENT] = leb(segments + 1) + own_segments + segment
    sections.pop(IMPORT, None)
    sections.pop(START, None)  # main calls it: instantiation runs nothing of the guest
    names = tuple(name for name, _ in imports)
    room = max_pages - min_pages if moves else 0
    return Linked(binary.join(sections, custom), tuple(host), names, min_pages, stack, moves, restorable, room)


def _host_functions(imported: list[str], files: bool) -> list[str]:
    """Return what the bodies of imported functions call of the host; ``files``: if directories may be granted."""
    calls = r"@(host|granted)\b" if files else r"@host\b"
    called = [name for name in imported if re.search(calls, _bodies()[name].text)]
    if files:
        called += (name for each in imported for name in sorted(_asked(each)))
    return list(dict.fromkeys(called))


@cache
def _asked(name: str) -> frozenset[str]:
    """Return which of _ASKED a body asks for, by its helpers too."""
    text = _bodies()[name].text
    found = frozenset(re.findall(r"@(\w+)", text)) & _ASKED.keys()
    return found.union(*(_asked(helper) for helper in re.findall(r"\(call \$(\w+)", text)))


def _replace_memory(code: bytes, grow: int) -> tuple[Moves, list[bytes]]:
    """Replace ``memory.grow`` by a call, and in a guest that has it ``memory.size`` by what that call notes."""
    bodies = list(binary.bodies(code))
    grown = [binary.grows(body) for body in bodies]
    if not any(grown):
        return {}, bodies
    call, moves = binary.CALL + leb(grow), {}
    for index, body in enumerate(bodies):
        changes = [(begin, end, call) for begin, end in grown[index]]
        changes += ((begin, end, _SIZE) for begin, end in binary.sizes(body))
        if changes:
            changes.sort()
            moves[index] = [(begin, len(other) - (end - begin)) for begin, end, other in changes]
            bodies[index] = binary.replaced(body, changes)
    return moves, bodies


def _grow_helper(imports: int, own: int) -> int:
    return imports + own + _HELPERS.index("memory_grow")


def _leb_items(data: bytes) -> list[int]:
    reader, items = Reader(data), []
    while reader.at < len(data):
        items.append(reader.u32())
    return items


def _types(section: bytes) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    reader, types = Reader(section), []
    for _ in range(reader.u32()):
        if reader.byte() != 0x60:
            raise UnsupportedError("it has a type that is not a function type")
        kinds = [[reader.value_type() for _ in range(reader.u32())] for _ in range(2)]
        try:
            params, results = (tuple(binary.VALUE_TYPES[kind] for kind in part) for part in kinds)
        except KeyError as error:
            raise UnsupportedError(f"it has the value type 0x{error.args[0]:02x}") from None
        types.append((params, results))
    return types


def _imports(section: bytes, types: list[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[tuple[str, int]]:
    reader, imports = Reader(section), []
    for _ in range(reader.u32()):
        module, imported, kind = reader.name(), reader.name(), reader.byte()
        if kind != 0:
            what = {1: "table", 2: "memory", 3: "global", 4: "tag"}.get(kind, "group in the compact form")
            raise UnsupportedError(f"it imports a {what}, {module}.{imported}", remedies.of_import(module, imported))
        index = reader.u32()
        name = _OURS.get((module, imported), imported if module == WASI else "")
        body = _bodies().get(name) if name not in _NOT_WASI or module == EDGE else None
        if body is None:
            raise UnsupportedError(f"it imports {module}.{imported}", remedies.of_import(module, imported))
        if types[index] != (body.params, body.results):
            problem = f"it imports {module}.{imported} with the wrong type"
            raise UnsupportedError(problem, remedies.of_wrong_type(imported))
        imports.append((name, index))
    return imports


def _one_memory(section: bytes) -> tuple[int, int]:
    """Return how many pages it has at first and at most."""
    reader = Reader(section)
    count = reader.u32()
    if count != 1:
        if not count:
            raise UnsupportedError("it has no memory", "build it with one, exported as 'memory', as WASI commands have")
        raise UnsupportedError(f"it has {count} memories", "build it with one: a function has exactly one of its own")
    flags, minimum, maximum = reader.limits()
    if flags & ~1:  # shared and 64-bit ones are refused by the engine before
        raise UnsupportedError("its memory has custom page sizes", "build it with pages of 64 KiB, the default")
    return minimum, _MOST_PAGES if maximum is None else maximum


def _exports(section: bytes) -> tuple[int, set[int]]:
    """Find the function _start, or _initialize of a reactor without it, and all functions that are exported."""
    reader, memory = Reader(section), False
    starts: dict[str, int] = {}
    functions: set[int] = set()
    for _ in range(reader.u32()):
        name, kind, index = reader.name(), reader.byte(), reader.u32()
        if kind == 0:
            functions.add(index)
            if name in ("_start", "_initialize"):
                starts[name] = index
        if name == GUEST_MEMORY and kind == 2:
            memory = True
    start = starts.get("_start", starts.get("_initialize"))
    if start is None:
        raise UnsupportedError(
            "it exports no function _start",
            "build it as a WASI command, or as a reactor whose _initialize does the work",
        )
    if not memory:
        raise UnsupportedError("it does not export its memory as 'memory'", "link it with --export-memory=memory")
    return start, functions


def _signature(params: tuple[str, ...], results: tuple[str, ...]) -> str:
    return "".join(f" (param {kind})" for kind in params) + "".join(f" (result {kind})" for kind in results)


def _donor(
    types: list[tuple[tuple[str, ...], tuple[str, ...]]],
    imports: list[tuple[str, int]],
    host: list[str],
    files: bool,
    tables: int,
    own: int,
    first: int | None,
    start: int,
) -> str:
    """Write a module whose indices are those of the linked guest, with the guest's own functions empty."""
    bodies = _bodies()

    def call_host(name: str, arguments: str) -> str:
        if name not in host:
            return "(i32.const 8)"  # EBADF
        kinds = f"(param {' '.join(bodies[name].params)}) (result {' '.join(bodies[name].results)})"
        return f"(call_indirect $host {kinds} {arguments} (i32.const {host.index(name)}))"

    def instructions(name: str) -> str:
        body = bodies[name]
        call = call_host(name, " ".join(f"(local.get {i})" for i in range(len(body.params))))
        granted = (
            f"(if (result i32) (i32.load $io (i32.const {layout.FIELDS['files']})) (then {call}) (else (i32.const 8)))"
        )

        def expand(match: re.Match[str]) -> str:
            macro = match[1]
            if macro == "host":
                return call
            if macro == "granted":
                return granted if files else "(i32.const 8)"  # EBADF
            if macro in _ASKED:
                return call_host(macro, _ASKED[macro])
            return str(layout.FIELDS[macro])

        return re.sub(r"@(\w+)", expand, body.text)

    calls = "" if first is None else f"(call {first}) "
    return "\n".join(
        [
            "(module",
            *(f"(type (func{_signature(*kind)}))" for kind in types),
            "(type $main (func))",
            *["(table 0 funcref)"] * tables,
            f"(table $host {len(host)} funcref)",
            f"(memory $guest 0) (memory $io {layout.IO} (pagesize 1))",
            *(f"(func (type {kind}) {instructions(name)})" for name, kind in imports),
            *["(func (type $main))"] * own,
            *(f"(func ${name} {instructions(name)})" for name in _HELPERS),
            f"(func (type $main) {calls}(call {start}))",
            ")",
        ]
    )
