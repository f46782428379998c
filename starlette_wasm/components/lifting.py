"""Lifting: from core values and bytes of a guest's memory to Python values.

A flat value is an unsigned integer with the bits of the core value. Every pointer is checked before it is used, and
nothing is made that is as large as a guest says before its bytes are known to be there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from .errors import CanonicalTrap
from .handles import Handle
from .side import ITEMS_AT_ONCE, PART, Side
from .strings import decode, place_of
from .types import (
    MAX_FLAT_PARAMS,
    AsyncValueType,
    FlagsType,
    FuncType,
    HandleType,
    ListType,
    Primitive,
    RecordType,
    Signature,
    StringType,
    ValueType,
    VariantType,
    params_record,
    signature,
)
from .values import Err, Ok, Some, Value, wraps

_FORMATS = {"bool": "B", "u8": "B", "s8": "b", "u16": "H", "s16": "h", "u32": "I", "s32": "i", "u64": "Q", "s64": "q",
            "f32": "f", "f64": "d", "char": "I"}  # fmt: skip
_NUMBER = 32
"""Bytes that a number in a list takes in the host, about."""
_PLACE = struct.Struct("<II")
FORMATS = {kind: struct.Struct(f"<{letter}") for kind, letter in _FORMATS.items()}


def lift_params(side: Side, kind: FuncType, flat: list[int], form: Signature | None = None) -> list[Value]:
    """Lift the arguments of a call that a guest makes; ``form`` is its core type, if it is not that of a plain call."""
    if (form or signature(kind, lowered=True)).params_spilled:
        record = params_record(kind)
        return list(load(side, check(flat[0], record, side), record))
    values = iter(flat)
    return [lift(side, values, each) for _, each in kind.params]


def lift_values(side: Side, kind: ValueType, flat: list[int]) -> Value:
    """Lift a value that a guest gives as an argument: flat, or in memory if that is too long."""
    if len(kind.flat) > MAX_FLAT_PARAMS:
        return load(side, check(flat[0], kind, side), kind)
    return lift(side, iter(flat), kind)


def lift_result(side: Side, kind: FuncType, flat: list[int]) -> Value:
    """Lift the result of a call of a guest."""
    if kind.result is None:
        return None
    if signature(kind, lowered=False).result_spilled:
        return load(side, check(flat[0], kind.result, side), kind.result)
    return lift(side, iter(flat), kind.result)


def check(at: int, kind: ValueType, side: Side) -> int:
    """Trap unless a value of that type may be at that place."""
    at &= 0xFFFFFFFF
    if at % kind.alignment:
        raise CanonicalTrap(f"unaligned pointer: {at} for {kind}")
    return at


def load(side: Side, at: int, kind: ValueType) -> Value:
    """Load the value at a place in memory."""
    return _load(side, side.memory.read(at, kind.size), 0, kind)


def _load(side: Side, data: bytes, at: int, kind: ValueType) -> Value:
    """Load the value at a place in bytes that were read: of the type's size at least."""
    side.spend(1)
    side.copy(PART)
    match kind:
        case Primitive():
            return _plain(kind, FORMATS[kind.kind].unpack_from(data, at)[0])
        case StringType():
            return _string(side, *_PLACE.unpack_from(data, at))
        case ListType():
            place, count = _PLACE.unpack_from(data, at)
            return _list(side, place, count, kind.element)
        case RecordType():
            return _record(kind, [_load(side, data, at + offset, each) for _, offset, each in kind.fields])
        case VariantType():
            tag = int.from_bytes(data[at : at + kind.tag_size], "little")
            return _case(kind, tag, lambda payload: _load(side, data, at + kind.payload_at, payload))
        case FlagsType():
            side.copy(len(kind.labels) * PART)
            return _flags(kind, int.from_bytes(data[at : at + kind.size], "little"))
        case HandleType():
            return _handle(side, int.from_bytes(data[at : at + 4], "little"), kind)
        case AsyncValueType():
            return _end(side, int.from_bytes(data[at : at + 4], "little"), kind)
    raise CanonicalTrap(f"{kind} cannot be lifted")


def lift(side: Side, flat: Iterator[int], kind: ValueType) -> Value:
    """Lift the value of the next flat ones."""
    side.spend(1)
    match kind:
        case Primitive():
            return _plain(kind, _from_bits(kind.kind, next(flat)))
        case StringType():
            return _string(side, next(flat) & 0xFFFFFFFF, next(flat) & 0xFFFFFFFF)
        case ListType():
            return _list(side, next(flat) & 0xFFFFFFFF, next(flat) & 0xFFFFFFFF, kind.element)
        case RecordType():
            return _record(kind, [lift(side, flat, each) for _, _, each in kind.fields])
        case VariantType():
            tag, *rest = (next(flat) for _ in kind.flat)
            return _case(kind, tag & 0xFFFFFFFF, lambda payload: lift(side, iter(rest), payload))
        case FlagsType():
            return _flags(kind, next(flat))
        case HandleType():
            return _handle(side, next(flat) & 0xFFFFFFFF, kind)
        case AsyncValueType():
            return _end(side, next(flat) & 0xFFFFFFFF, kind)
    raise CanonicalTrap(f"{kind} cannot be lifted")


def _from_bits(kind: str, bits: int) -> int | float:
    """Read a core value's bits as the primitive that they stand for: surplus ones of small integers do not count."""
    form = FORMATS[kind]
    if kind == "bool":
        return int(bits & 0xFFFFFFFF != 0)
    value: int | float = form.unpack((bits & ((1 << form.size * 8) - 1)).to_bytes(form.size, "little"))[0]
    return value


def _plain(kind: ValueType, value: int | float) -> Value:
    if kind.kind == "bool":
        return bool(value)
    if kind.kind != "char":
        return value
    assert isinstance(value, int)
    if value >= 0x110000 or 0xD800 <= value <= 0xDFFF:
        raise CanonicalTrap(f"invalid char: {value:#x}")
    return chr(value)


def _string(side: Side, at: int, length: int) -> str:
    alignment, size = place_of(side.encoding, length)
    if at % alignment:
        raise CanonicalTrap(f"unaligned pointer: {at} for a string")
    side.copy(size, at)
    return decode(side.encoding, length, side.memory.read(at, size))


def _list(side: Side, at: int, count: int, element: ValueType) -> Value:
    if at % element.alignment:
        raise CanonicalTrap(f"unaligned pointer: {at} for a list of {element}")
    side.copy(count * element.size, at)
    data = side.memory.read(at, count * element.size)
    if element.kind == "u8":
        return data
    if element.kind in _FORMATS and element.kind not in ("bool", "char"):
        side.copy(count * _NUMBER)
        return _numbers(side, data, count, element)
    side.spend(count)
    return [_load(side, data, index * element.size, element) for index in range(count)]


def _numbers(side: Side, data: bytes, count: int, element: ValueType) -> list[int | float]:
    """Read as many at once as leave other threads the GIL in time."""
    found: list[int | float] = []
    for at in range(0, count, ITEMS_AT_ONCE):
        some = min(count - at, ITEMS_AT_ONCE)
        side.spend(some)
        found += struct.unpack_from(f"<{some}{_FORMATS[element.kind]}", data, at * element.size)
    return found


def _record(kind: RecordType, values: list[Value]) -> Value:
    if kind.kind == "tuple":
        return tuple(values)
    return {name: value for (name, _, _), value in zip(kind.fields, values, strict=True)}


def _case(kind: VariantType, tag: int, payload_of: Callable[[ValueType], Value]) -> Value:
    if tag >= len(kind.cases):
        raise CanonicalTrap(f"unexpected discriminant: {tag} of {kind.kind}")
    name, payload = kind.cases[tag]
    value = None if payload is None else payload_of(payload)
    if kind.kind == "option":
        return Some(value) if tag and wraps(kind) else value
    if kind.kind == "result":
        return Err(value) if tag else Ok(value)
    return name if kind.kind == "enum" else (name, value)


def _flags(kind: FlagsType, bits: int) -> frozenset[str]:
    return frozenset(label for index, label in enumerate(kind.labels) if bits >> index & 1)


def _handle(side: Side, index: int, kind: HandleType) -> Value:
    if kind.kind == "own":
        return side.handles.take_own(index, kind.resource)
    handle: Handle = side.handles.get(index, kind.resource)
    if handle.scope is None:
        handle.lends += 1
        side.lent.append(handle)
    return handle.rep


def _end(side: Side, index: int, kind: AsyncValueType) -> Value:
    """Take the end of a stream or future that the guest hands on."""
    pipe = side.handles.take_end(index, kind)
    pipe.is_with_host = not side.to_guest
    return pipe
