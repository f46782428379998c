"""Which calls of the host are carried out on the event loop: those of which the arguments are lifted in no time."""

from __future__ import annotations

from .flat_plan import AsyncFunction, HostFunction, ImportedFunction
from .glue import form_of
from .types import ListType, Primitive, RecordType, StringType, ValueType, VariantType, flat_params

_BYTES = 256 << 10
"""Bytes of a string, or of a list of numbers."""
_ITEMS = 64
"""Items of a list of what has strings."""
Check = tuple[int, int]
"""Which core argument is a length, and the most that it may be."""
Checks = tuple[Check, ...] | None
"""None for what is never carried out there."""
_COPIES = ("stream.read", "stream.write")
_VALUES = ("future.read", "future.write")


def checks_of(host: HostFunction) -> Checks:
    """What to look at before a call is carried out on the event loop."""
    if isinstance(host.of, AsyncFunction):
        return _checks_of_builtin(host.of, len(form_of(host).params))
    if not isinstance(host.of, ImportedFunction):
        return () if host.kind in ("new", "rep", "drop") else None
    kind = host.of.type
    if len(flat_params(kind)) > len(form_of(host).params):  # they are in memory
        return None if any(each.has_pointers for _, each in kind.params) else ()
    found: list[Check] = []
    at = 0
    for _, each in kind.params:
        if not _look(each, at, found):
            return None
        at += len(each.flat)
    return tuple(found)


def _checks_of_builtin(function: AsyncFunction, count: int) -> Checks:
    if function.name in _COPIES:
        return ((count - 1, _BYTES),)
    if function.name in _VALUES or function.name == "task.return":
        return None if function.type is not None and function.type.has_pointers else ()
    return ()


def _look(kind: ValueType, at: int, found: list[Check]) -> bool:
    """Note the lengths in a value whose flat form begins there. False if it may have more of them than are there."""
    match kind:
        case StringType():
            found.append((at + 1, _BYTES))
        case ListType(element=element):
            if not _is_plain(element) and _has_lists(element):
                return False
            found.append((at + 1, _BYTES // max(element.size, 1) if _is_plain(element) else _ITEMS))
        case RecordType():
            for _, _, each in kind.fields:
                if not _look(each, at, found):
                    return False
                at += len(each.flat)
        case VariantType():
            return all(payload is None or _look(payload, at + 1, found) for _, payload in kind.cases)
    return True


def _is_plain(kind: ValueType) -> bool:
    return isinstance(kind, Primitive)


def _has_lists(kind: ValueType) -> bool:
    """Whether it has lists of anything but plain values in it."""
    match kind:
        case ListType(element=element):
            return not _is_plain(element)
        case RecordType():
            return any(_has_lists(each) for _, _, each in kind.fields)
        case VariantType():
            return any(payload is not None and _has_lists(payload) for _, payload in kind.cases)
    return False
