"""A core module of a component: what of it is looked at, and how it is changed before it is compiled.

Its start function becomes an export, so that instantiating runs nothing of the guest; ``memory.grow`` becomes a call
that checks a bound and notes a refusal, as in linked functions (engine/link.py); mutable globals are exported, as what
an instance that is restored has to have back. No index changes: what is new comes last in its index space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..engine import binary
from ..engine.binary import CODE, EXPORT, FUNCTION, GLOBAL, IMPORT, START, TABLE, TYPE, Reader, leb, vector
from ..engine.changes import only_memory_changes
from ..engine.first_values import globals_of

START_EXPORT, MEMORY, LIMIT, REFUSED, STATE = "edge:start", "edge:memory", "edge:limit", "edge:refused", "edge:state"
"""Names that are added: the start function, the first memory of its own, the bound of ``memory.grow`` in pages, how
many pages were refused, and, with a number behind it, each mutable global."""
KINDS = ("func", "table", "memory", "global", "tag")


@dataclass(frozen=True, slots=True)
class CoreFacts:
    """What the host must know of a core module, as JSON can hold it."""

    imports: tuple[tuple[str, str, str], ...]
    """Module, name and kind."""
    memories: tuple[int, ...]
    """Pages that each memory of its own has from the start."""
    exported_memories: dict[str, int]
    """Index of each memory that is exported."""
    tables: int
    starts: bool
    grows: bool
    state: int
    """How many mutable globals of its own it has."""
    restorable: bool
    """Whether all that it can change is its memory and those globals."""

    @classmethod
    def load(cls, facts: dict[str, Any]) -> CoreFacts:
        given = {**facts, "imports": tuple((a, b, c) for a, b, c in facts["imports"])}
        return cls(**{**given, "memories": tuple(facts["memories"])})


def prepare(module: bytes) -> tuple[bytes, CoreFacts]:
    """Return the module as it is compiled, and what is known of it. It was validated. Raises UnsupportedError."""
    sections, custom = binary.split(module)
    imports = _imports(sections.get(IMPORT, b"\0"))
    own_globals = globals_of(sections)
    first_global = sum(kind == "global" for _, _, kind in imports)
    mutable = [first_global + index for index, each in enumerate(own_globals) if each.mutable]
    own_tables = vector(sections.get(TABLE))[0]
    tables = own_tables + sum(kind == "table" for _, _, kind in imports)
    restorable = only_memory_changes(sections, [each.kind for each in own_globals if each.mutable], tables)
    added = [_export(f"{STATE}{number}", 3, index) for number, index in enumerate(mutable)]
    memories = _memories(sections.get(binary.MEMORY, b"\0"))
    if memories:
        added.append(_export(MEMORY, 2, sum(kind == "memory" for _, _, kind in imports)))
    if START in sections:
        added.append(_export(START_EXPORT, 0, Reader(sections.pop(START)).u32()))
    grows = _bound_grow(sections, imports, first_global + len(own_globals), added)
    exports, own_exports = vector(sections.get(EXPORT))
    if added:
        sections[EXPORT] = leb(exports + len(added)) + own_exports + b"".join(added)
    facts = CoreFacts(
        imports=tuple(imports),
        memories=tuple(memories),
        exported_memories=_exported_memories(exports, own_exports),
        tables=own_tables,
        starts=any(START_EXPORT.encode() in each for each in added),
        grows=grows,
        state=len(mutable),
        restorable=restorable,
    )
    return binary.join(sections, [each for each in custom if not Reader(each).name().startswith(".debug_")]), facts


def _export(name: str, kind: int, index: int) -> bytes:
    return binary.name(name) + bytes([kind]) + leb(index)


def _imports(section: bytes) -> list[tuple[str, str, str]]:
    reader, found = Reader(section), []
    for _ in range(reader.u32()):
        module, name, kind = reader.name(), reader.name(), reader.byte()
        if kind >= len(KINDS):
            raise binary.UnsupportedError(f"a core module imports {module} {name} in the compact form")
        _skip_import(reader, kind)
        found.append((module, name, KINDS[kind]))
    return found


def _skip_import(reader: Reader, kind: int) -> None:
    if kind == 0:
        reader.u32()
    elif kind == 1:
        reader.value_type()
        reader.limits()
    elif kind == 2:
        _checked_memory(reader)
    elif kind == 3:
        reader.value_type()
        reader.byte()
    else:
        raise binary.UnsupportedError("a core module imports a tag")


def _checked_memory(reader: Reader) -> int:
    flags, minimum, _ = reader.limits()
    if flags & ~1:
        raise binary.UnsupportedError("a memory is shared, 64-bit, or has custom page sizes")
    return minimum


def _memories(section: bytes) -> list[int]:
    reader = Reader(section)
    return [_checked_memory(reader) for _ in range(reader.u32())]


def _exported_memories(count: int, items: bytes) -> dict[str, int]:
    reader, found = Reader(items), {}
    for _ in range(count):
        name, kind, index = reader.name(), reader.byte(), reader.u32()
        if kind == 2:
            found[name] = index
    return found


_I32 = b"\x7f"


def _bound_grow(
    sections: dict[int, bytes], imports: list[tuple[str, str, str]], next_global: int, added: list[bytes]
) -> bool:
    """Replace each ``memory.grow`` by a call of a function that is appended. False if there is none."""
    bodies = list(binary.bodies(sections.get(CODE, b"\0")))
    found = [binary.grows(body) for body in bodies]
    if not any(found):
        return False
    function = sum(kind == "func" for _, _, kind in imports) + len(bodies)
    types, own_types = vector(sections.get(TYPE))
    functions, own_functions = vector(sections.get(FUNCTION))
    globals_, own_globals = vector(sections.get(GLOBAL))
    sections[TYPE] = leb(types + 1) + own_types + b"\x60\1" + _I32 + b"\1" + _I32
    sections[FUNCTION] = leb(functions + 1) + own_functions + leb(types)
    sections[GLOBAL] = leb(globals_ + 2) + own_globals + (_I32 + b"\1\x41\0\x0b") * 2
    changed = [binary.replace_memory_grow(body, at, function) for body, at in zip(bodies, found, strict=True)]
    changed.append(_grow_helper(next_global, next_global + 1))
    sections[CODE] = leb(len(changed)) + b"".join(leb(len(body)) + body for body in changed)
    added += _export(LIMIT, 3, next_global), _export(REFUSED, 3, next_global + 1)
    return True


def _grow_helper(limit: int, refused: int) -> bytes:
    """Make ``(func (param i32) (result i32))``: in 64 bits, size and pages against the limit, then ``memory.grow``."""
    return b"".join(
        (
            b"\0\x3f\0\xad\x20\0\xad\x7c\x23", leb(limit), b"\xad\x56\x04\x40",
            b"\x20\0\x24", leb(refused), b"\x41\x7f\x0f\x0b", b"\x20\0\x40\0\x0b",
        )
    )  # fmt: skip


def hollow(module: bytes) -> bytes:
    """Drop code and data of the module: what its type, imports and exports are is left."""
    sections, _ = binary.split(module)
    count = vector(sections.get(CODE))[0]
    if count:
        sections[CODE] = leb(count) + b"\x03\0\0\x0b" * count  # unreachable
    for kind in (binary.DATA, binary.DATACOUNT):
        sections.pop(kind, None)
    return binary.join(sections, [])
