"""Reads the types of a component's binary."""

from __future__ import annotations

from .cursor import Cursor
from .definitions import (
    Alias,
    CoreTypeDef,
    ExportDecl,
    ExternDesc,
    FuncDef,
    HandleDef,
    ImportDef,
    ResourceDef,
    ScopeDef,
    Sort,
    TypeDef,
    ValueDef,
    ValueRef,
)
from .errors import UnsupportedComponentError

MAX_DEPTH = 32
"""How deep components, and types of instances and components, may be nested."""
PRIMITIVES = {
    0x7F: "bool", 0x7E: "s8", 0x7D: "u8", 0x7C: "s16", 0x7B: "u16", 0x7A: "s32", 0x79: "u32", 0x78: "s64", 0x77: "u64",
    0x76: "f32", 0x75: "f64", 0x74: "char", 0x73: "string", 0x64: "error-context",
}  # fmt: skip
CORE_SORTS = {0x00: "func", 0x01: "table", 0x02: "memory", 0x03: "global", 0x04: "tag", 0x10: "type", 0x11: "module",
              0x12: "instance"}  # fmt: skip
_OF_GC = (0x00, 0x4E, 0x4F, 0x5E, 0x5F)
SORTS = {0x01: "func", 0x02: "value", 0x03: "type", 0x04: "component", 0x05: "instance"}


def value_ref(cursor: Cursor) -> ValueRef:
    code = cursor.s33()
    if code >= 0:
        return code
    primitive = PRIMITIVES.get(code + 128)
    if primitive is None:
        raise cursor.fail(f"unknown value type 0x{code + 128:02x}")
    return primitive


def optional_value(cursor: Cursor) -> ValueRef | None:
    return value_ref(cursor) if _flag(cursor) else None


def _flag(cursor: Cursor) -> bool:
    flag = cursor.byte()
    if flag > 1:
        raise cursor.fail(f"0x{flag:02x} stands where 0 or 1 is expected")
    return bool(flag)


def _case(cursor: Cursor) -> tuple[str, ValueRef | None]:
    name, payload = cursor.name(), optional_value(cursor)
    if cursor.byte():
        raise cursor.fail("a case refines another, which no version of the format allows any more")
    return name, payload


def type_def(cursor: Cursor, depth: int = 0) -> TypeDef:
    """Read one entry of a type section."""
    code = cursor.byte()
    if code in PRIMITIVES:
        return TypeDef(ValueDef(PRIMITIVES[code]))
    definition: ValueDef | HandleDef | FuncDef | ResourceDef | ScopeDef | None = _value_def(cursor, code)
    if definition is None:
        definition = _other_def(cursor, code, depth)
    if definition is None:
        raise cursor.fail(f"unknown type 0x{code:02x}")
    return TypeDef(definition)


def _value_def(cursor: Cursor, code: int) -> ValueDef | None:
    if code == 0x72:
        return ValueDef("record", cursor.vector(lambda: (cursor.name(), value_ref(cursor))))
    if code == 0x71:
        return ValueDef("variant", cursor.vector(lambda: _case(cursor)))
    if code in (0x70, 0x6B):
        return ValueDef("list" if code == 0x70 else "option", (("", value_ref(cursor)),))
    if code == 0x6F:
        return ValueDef("tuple", cursor.vector(lambda: ("", value_ref(cursor))))
    if code in (0x6E, 0x6D):
        return ValueDef("flags" if code == 0x6E else "enum", cursor.vector(lambda: (cursor.name(), None)))
    if code == 0x6A:
        return ValueDef("result", (("ok", optional_value(cursor)), ("error", optional_value(cursor))))
    if code in (0x66, 0x65):
        return ValueDef("stream" if code == 0x66 else "future", (("", optional_value(cursor)),))
    if code in (0x67, 0x63):
        raise UnsupportedComponentError(
            f"it has {'a list of a fixed length' if code == 0x67 else 'a map'}, which is not taken",
            f"use a {'tuple' if code == 0x67 else 'list of tuples'} in its WIT",
        )
    return None


def _other_def(cursor: Cursor, code: int, depth: int) -> HandleDef | FuncDef | ResourceDef | ScopeDef | None:
    if code == 0x69:
        return HandleDef("own", cursor.u32())
    if code == 0x68:
        return HandleDef("borrow", cursor.u32())
    if code in (0x40, 0x43):
        params = cursor.vector(lambda: (cursor.name(), value_ref(cursor)))
        return FuncDef(params, result_list(cursor), code == 0x43)
    if code == 0x3F:
        if cursor.byte() != 0x7F:
            raise cursor.fail("the representation of a resource is not i32")
        return ResourceDef(cursor.u32() if _flag(cursor) else None)
    if code in (0x41, 0x42):
        if depth >= MAX_DEPTH:
            raise cursor.fail(f"types are nested more than {MAX_DEPTH} deep")
        declarations = cursor.vector(lambda: _declaration(cursor, code == 0x41, depth + 1))
        return ScopeDef("component" if code == 0x41 else "instance", declarations)
    return None


def result_list(cursor: Cursor) -> ValueRef | None:
    kind = cursor.byte()
    if kind == 0:
        return value_ref(cursor)
    if kind != 1 or cursor.byte():
        raise cursor.fail("named results are no longer part of the format; build it with a newer toolchain")
    return None


def _declaration(cursor: Cursor, component: bool, depth: int) -> TypeDef | CoreTypeDef | Alias | ImportDef | ExportDecl:
    kind = cursor.byte()
    if kind == 0:
        return core_type(cursor, depth)
    if kind == 1:
        return type_def(cursor, depth)
    if kind == 2:
        return alias(cursor)
    if kind == 3 and component:
        return ImportDef(extern_name(cursor), extern_desc(cursor))
    if kind == 4:
        return ExportDecl(extern_name(cursor), extern_desc(cursor))
    raise cursor.fail(f"unknown declaration 0x{kind:02x}")


def extern_name(cursor: Cursor) -> str:
    """Read the name of an import or export, of the kebab kind or of an interface."""
    kind = cursor.byte()
    if kind > 2:
        raise cursor.fail(f"unknown kind of name 0x{kind:02x}")
    name = cursor.name()
    if kind == 2:
        cursor.vector(lambda: (cursor.byte(), cursor.name()))
    return name


def extern_desc(cursor: Cursor) -> ExternDesc:
    kind = cursor.byte()
    if kind == 0:
        if cursor.byte() != 0x11:
            raise cursor.fail("a core item that is no module is imported or exported")
        return ExternDesc("core module", cursor.u32())
    if kind == 3:
        if _flag(cursor):
            return ExternDesc("type", bound="sub")
        return ExternDesc("type", cursor.u32(), "eq")
    if kind == 2:
        raise UnsupportedComponentError(
            "it imports or exports a value, which is not taken", "import or export a function that gives it"
        )
    if kind not in SORTS:
        raise cursor.fail(f"unknown kind of import or export 0x{kind:02x}")
    return ExternDesc(SORTS[kind], cursor.u32())


def core_sort(cursor: Cursor) -> Sort:
    code = cursor.byte()
    if code not in CORE_SORTS:
        raise cursor.fail(f"unknown core sort 0x{code:02x}")
    return f"core {CORE_SORTS[code]}"


def sort(cursor: Cursor) -> Sort:
    code = cursor.byte()
    if code == 0:
        return core_sort(cursor)
    if code not in SORTS:
        raise cursor.fail(f"unknown sort 0x{code:02x}")
    return SORTS[code]


def alias(cursor: Cursor) -> Alias:
    of = sort(cursor)
    how = cursor.byte()
    if how == 0:
        return Alias(of, "export", cursor.u32(), cursor.name())
    if how == 1:
        return Alias(of, "core export", cursor.u32(), cursor.name())
    if how == 2:
        depth, index = cursor.u32(), cursor.u32()
        return Alias(of, "outer", index, depth=depth)
    raise cursor.fail(f"unknown alias 0x{how:02x}")


def core_type(cursor: Cursor, depth: int = 0) -> CoreTypeDef:
    """Step over a core type, which only an import of a core module needs."""
    code = cursor.byte()
    if code == 0x60:
        for _ in range(2):
            cursor.vector(lambda: _core_value_type(cursor))
    elif code == 0x50:
        if depth >= MAX_DEPTH:
            raise cursor.fail(f"types are nested more than {MAX_DEPTH} deep")
        cursor.vector(lambda: _module_declaration(cursor, depth + 1))
    elif code in _OF_GC:
        raise UnsupportedComponentError("it has a core type of garbage collection", "build it without WasmGC")
    else:
        raise cursor.fail(f"unknown core type 0x{code:02x}")
    return CoreTypeDef()


def _core_value_type(cursor: Cursor) -> None:
    if cursor.byte() in (0x63, 0x64):
        cursor.s33()


def _module_declaration(cursor: Cursor, depth: int) -> None:
    kind = cursor.byte()
    if kind == 0:
        cursor.name()
        cursor.name()
        _core_extern(cursor)
    elif kind == 1:
        core_type(cursor, depth)
    elif kind == 2:
        for step in (cursor.byte, cursor.byte, cursor.u32, cursor.u32):
            step()
    elif kind == 3:
        cursor.name()
        _core_extern(cursor)
    else:
        raise cursor.fail(f"unknown declaration of a module 0x{kind:02x}")


def _core_extern(cursor: Cursor) -> None:
    kind = cursor.byte()
    if kind == 0:
        cursor.u32()
    elif kind == 1:
        _core_value_type(cursor)
        _limits(cursor)
    elif kind == 2:
        _limits(cursor)
    elif kind == 3:
        _core_value_type(cursor)
        cursor.byte()
    elif kind == 4:
        cursor.byte()
        cursor.u32()
    else:
        raise cursor.fail(f"unknown core import 0x{kind:02x}")


def _limits(cursor: Cursor) -> None:
    if cursor.byte() & 1:
        cursor.u32()
    cursor.u32()
