"""The functions that a component exports, by the names that callers use for them."""

from __future__ import annotations

import re

from .flat_plan import ExportTree, FlatPlan, LiftedFunction
from .types import FuncType, HandleType, ListType, RecordType, ValueType, VariantType

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
    """Whether a function takes or gives resources, which live no longer than an instance."""
    parts = [each for _, each in kind.params] + ([] if kind.result is None else [kind.result])
    return any(_holds_handle(each) for each in parts)


def _holds_handle(kind: ValueType) -> bool:
    match kind:
        case HandleType():
            return True
        case ListType():
            return _holds_handle(kind.element)
        case RecordType():
            return any(_holds_handle(part) for _, _, part in kind.fields)
        case VariantType():
            return any(part is not None and _holds_handle(part) for _, part in kind.cases)
    return False
