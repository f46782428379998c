"""Values in a guest's memory and in its core values, damaged or not: they mean the same as to wasmtime's component API.

From the bytes come a type, an encoding of strings, a value of the type, and edits of what lowering has made of it:
pointers, lengths, discriminants, bytes of strings. A component gives its host that memory, as a result and as the
argument of an import, and what it gave goes back to it. Both sides take the same, or both end the guest.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Generator
from functools import lru_cache
from pathlib import Path
from typing import Any

import wasmtime

from starlette_wasm.components.errors import CanonicalTrap
from starlette_wasm.components.handles import HandleTable
from starlette_wasm.components.lowering import Realloc, lower, store_at
from starlette_wasm.components.side import Side
from starlette_wasm.components.types import (
    MAX_FLAT_PARAMS,
    PRIMITIVES,
    FlagsType,
    FuncType,
    ListType,
    RecordType,
    Signature,
    ValueType,
    VariantType,
    align,
    enum_of,
    flags_of,
    list_of,
    option_of,
    record_of,
    result_of,
    signature,
    variant_of,
)
from starlette_wasm.components.values import Err, Ok, Some, Value, wraps
from starlette_wasm.engine import capi
from starlette_wasm.engine.outcome import End

from .source import Source

sys.path.insert(0, str(Path(__file__).parents[2] / "components"))  # for the modules below, wherever pytest begins
from running import Oracle, call, compiled
from type_texts import TypeTexts, foreign

EXAMPLES = 12
"""In the test suite: each has modules to compile."""
TOKENS = tuple(
    struct.pack("<I", each)
    for each in (0, 1, 2, 0xD800, 0x110000, 0xFFFF, 1 << 28, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 131071, 131072)
)
ENCODINGS = ("utf8", "utf16", "latin1+utf16")
_PLAIN = sorted(set(PRIMITIVES) - {"error-context"})
_UNTAGGED = ("bool", "option", "result", "variant")
"""Kinds of payloads that wasmtime's API in Python cannot tell apart."""
_FLAT_AT, _AT, _ROOM = 16, 512, 1024
"""Where core values, the value and what it points to are in memory."""
_SIZE = 1 << 17
_IMAGE = 2048
_FAILURES = (wasmtime.WasmtimeError, wasmtime.Trap, UnicodeDecodeError)


def check(data: bytes) -> None:
    source = Source(data)
    kind, encoding = _type(source, 3), source.pick(ENCODINGS)
    value = _value(source, kind)
    image = _image(kind, encoding, value)
    component = _component(kind, encoding)
    _compare(component, kind, bytes(image[:_IMAGE]), encoding)
    while source.more():
        damaged = image[:_IMAGE]
        damaged[0] = source.pick((0, 0, 0, 0, 1, 2, 4))
        for _ in range(source.integer(1, 3)):
            _edit(source, damaged)
        _compare(component, kind, bytes(damaged), encoding)


def _compare(component: bytes, kind: ValueType, memory: bytes, encoding: str) -> None:
    _compare_sent(component, kind, memory)
    given = _compare_given(component, kind, memory)
    if given is not None and encoding == "utf8":  # for others wasmtime asks for room more than once
        _compare_taken(component, kind, given[0])


def _type(source: Source, depth: int) -> ValueType:
    choice = source.integer(0, 8 if depth else 2)
    if choice == 0:
        return PRIMITIVES[source.pick(_PLAIN)]
    names = [f"n{i}" for i in range(source.integer(1, 33 if choice == 1 else 32))]
    if choice == 1:
        return enum_of(names)
    if choice == 2:
        return flags_of(names)
    if choice == 3:
        return list_of(_type(source, depth - 1))
    if choice == 4:
        return option_of(_type(source, depth - 1))
    if choice == 5:
        return result_of(_payload(source, depth), _payload(source, depth))
    if choice == 6:
        return variant_of([(f"c{i}", _payload(source, depth)) for i in range(source.integer(1, 5))])
    parts = [_type(source, depth - 1) for _ in range(source.integer(1, 5))]
    if choice == 7:
        return record_of([f"f{i}" for i in range(len(parts))], parts)
    return record_of([""] * len(parts), parts, "tuple")


def _payload(source: Source, depth: int) -> ValueType | None:
    found = _type(source, depth - 1) if source.flag() else None
    return None if found is None or found.kind in _UNTAGGED else found


def _value(source: Source, kind: ValueType) -> Value:
    match kind:
        case ListType():
            if kind.element.kind == "u8":
                return source.take(source.integer(0, 9))
            return [_value(source, kind.element) for _ in range(source.integer(0, 3))]
        case RecordType(kind="tuple"):
            return tuple(_value(source, each) for _, _, each in kind.fields)
        case RecordType():
            return {name: _value(source, each) for name, _, each in kind.fields}
        case FlagsType():
            return frozenset(label for label in kind.labels if source.flag())
        case VariantType():
            return _case(source, kind)
    return _number(source, kind)


def _case(source: Source, kind: VariantType) -> Value:
    tag = source.integer(0, len(kind.cases) - 1)
    name, payload = kind.cases[tag]
    value = None if payload is None else _value(source, payload)
    if kind.kind == "option":
        return Some(value) if tag and wraps(kind) else value
    if kind.kind == "result":
        return Err(value) if tag else Ok(value)
    return name if kind.kind == "enum" else (name, value)


def _number(source: Source, kind: ValueType) -> Value:
    if kind.kind == "string":
        return source.take(source.integer(0, 9)).decode("latin-1") + "€" * source.integer(0, 1)
    if kind.kind == "char":
        return chr(source.integer(0, 0xD7FF))
    if kind.kind == "bool":
        return source.flag()
    if kind.kind in ("f32", "f64"):
        return float(source.integer(-(1 << 23), 1 << 23))
    bits = kind.size * 8
    return (
        source.integer(0, (1 << bits) - 1)
        if kind.kind[0] == "u"
        else source.integer(-1 << bits - 1, (1 << bits - 1) - 1)
    )


class _Memory:
    def __init__(self) -> None:
        self.data = bytearray(_SIZE)

    def read(self, at: int, size: int) -> bytes:
        if at + size > _SIZE:
            raise CanonicalTrap("out of bounds")
        return bytes(self.data[at : at + size])

    def write(self, at: int, data: bytes) -> None:
        self.data[at : at + len(data)] = data


def _image(kind: ValueType, encoding: str, value: Value) -> bytearray:
    """A memory with the value in it, and with its core values."""
    memory = _Memory()
    side = Side(0, HandleTable(), memory, encoding)
    room = [max(_ROOM, _AT + kind.size)]
    _allocated(store_at(side, _AT, value, kind), room)
    for index, bits in enumerate(_allocated(lower(side, value, kind), room)[:MAX_FLAT_PARAMS]):
        memory.write(_FLAT_AT + 8 * index, struct.pack("<Q", bits))
    return memory.data


def _allocated(lowering: Generator[Realloc, int, Any], room: list[int]) -> Any:
    try:
        asked = next(lowering)
        while True:
            at = align(room[0], asked.alignment)
            room[0] = at + asked.size
            asked = lowering.send(at)
    except StopIteration as done:
        return done.value


def _edit(source: Source, image: bytearray) -> None:
    at = source.pick((_FLAT_AT, _AT, _ROOM)) + source.integer(0, 255)
    data = source.take(source.pick((1, 2, 4)))
    image[at : at + len(data)] = data


@lru_cache(100)
def _assembled(types: str, named: str, encoding: str, given: Signature, returned: Signature) -> bytes:
    params, result = given.params, returned.results[0]
    loads = " ".join(f"({each}.load (i32.const {_FLAT_AT + 8 * i}))" for i, each in enumerate(params))
    place = f"(i32.add (i32.const {_AT}) (i32.load8_u (i32.const 0)))"
    kinds = "".join(f" (param {each})" for each in params)
    options = f'(memory (core memory $l "mem")) (realloc (core func $l "realloc")) string-encoding={encoding}'
    give = place if returned.result_spilled else f"({result}.load {place})"
    send = place if given.params_spilled else loads
    return capi.assemble(f"""(component {types}
     (import "take" (func $take (param "v" {named})))
     (core module $mem (memory (export "mem") 2)
      (global $next (mut i32) (i32.const -1))
      (func (export "ready") (global.set $next (i32.const 65536)))
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
       (if (i32.eq (global.get $next) (i32.const -1)) (then (return (i32.const 0))))
       (local.set $at (i32.and (i32.add (global.get $next) (i32.sub (local.get 2) (i32.const 1)))
                               (i32.sub (i32.const 0) (local.get 2))))
       (global.set $next (i32.add (local.get $at) (local.get 3))) (local.get $at)))
     (core instance $l (instantiate $mem))
     (core func $taken (canon lower (func $take) {options}))
     (core module $m (import "" "take" (func $take{kinds})) (import "l" "mem" (memory 2))
      (import "l" "ready" (func $ready))
      (func (export "put") (param i32 i32) (call $ready))
      (func (export "give") (result {result}) {give})
      (func (export "send") (call $take {send}))
      (func (export "echo"){kinds})
      (func (export "dump") (result i32)
       (i32.store (i32.const 8) (i32.const 65536)) (i32.store (i32.const 12) (i32.const 1024)) (i32.const 8)))
     (core instance $i (instantiate $m (with "l" (instance $l))
      (with "" (instance (export "take" (func $taken))))))
     (func (export "put") (param "m" (list u8)) (canon lift (core func $i "put") {options}))
     (func (export "give") (result {named}) (canon lift (core func $i "give") {options}))
     (func (export "send") (canon lift (core func $i "send")))
     (func (export "echo") (param "v" {named}) (canon lift (core func $i "echo") {options}))
     (func (export "dump") (result (list u8)) (canon lift (core func $i "dump") {options})))""")


def _component(kind: ValueType, encoding: str) -> bytes:
    texts = TypeTexts()
    named = texts.of(kind)
    given = signature(FuncType((("v", kind),), None), lowered=True)
    returned = signature(FuncType((), kind), lowered=False)
    return _assembled(" ".join(texts.lines), named, encoding, given, returned)


def _ours(component: bytes, *calls: tuple[str, list[Value]]) -> tuple[list[Value], list[Value]] | str:
    """What the calls gave, and what was sent; the reason if the guest was ended."""
    sent: list[Value] = []
    outcome, invocation = call(compiled(component), *calls, functions={"take": sent.append})
    return (invocation.values, sent) if outcome.end is End.OK else outcome.reason


def _theirs(component: bytes, *calls: tuple[str, list[Value]]) -> tuple[list[Value], list[Value], Oracle] | None:
    sent: list[Value] = []
    oracle = Oracle(component, {"take": sent.append})
    try:
        return [oracle.call(name, *values) for name, values in calls], sent, oracle
    except _FAILURES:
        return None


def _type_of(oracle: Oracle, name: str) -> Any:
    function = oracle.instance.get_func(oracle.store, name)
    assert function is not None
    return function.type(oracle.store)


def _compare_given(component: bytes, kind: ValueType, memory: bytes) -> tuple[Value] | None:
    """The value as it is given as a result, if it is one."""
    ours, theirs = (each(component, ("put", [memory]), ("give", [])) for each in (_ours, _theirs))
    assert isinstance(ours, str) == (theirs is None), (ours, theirs, kind)
    if isinstance(ours, str) or theirs is None:
        return None
    value = ours[0][1]
    assert alike(foreign(kind, _type_of(theirs[2], "give").result, value), theirs[0][1]), (value, theirs[0][1], kind)
    return (value,)


def _compare_sent(component: bytes, kind: ValueType, memory: bytes) -> None:
    """As an argument of an import."""
    ours, theirs = (each(component, ("put", [memory]), ("send", [])) for each in (_ours, _theirs))
    assert isinstance(ours, str) == (theirs is None), (ours, theirs)
    if isinstance(ours, str) or theirs is None:
        return
    (value,), (other,) = ours[1], theirs[1]
    assert alike(foreign(kind, _type_of(theirs[2], "echo").params[0][1], value), other), (value, other, kind)


def _compare_taken(component: bytes, kind: ValueType, value: Value) -> None:
    """What a guest finds in its memory if it is given the value."""
    if "nan" in repr(value):  # whose bits no specification gives
        return
    ours = _ours(component, ("put", [b""]), ("echo", [value]), ("dump", []))
    oracle = Oracle(component, {"take": lambda _: None})
    oracle.call("put", b"")
    oracle.call("echo", foreign(kind, _type_of(oracle, "echo").params[0][1], value))
    assert not isinstance(ours, str), (ours, value)
    assert ours[0][2] == oracle.call("dump"), (value, kind)


def alike(one: Any, other: Any) -> bool:
    return bool(plain(one) == plain(other))


def plain(value: Any) -> Any:
    """A value of either side, so that equal ones are equal: NaN too, and without what only one side tells apart."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if hasattr(value, "__dict__"):  # a record or variant of wasmtime's
        return {name: plain(each) for name, each in vars(value).items()}
    return value
