"""Types with everything looked up: size, alignment and flat form are worked out once, when a type is made.

As design/mvp/CanonicalABI.md of the component model has it. A type is shared by all that name it, so that a type of a
thousand levels would be small here, and endless as a value: both are bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .errors import ComponentError

MAX_TYPE_DEPTH = 64
MAX_TYPE_SIZE = 1 << 24
"""Bytes of a value in memory, without what it points to."""
MAX_LABELS = 32
"""Most flags; more are not allowed by the specification."""
MAX_FLAT_PARAMS, MAX_FLAT_RESULTS, MAX_FLAT_ASYNC_PARAMS = 16, 1, 4
_FLAT_KEPT = MAX_FLAT_PARAMS + 1
"""How much of a flat form is kept: enough to see that it is too long to be passed flat."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ValueType:
    """A type of values; ``flat`` holds core types: i32, i64, f32, f64."""

    kind: str
    size: int
    alignment: int
    flat: tuple[str, ...]
    depth: int
    has_pointers: bool
    """Whether a value has parts elsewhere in memory: strings and lists."""
    text: str
    """As WIT has it, for messages and comparisons."""

    def __repr__(self) -> str:  # of its own: what a type names again and again would be written as often
        return self.text


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Primitive(ValueType):
    pass


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StringType(ValueType):
    pass


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ListType(ValueType):
    element: ValueType


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RecordType(ValueType):
    """A type of several parts: ``kind`` is ``record`` or ``tuple``."""

    fields: tuple[tuple[str, int, ValueType], ...]
    """Name, place and type."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class VariantType(ValueType):
    """A type of several cases: ``kind`` is ``variant``, ``enum``, ``option`` or ``result``."""

    cases: tuple[tuple[str, ValueType | None], ...]
    tag_size: int
    payload_at: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FlagsType(ValueType):
    labels: tuple[str, ...]


@dataclass(slots=True, eq=False, repr=False)
class Resource:
    """A type of resource, of the component instance that defines it, or of the host."""

    name: str
    instance: int | None = None
    destructor: object = None
    """The core function, or None."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class HandleType(ValueType):
    """A type of handles: ``kind`` is ``own`` or ``borrow``."""

    resource: Resource


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AsyncValueType(ValueType):
    """A type of asynchronous values: ``stream``, ``future`` or ``error-context``. A value is the end to read from."""

    element: ValueType | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FuncType:
    params: tuple[tuple[str, ValueType], ...]
    result: ValueType | None
    is_async: bool = False

    @property
    def text(self) -> str:
        params = ", ".join(f"{name}: {kind}" for name, kind in self.params)
        return f"{'async ' * self.is_async}func({params}){'' if self.result is None else f' -> {self.result}'}"

    def __repr__(self) -> str:
        return self.text


_SIZES = {"bool": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4, "s64": 8, "u64": 8, "f32": 4, "f64": 8,
          "char": 4}  # fmt: skip
_FLAT = {"s64": "i64", "u64": "i64", "f32": "f32", "f64": "f64"}
PRIMITIVES: dict[str, ValueType] = {
    name: Primitive(name, size, size, (_FLAT.get(name, "i32"),), 0, False, name) for name, size in _SIZES.items()
} | {
    "string": StringType("string", 8, 4, ("i32", "i32"), 0, True, "string"),
    "error-context": AsyncValueType("error-context", 4, 4, ("i32",), 0, False, "error-context", None),
}


def align(at: int, alignment: int) -> int:
    return (at + alignment - 1) // alignment * alignment


def _checked_depth(kind: str, parts: Sequence[ValueType]) -> int:
    depth = 1 + max((part.depth for part in parts), default=0)
    if depth > MAX_TYPE_DEPTH:
        raise ComponentError(f"a {kind} is nested more than {MAX_TYPE_DEPTH} deep")
    return depth


def _checked_size(kind: str, size: int) -> int:
    if size > MAX_TYPE_SIZE:
        raise ComponentError(f"a {kind} takes {size} bytes, the most is {MAX_TYPE_SIZE}")
    return size


def _some(kind: str, items: Sequence[object], most: int = 10_000) -> None:
    if not items:
        raise ComponentError(f"a {kind} is empty")
    if len(items) > most:
        raise ComponentError(f"a {kind} has {len(items)} parts, the most is {most}")


def list_of(element: ValueType) -> ListType:
    depth = _checked_depth("list", [element])
    return ListType("list", 8, 4, ("i32", "i32"), depth, True, _text("list", [element]), element)


def record_of(names: Sequence[str], types: Sequence[ValueType], kind: str = "record") -> RecordType:
    """Return a type as a record, if it is one, or a tuple."""
    _some(kind, types)
    at, alignment, fields = 0, 1, []
    for name, each in zip(names, types, strict=True):
        at = align(at, each.alignment)
        fields.append((name, at, each))
        at = _checked_size(kind, at + each.size)
        alignment = max(alignment, each.alignment)
    flat: tuple[str, ...] = ()
    for each in types:
        flat = (flat + each.flat)[:_FLAT_KEPT]
    text = _text(kind, types) if kind == "tuple" else _block(kind, zip(names, types, strict=True))
    pointers = any(each.has_pointers for each in types)
    return RecordType(
        kind, align(at, alignment), alignment, flat, _checked_depth(kind, types), pointers, text, tuple(fields)
    )


def variant_of(cases: Sequence[tuple[str, ValueType | None]], kind: str = "variant") -> VariantType:
    """Return a type as a variant: it is one, or an enum, an option or a result."""
    _some(kind, cases)
    payloads = [payload for _, payload in cases if payload is not None]
    tag_size = 1 if len(cases) <= 1 << 8 else 2
    alignment = max([tag_size, *(each.alignment for each in payloads)])
    payload_at = align(tag_size, max((each.alignment for each in payloads), default=1))
    size = _checked_size(kind, align(payload_at + max((each.size for each in payloads), default=0), alignment))
    flat: list[str] = []
    for each in payloads:
        for i, core in enumerate(each.flat):
            if i < len(flat):
                flat[i] = join(flat[i], core)
            else:
                flat.append(core)
    return VariantType(
        kind, size, alignment, ("i32", *flat)[:_FLAT_KEPT], _checked_depth(kind, payloads),
        any(each.has_pointers for each in payloads), _variant_text(kind, cases), tuple(cases), tag_size, payload_at,
    )  # fmt: skip


def join(one: str, other: str) -> str:
    """Return the core type that holds either."""
    if one == other:
        return one
    return "i32" if {one, other} == {"i32", "f32"} else "i64"


def option_of(payload: ValueType) -> VariantType:
    return variant_of((("none", None), ("some", payload)), "option")


def result_of(ok: ValueType | None, error: ValueType | None) -> VariantType:
    return variant_of((("ok", ok), ("error", error)), "result")


def enum_of(names: Sequence[str]) -> VariantType:
    return variant_of([(name, None) for name in names], "enum")


def flags_of(labels: Sequence[str]) -> FlagsType:
    _some("flags", labels, MAX_LABELS)
    size = 1 if len(labels) <= 8 else 2 if len(labels) <= 16 else 4
    return FlagsType("flags", size, size, ("i32",), 1, False, f"flags {{{', '.join(labels)}}}", tuple(labels))


def handle_of(kind: str, resource: Resource) -> HandleType:
    name = resource.name if kind == "own" else f"borrow<{resource.name}>"
    return HandleType(kind, 4, 4, ("i32",), 1, False, name, resource)


def async_value(kind: str, element: ValueType | None) -> AsyncValueType:
    text = kind if element is None else _text(kind, [element])
    depth = _checked_depth(kind, [] if element is None else [element])
    return AsyncValueType(kind, 4, 4, ("i32",), depth, False, text, element)


_MAX_TEXT = 20_000
CUT = "..."
"""The end of a text that is not whole."""


def _text(kind: str, parts: Sequence[ValueType]) -> str:
    return _cut(f"{kind}<{', '.join(part.text for part in parts)}>")


def _block(kind: str, parts: Iterable[tuple[str, ValueType]]) -> str:
    return _cut(f"{kind} {{{', '.join(f'{name}: {each}' for name, each in parts)}}}")


def _cut(text: str) -> str:
    """Bound the text of a type that names others again and again: each mention doubles it."""
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}{CUT}"


def _variant_text(kind: str, cases: Sequence[tuple[str, ValueType | None]]) -> str:
    if kind == "option":
        return _cut(f"option<{cases[1][1]}>")
    if kind == "result":
        ok, error = (payload for _, payload in cases)
        if error is None:
            return "result" if ok is None else _cut(f"result<{ok}>")
        return _cut(f"result<{'_' if ok is None else ok}, {error}>")
    return _cut(f"{kind} {{{', '.join(name if each is None else f'{name}({each})' for name, each in cases)}}}")


def flat_params(kind: FuncType) -> tuple[str, ...]:
    """Return the flat form of the parameters, cut behind MAX_FLAT_PARAMS + 1."""
    flat: tuple[str, ...] = ()
    for _, each in kind.params:
        flat = (flat + each.flat)[:_FLAT_KEPT]
    return flat


@dataclass(frozen=True, slots=True)
class Signature:
    """The core function of a lifted or a lowered one. ``spilled`` is what goes through memory."""

    params: tuple[str, ...]
    results: tuple[str, ...]
    params_spilled: bool
    result_spilled: bool


def async_signature(kind: FuncType, lowered: bool) -> Signature:
    """Do what signature() does, for async lifting or lowering: each result is spilled, or given to ``task.return``."""
    params = flat_params(kind)
    spilled = len(params) > (MAX_FLAT_ASYNC_PARAMS if lowered else MAX_FLAT_PARAMS)
    if spilled:
        params = ("i32",)
    result_spilled = lowered and kind.result is not None
    if result_spilled:
        params = (*params, "i32")
    return Signature(params, ("i32",), spilled, result_spilled)


@lru_cache(4096)
def signature(kind: FuncType, lowered: bool) -> Signature:
    """Return the core type; if ``lowered``, that of the caller: a spilled result is a pointer among its parameters."""
    params = flat_params(kind)
    results = () if kind.result is None else kind.result.flat
    params_spilled = len(params) > MAX_FLAT_PARAMS
    result_spilled = len(results) > MAX_FLAT_RESULTS
    if params_spilled:
        params = ("i32",)
    if result_spilled:
        if lowered:
            params, results = (*params, "i32"), ()
        else:
            results = ("i32",)
    return Signature(params, results, params_spilled, result_spilled)


def params_record(kind: FuncType) -> RecordType:
    """Return the parameters as one value in memory."""
    return record_of([name for name, _ in kind.params], [each for _, each in kind.params], "tuple")
