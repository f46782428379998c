"""Python values for the types of a component: dataclasses for records that have a name, enums for enums.

``to_component`` takes what a caller may write, and gives what the canonical ABI lowers (values.py). It checks every
part, so that what is wrong is known before a guest runs, with the parameter and the place in it. ``to_python`` is the
way back.
"""

from __future__ import annotations

import dataclasses
import keyword
import struct
from collections.abc import Mapping, Sequence
from enum import Enum, Flag, StrEnum
from typing import Any

from .flat_plan import ExportTree, FlatPlan
from .lifting import FORMATS
from .types import FlagsType, ListType, Primitive, RecordType, StringType, ValueType, VariantType
from .values import Err, Ok, Some, Value, ValueMismatchError, mismatch, wraps


def python_name(name: str) -> str:
    """Return a name of WIT as Python writes it: ``get-all`` is ``get_all``, ``from`` is ``from_``."""
    made = name.replace("-", "_")
    return f"{made}_" if keyword.iskeyword(made) else made


def class_name(name: str) -> str:
    """Return the name of a class for a type of WIT: ``line-item`` is ``LineItem``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("-"))


def member_name(case: str) -> str:
    """Return the name of an enum's member: ``very-low`` is ``VERY_LOW``."""
    return python_name(case).upper()


def named_types(plan: FlatPlan) -> dict[int, tuple[str, str, ValueType]]:
    """Return the types that an export names, by their identity: types of the same shape are not the same.

    Each with the interface that names it, empty for the world itself, and its name.
    """
    found: dict[int, tuple[str, str, ValueType]] = {}

    def visit(tree: ExportTree, interface: str) -> None:
        for name, (_, item) in tree.items():
            if isinstance(item, ValueType):
                found.setdefault(id(item), (interface, name, item))
            elif isinstance(item, dict):
                visit(item, name)

    visit(plan.exports, "")
    return found


class PythonTypes:
    """The classes for the types of one component, made once."""

    def __init__(self, plan: FlatPlan) -> None:
        self._classes: dict[int, type[Any]] = {}
        for key, (_, name, kind) in named_types(plan).items():
            if isinstance(kind, RecordType) and kind.kind == "record":
                fields = [python_name(field) for field, _, _ in kind.fields]
                self._classes[key] = dataclasses.make_dataclass(class_name(name), fields, frozen=True)
            elif isinstance(kind, VariantType) and kind.kind == "enum":
                members = {member_name(case): case for case, _ in kind.cases}
                self._classes[key] = _enum(class_name(name), members)

    def to_python(self, kind: ValueType | None, value: Value) -> Any:
        """Return a value that a guest gave as a caller gets it."""
        match kind:
            case RecordType(kind="tuple"):
                return tuple(self.to_python(each, part) for (_, _, each), part in zip(kind.fields, value, strict=True))
            case RecordType():
                parts = {python_name(name): self.to_python(each, value[name]) for name, _, each in kind.fields}
                made = self._classes.get(id(kind))
                return parts if made is None else made(**parts)
            case ListType() if not isinstance(value, bytes):
                return [self.to_python(kind.element, each) for each in value]
            case VariantType():
                return self._of_variant(kind, value)
        return value

    def _of_variant(self, kind: VariantType, value: Value) -> Any:
        if kind.kind == "enum":
            made = self._classes.get(id(kind))
            return value if made is None else made(value)
        if kind.kind == "option":
            if isinstance(value, Some):
                return Some(self.to_python(kind.cases[1][1], value.value))
            return None if value is None else self.to_python(kind.cases[1][1], value)
        if kind.kind == "result":
            tag = int(isinstance(value, Err))
            return type(value)(self.to_python(kind.cases[tag][1], value.value))
        case, payload = value
        return case, self.to_python(dict(kind.cases)[case], payload)


def _enum(name: str, members: dict[str, str]) -> type[StrEnum]:
    made: Any = StrEnum
    enum: type[StrEnum] = made(name, members)
    return enum


def to_component(kind: ValueType, value: Any, where: str) -> Value:
    """Return what the canonical ABI lowers for a caller's value. Raises ValueMismatchError, with the place in it."""
    match kind:
        case Primitive():
            return _primitive(kind, value, where)
        case StringType():
            return _string(kind, value, where)
        case ListType():
            return _list(kind, value, where)
        case RecordType():
            return _record(kind, value, where)
        case FlagsType():
            return _flags(kind, value, where)
        case VariantType():
            return _variant(kind, value, where)
    raise ValueMismatchError(f"{where}: {kind} cannot be given from outside")


def _wrong(kind: ValueType, value: Any, where: str) -> ValueMismatchError:
    return ValueMismatchError(f"{where}: {mismatch(kind, value)}")


def _primitive(kind: ValueType, value: Any, where: str) -> Value:
    name = kind.kind
    if name == "char":
        fits = isinstance(value, str) and len(value) == 1 and not "\ud800" <= value <= "\udfff"
    elif name == "bool":
        fits = isinstance(value, bool)
    elif name in ("f32", "f64"):
        fits = isinstance(value, float | int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, int) and not isinstance(value, bool)
    if not fits:
        raise _wrong(kind, value, where)
    try:
        FORMATS[name].pack(ord(value) if name == "char" else value)
    except (struct.error, OverflowError):
        raise _wrong(kind, value, where) from None
    return value


def _string(kind: ValueType, value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(kind, value, where)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueMismatchError(f"{where}: a string without lone surrogates is expected, not {value!a:.60}") from None
    return value


def _list(kind: ListType, value: Any, where: str) -> Value:
    if kind.element.kind == "u8" and isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Sequence):
        raise _wrong(kind, value, where)
    return [to_component(kind.element, each, f"{where}[{index}]") for index, each in enumerate(value)]


def _record(kind: RecordType, value: Any, where: str) -> Value:
    if kind.kind == "tuple":
        if not isinstance(value, tuple | list) or len(value) != len(kind.fields):
            raise _wrong(kind, value, where)
        return tuple(
            to_component(each, part, f"{where}[{index}]")
            for index, ((_, _, each), part) in enumerate(zip(kind.fields, value, strict=True))
        )
    parts = _parts(value)
    if parts is None:
        raise _wrong(kind, value, where)
    _check_surplus(kind, parts, where)
    return {name: to_component(each, _part(parts, name, where), f"{where}.{name}") for name, _, each in kind.fields}


def _parts(value: Any) -> Mapping[str, Any] | None:
    """Return the fields of a mapping, a dataclass or a named tuple; None for anything else."""
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        named: Mapping[str, Any] = value._asdict()
        return named
    return None


def _part(parts: Mapping[str, Any], name: str, where: str) -> Any:
    for each in (name, python_name(name)):
        if each in parts:
            return parts[each]
    raise ValueMismatchError(f"{where}: the field {name!r} is missing")


def _check_surplus(kind: RecordType, parts: Mapping[str, Any], where: str) -> None:
    """Raise ValueMismatchError if there are fields which the record lacks."""
    known = {name for field, _, _ in kind.fields for name in (field, python_name(field))}
    for name in parts:
        if name not in known:
            fields = ", ".join(field for field, _, _ in kind.fields)
            raise ValueMismatchError(f"{where}: there is no field {name!r:.60}; there are: {fields:.300}")


def _flags(kind: FlagsType, value: Any, where: str) -> frozenset[str]:
    given = list(value) if isinstance(value, set | frozenset | list | tuple | Flag) else None
    if given is None:
        raise _wrong(kind, value, where)
    labels = [_label(each, kind.labels) for each in given]
    if None in labels:
        raise _wrong(kind, value, where)
    return frozenset(label for label in labels if label is not None)


def _label(value: Any, names: Sequence[str]) -> str | None:
    """Return the label or case that a string or the member of an enum stands for; None for another."""
    if isinstance(value, Enum):
        candidates = [value.value, value.name, value.name.lower().rstrip("_").replace("_", "-")]
    else:
        candidates = [value]
    return next((each for each in candidates if isinstance(each, str) and each in names), None)


def _variant(kind: VariantType, value: Any, where: str) -> Value:
    if kind.kind == "enum":
        found = _label(value, [name for name, _ in kind.cases])
        if found is None:
            raise _wrong(kind, value, where)
        return found
    if kind.kind == "option":
        return _option(kind, value, where)
    if kind.kind == "result":
        if not isinstance(value, Ok | Err):
            raise _wrong(kind, value, where)
        payload = kind.cases[int(isinstance(value, Err))][1]
        return type(value)(_payload(kind, payload, value.value, where))
    case, given = (value, None) if isinstance(value, str) else _pair(kind, value, where)
    cases = dict(kind.cases)
    if case not in cases:
        raise _wrong(kind, value, where)
    return case, _payload(kind, cases[case], given, f"{where}.{case}")


def _option(kind: VariantType, value: Any, where: str) -> Value:
    payload = kind.cases[1][1]
    assert payload is not None
    if value is None:
        return None
    if not wraps(kind):
        return to_component(payload, value, where)
    if not isinstance(value, Some):
        raise _wrong(kind, value, where)
    return Some(to_component(payload, value.value, where))


def _pair(kind: VariantType, value: Any, where: str) -> tuple[str, Any]:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        return value
    raise _wrong(kind, value, where)


def _payload(kind: VariantType, payload: ValueType | None, value: Any, where: str) -> Value:
    if payload is not None:
        return to_component(payload, value, where)
    if value is not None:
        raise _wrong(kind, value, where)
    return None
