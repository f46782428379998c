"""The functions that a component exports, by the names that callers use for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from .flat_plan import ExportTree, FlatPlan, LiftedFunction
from .types import AsyncValueType, FuncType, HandleType, ListType, RecordType, ValueType, VariantType
from .weights import MOST_LEAVES

_VERSION = re.compile(r"@[^#]*")


def functions_of(plan: FlatPlan) -> dict[str, LiftedFunction]:
    """Return each exported function by its name: ``func``, or ``ns:pkg/interface@1.0.0#func``."""
    found: dict[str, LiftedFunction] = {}
    for name, (_, item) in plan.exports.items():
        if isinstance(item, LiftedFunction):
            found[name] = item
        elif isinstance(item, dict):
            found |= _of_instance(name, item)
    return found


def _of_instance(interface: str, exports: ExportTree) -> dict[str, LiftedFunction]:
    return {f"{interface}#{name}": item for name, (_, item) in exports.items() if isinstance(item, LiftedFunction)}


def named(functions: dict[str, LiftedFunction], name: str) -> list[str]:
    """Return the full names that a name stands for: the version of an interface may be left out."""
    if name in functions:
        return [name]
    return [each for each in functions if _VERSION.sub("", each) == name]


def has_handles(kind: FuncType) -> bool:
    """Return whether a function takes or gives what lives no longer than an instance: resources, streams, futures."""
    return any(isinstance(each, HandleType | AsyncValueType) for each in _types_of(kind))


@lru_cache(1024)
def may_be_large(kind: FuncType) -> bool:
    """Return whether what a function takes or gives may have many parts: lists, but of bytes, and large types."""
    return any(
        each.size > MOST_LEAVES or (isinstance(each, ListType) and each.element.kind != "u8")
        for each in _types_of(kind)
    )


def _types_of(kind: FuncType) -> Iterator[ValueType]:
    """Give the types of parameters and the result, and those inside of them; each once, however often it is named."""
    left = [each for _, each in kind.params] + ([] if kind.result is None else [kind.result])
    seen: set[int] = set()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        match each:
            case ListType():
                left.append(each.element)
            case RecordType():
                left += [part for _, _, part in each.fields]
            case VariantType():
                left += [part for _, part in each.cases if part is not None]
