"""Lowering: from Python values to core values and bytes in a guest's memory.

Room for strings and lists is the guest's to give, by its realloc. So what may need it is a generator: it yields a
request, and is sent the place. A flat value is an unsigned integer with the bits of the core value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from .errors import CanonicalTrap
from .handles import AsyncEnd, Handle
from .lifting import FORMATS
from .side import Side
from .strings import encode
from .types import (
    AsyncValueType,
    FlagsType,
    FuncType,
    HandleType,
    ListType,
    Primitive,
    RecordType,
    StringType,
    ValueType,
    VariantType,
    params_record,
    signature,
)
from .values import Err, Ok, Some, Value, ValueMismatchError, mismatch, wraps


@dataclass(frozen=True, slots=True)
class Realloc:
    """Asks the guest for room of that many bytes."""

    alignment: int
    size: int


_MASKS = {"i32": 0xFFFFFFFF, "f32": 0xFFFFFFFF, "i64": (1 << 64) - 1, "f64": (1 << 64) - 1}
_Place = tuple[int, int]
Lowering = Generator[Realloc, int, list[int]]
Storing = Generator[Realloc, int, bytes]


def lower_params(side: Side, kind: FuncType, values: Sequence[Value]) -> Lowering:
    """Lower the arguments of a call of a guest. Raises ValueMismatchError, which names the parameter."""
    form = signature(kind, lowered=False)
    if len(values) != len(kind.params):
        raise ValueMismatchError(f"{len(kind.params)} arguments are expected, not {len(values)}: {kind}")
    if form.params_spilled:
        return [(yield from _spill(side, params_record(kind), tuple(values)))]
    flat: list[int] = []
    for (name, each), value in zip(kind.params, values, strict=True):
        try:
            flat += yield from lower(side, value, each)
        except (ValueMismatchError, UnicodeEncodeError) as error:
            raise ValueMismatchError(f"parameter {name}: {error}") from None
    return flat


def lower_result(side: Side, kind: FuncType, value: Value, at: int | None) -> Lowering:
    """Lower the result of a call that a guest made; ``at`` is where it wants one that is spilled."""
    if kind.result is None:
        if value is not None:
            raise mismatch_of_nothing(value)
        return []
    if at is None:
        return (yield from lower(side, value, kind.result))
    yield from store_at(side, at, value, kind.result)
    return []


def mismatch_of_nothing(value: Value) -> ValueMismatchError:
    return ValueMismatchError(f"no value is expected, not {type(value).__name__} {value!r:.60}")


def _aligned(at: int, kind: ValueType) -> int:
    if at % kind.alignment:
        raise CanonicalTrap(f"unaligned pointer: {at} for {kind}")
    return at


def store_at(side: Side, at: int, value: Value, kind: ValueType) -> Generator[Realloc, int, None]:
    """Write a value where the guest wants it. Raises ValueMismatchError."""
    at = _aligned(at & 0xFFFFFFFF, kind)
    side.memory.read(at, kind.size)  # before the guest is asked for anything
    side.memory.write(at, (yield from _store(side, value, kind)))


def _spill(side: Side, kind: ValueType, value: Value) -> Generator[Realloc, int, int]:
    """Store a value in memory that the guest gives for it."""
    at = yield from _room(side, kind.alignment, kind.size)
    side.memory.write(at, (yield from _store(side, value, kind)))
    return at


def _room(side: Side, alignment: int, size: int) -> Generator[Realloc, int, int]:
    at = (yield Realloc(alignment, size)) & 0xFFFFFFFF
    if at % alignment:
        raise CanonicalTrap("realloc return: result not aligned")
    side.memory.read(at + size - 1 if size else at, min(size, 1))  # there, and its end too
    return at


def lower(side: Side, value: Value, kind: ValueType) -> Lowering:
    """Lower a value to its flat form."""
    side.spend(1)
    match kind:
        case Primitive():
            return [_bits_of(kind, _packed(kind, value))]
        case StringType():
            return list((yield from _string(side, value)))
        case ListType():
            return list((yield from _list(side, value, kind)))
        case RecordType():
            flat: list[int] = []
            for part, (_, _, each) in zip(_parts(kind, value), kind.fields, strict=True):
                flat += yield from lower(side, part, each)
            return flat
        case VariantType():
            tag, payload = _case(kind, value)
            of = kind.cases[tag][1]
            inner = [] if of is None else (yield from lower(side, payload, of))
            return [tag, *inner, *[0] * (len(kind.flat) - 1 - len(inner))]
        case FlagsType():
            return [_bits(kind, value)]
        case HandleType():
            return [_handle(side, value, kind)]
        case AsyncValueType():
            return [_end(side, value, kind)]
    raise ValueMismatchError(f"{kind} cannot be lowered")


def _store(side: Side, value: Value, kind: ValueType) -> Storing:
    """Yield the bytes of a value in memory."""
    side.spend(1)
    match kind:
        case Primitive():
            return _packed(kind, value)
        case StringType():
            return struct.pack("<II", *(yield from _string(side, value)))
        case ListType():
            return struct.pack("<II", *(yield from _list(side, value, kind)))
        case RecordType():
            data = bytearray(kind.size)
            for part, (_, at, each) in zip(_parts(kind, value), kind.fields, strict=True):
                data[at : at + each.size] = yield from _store(side, part, each)
            return bytes(data)
        case VariantType():
            tag, payload = _case(kind, value)
            data = bytearray(kind.size)
            data[: kind.tag_size] = tag.to_bytes(kind.tag_size, "little")
            of = kind.cases[tag][1]
            if of is not None:
                data[kind.payload_at : kind.payload_at + of.size] = yield from _store(side, payload, of)
            return bytes(data)
        case FlagsType():
            return _bits(kind, value).to_bytes(kind.size, "little")
        case HandleType():
            return _handle(side, value, kind).to_bytes(4, "little")
        case AsyncValueType():
            return _end(side, value, kind).to_bytes(4, "little")
    raise ValueMismatchError(f"{kind} cannot be lowered")


def _packed(kind: ValueType, value: Value) -> bytes:
    """Pack a primitive value into bytes. Raises ValueMismatchError."""
    name = kind.kind
    if name == "bool":
        fits = isinstance(value, bool)
    elif name == "char":
        fits = isinstance(value, str) and len(value) == 1 and not "\ud800" <= value <= "\udfff"
    elif name in ("f32", "f64"):
        fits = isinstance(value, float | int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, int) and not isinstance(value, bool)
    if not fits:
        raise mismatch(kind, value)
    try:
        return FORMATS[name].pack(ord(value) if name == "char" else value)
    except (struct.error, OverflowError):
        raise mismatch(kind, value) from None


def _bits_of(kind: ValueType, data: bytes) -> int:
    """Return the core value of a primitive one: a small integer with a sign fills all 32 bits."""
    return int.from_bytes(data, "little", signed=kind.kind in ("s8", "s16")) & _MASKS[kind.flat[0]]


def _string(side: Side, value: Value) -> Generator[Realloc, int, _Place]:
    if not isinstance(value, str):
        raise ValueMismatchError(f"string is expected, not {type(value).__name__} {value!r:.60}")
    alignment, length, data = encode(side.encoding, value)
    at = yield from _room(side, alignment, len(data))
    side.memory.write(at, data)
    return at, length


def _list(side: Side, value: Value, kind: ListType) -> Generator[Realloc, int, _Place]:
    element = kind.element
    if element.kind == "u8" and isinstance(value, bytes | bytearray | memoryview):
        at = yield from _room(side, 1, len(value))
        side.memory.write(at, bytes(value))
        return at, len(value)
    if not isinstance(value, list | tuple):
        raise mismatch(kind, value)
    side.spend(len(value))
    at = yield from _room(side, element.alignment, len(value) * element.size)
    data = bytearray()
    for each in value:
        data += yield from _store(side, each, element)
    side.memory.write(at, bytes(data))
    return at, len(value)


def _parts(kind: RecordType, value: Value) -> Sequence[Value]:
    if kind.kind == "tuple":
        if not isinstance(value, tuple) or len(value) != len(kind.fields):
            raise mismatch(kind, value)
        return value
    names = [name for name, _, _ in kind.fields]
    if not isinstance(value, dict) or value.keys() != set(names):
        raise mismatch(kind, value)
    return [value[name] for name in names]


def _case(kind: VariantType, value: Value) -> tuple[int, Value]:
    """Return the tag and the payload. Raises ValueMismatchError."""
    special: dict[str, Callable[[], tuple[int, Value]]] = {
        "option": lambda: (0, None) if value is None else (1, _unwrapped(kind, value)),
        "result": lambda: (int(isinstance(value, Err)), _of_result(kind, value)),
        "enum": lambda: (_tag(kind, value, value), None),
        "variant": lambda: _of_variant(kind, value),
    }
    tag, payload = special[kind.kind]()
    if kind.cases[tag][1] is None and payload is not None:
        raise mismatch(kind, value)
    return tag, payload


def _unwrapped(kind: VariantType, value: Value) -> Value:
    if not wraps(kind):
        return value
    if not isinstance(value, Some):
        raise mismatch(kind, value)
    return value.value


def _of_result(kind: VariantType, value: Value) -> Value:
    if not isinstance(value, Ok | Err):
        raise mismatch(kind, value)
    return value.value


def _of_variant(kind: VariantType, value: Value) -> tuple[int, Value]:
    if not isinstance(value, tuple) or len(value) != 2:
        raise mismatch(kind, value)
    return _tag(kind, value[0], value), value[1]


def _tag(kind: VariantType, name: Value, value: Value) -> int:
    for tag, (each, _) in enumerate(kind.cases):
        if each == name:
            return tag
    raise mismatch(kind, value)


def _bits(kind: FlagsType, value: Value) -> int:
    if not isinstance(value, set | frozenset) or not value <= set(kind.labels):
        raise mismatch(kind, value)
    return sum(1 << index for index, label in enumerate(kind.labels) if label in value)


def _handle(side: Side, value: Value, kind: HandleType) -> int:
    resource = kind.resource
    if kind.kind == "own":
        return side.handles.add(Handle(resource, value))
    if resource.instance == side.instance:  # who defines it gets its own representation
        if not isinstance(value, int):
            raise mismatch(kind, value)
        return value
    if side.scope is None:
        raise ValueMismatchError(f"{kind} cannot be a result")
    side.scope.borrows += 1
    return side.handles.add(Handle(resource, value, side.scope))


def _end(side: Side, value: Value, kind: AsyncValueType) -> int:
    make = getattr(value, "readable_end", None)
    if make is None:
        raise mismatch(kind, value)
    end: AsyncEnd = make(kind)
    end.index = side.handles.add(end)
    return end.index
