"""Values as .wast files write them, as those of the component model in Python."""

from __future__ import annotations

import math
import struct

from wast_text import Form, Text, WastError

from starlette_wasm.components.types import FlagsType, ListType, RecordType, ValueType, VariantType
from starlette_wasm.components.values import Err, Ok, Some, Value, wraps

_INTEGERS = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64")


def value_of(form: Form, kind: ValueType) -> Value:
    """Return the value of that type. Raises WastError if it is of another."""
    name, _, ending = form.head.partition(".")
    if name != kind.kind and (name, kind.kind) != ("str", "string"):
        raise WastError(f"{form.head} stands for a {kind}")
    match kind:
        case ListType():
            values = [value_of(_form(each), kind.element) for each in form.items[1:]]
            return bytes(values) if kind.element.kind == "u8" else values
        case RecordType(kind="tuple"):
            return tuple(value_of(_form(each), of) for each, (_, _, of) in _pairs(form, kind))
        case RecordType():
            return {name: value_of(_field(each), of) for each, (name, _, of) in _pairs(form, kind)}
        case FlagsType():
            return frozenset(_text(each) for each in form.items[1:])
        case VariantType():
            return _case(form, ending, kind)
    return _plain(form, kind.kind)


def _field(item: object) -> Form:
    """Return the value of a field, with parentheses of its own or without."""
    field = _form(item)
    inner = field.items[2]
    return inner if isinstance(inner, Form) else Form(field.items[2:], field.ends[2:], field.start, field.end)


def _pairs(form: Form, kind: RecordType) -> list[tuple[object, tuple[str, int, ValueType]]]:
    given = form.items[1:]
    if len(given) != len(kind.fields):
        raise WastError(f"{len(given)} parts are given for {kind}")
    return list(zip(given, kind.fields, strict=True))


def _case(form: Form, ending: str, kind: VariantType) -> Value:
    given = list(form.items[1:])
    name = ending if kind.kind in ("option", "result") else _text(given.pop(0))
    name = {"err": "error"}.get(name, name)
    cases = [each for each, _ in kind.cases]
    if name not in cases:
        raise WastError(f"{kind} has no case {name!r}")
    payload = kind.cases[cases.index(name)][1]
    value = None if payload is None else value_of(_form(given[0]), payload)
    if kind.kind == "option":
        return Some(value) if name == "some" and wraps(kind) else value
    if kind.kind == "result":
        return Ok(value) if name == "ok" else Err(value)
    return name if kind.kind == "enum" else (name, value)


def _plain(form: Form, kind: str) -> Value:
    given = form.items[1]
    if kind in ("string", "char"):
        return _text(given)
    if not isinstance(given, str):
        raise WastError(f"{form.head} has no number")
    if kind == "bool":
        return given == "true"
    return int(given.replace("_", ""), 0) if kind in _INTEGERS else float_of(given, kind)


def float_of(text: str, kind: str) -> float:
    """Return a floating-point number; that of ``f32`` has the precision of one."""
    plain = text.replace("_", "")
    if "nan" in plain:
        return math.nan
    number = float.fromhex(plain) if "0x" in plain else float(plain)
    return struct.unpack("<f", struct.pack("<f", number))[0] if kind == "f32" else number


def same(one: Value, other: Value) -> bool:
    """Return whether two values are equal; NaN is equal to NaN, and 0.0 not to -0.0."""
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, list | tuple) and isinstance(other, type(one)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Ok | Err | Some) and type(one) is type(other):
        return same(one.value, other.value)
    return bool(one == other)


def _form(item: object) -> Form:
    if not isinstance(item, Form):
        raise WastError(f"a value is expected, not {item!r:.60}")
    return item


def _text(item: object) -> str:
    if not isinstance(item, Text):
        raise WastError(f"a string is expected, not {item!r:.60}")
    return item.data.decode()
