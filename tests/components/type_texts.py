"""Types as the text format has them, and values as wasmtime's component API has them."""

from __future__ import annotations

from typing import Any

from wasmtime import component as oracle

from starlette_wasm.components.types import FlagsType, ListType, RecordType, ValueType, VariantType
from starlette_wasm.components.values import Err, Value, wraps

NAMED = ("record", "variant", "enum", "flags")


class TypeTexts:
    """Types in the text format. Those with names are imported, as wasmtime wants it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._known: dict[int, str] = {}

    def of(self, kind: ValueType) -> str:
        if id(kind) not in self._known:
            self._known[id(kind)] = self._define(kind, self._written(kind))
        return self._known[id(kind)]

    def _define(self, kind: ValueType, text: str) -> str:
        if kind.kind not in NAMED:
            return text
        number = len(self.lines)
        self.lines.append(f'(type $raw{number} {text}) (import "t{number}" (type $t{number} (eq $raw{number})))')
        return f"$t{number}"

    def _written(self, kind: ValueType) -> str:
        match kind:
            case ListType():
                return f"(list {self.of(kind.element)})"
            case RecordType(kind="tuple"):
                return _block("tuple", [self.of(each) for _, _, each in kind.fields])
            case RecordType():
                return _block("record", [f'(field "{name}" {self.of(each)})' for name, _, each in kind.fields])
            case FlagsType():
                return _block("flags", [f'"{each}"' for each in kind.labels])
            case VariantType():
                return self._variant(kind)
        return kind.kind

    def _variant(self, kind: VariantType) -> str:
        payloads = [each for _, each in kind.cases]
        if kind.kind == "option":
            assert payloads[1] is not None
            return f"(option {self.of(payloads[1])})"
        if kind.kind == "result":
            ok, error = ("" if each is None else self.of(each) for each in payloads)
            return f"(result {ok} {f'(error {error})' if error else ''})"
        if kind.kind == "enum":
            return _block("enum", [f'"{name}"' for name, _ in kind.cases])
        return _block("variant", [f'(case "{name}" {(each and self.of(each)) or ""})' for name, each in kind.cases])


def _block(kind: str, parts: list[str]) -> str:
    return f"({kind} {' '.join(parts)})"


def foreign(kind: ValueType, its: Any, value: Value) -> Any:
    """The value as wasmtime's API has it, ``its`` being its type there."""
    match kind:
        case ListType():
            return value if isinstance(value, bytes) else [foreign(kind.element, its.element, each) for each in value]
        case RecordType(kind="tuple"):
            parts = zip(kind.fields, its.elements, value, strict=True)
            return tuple(foreign(each, other, part) for (_, _, each), other, part in parts)
        case RecordType():
            made = oracle.Record()
            for (name, _, each), (_, other) in zip(kind.fields, its.fields, strict=True):
                setattr(made, name, foreign(each, other, value[name]))
            return made
        case FlagsType():
            return set(value)
        case VariantType() if kind.kind != "enum":
            tag, payload = _opened(kind, value)
            (name, other), each = its._cases()[tag], kind.cases[tag][1]
            inner = None if each is None else foreign(each, other, payload)
            return oracle.Variant(name, inner) if its._tagged() else inner
    return value


def _opened(kind: VariantType, value: Value) -> tuple[int, Value]:
    if kind.kind == "option":
        return (0, None) if value is None else (1, value.value if wraps(kind) else value)
    if kind.kind == "result":
        return int(isinstance(value, Err)), value.value
    return [name for name, _ in kind.cases].index(value[0]), value[1]
