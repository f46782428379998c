"""Which calls of the host are carried out on the event loop: those of which the arguments are lifted in no time."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from .errors import CanonicalTrap
from .flat_plan import AsyncFunction, HostFunction, ImportedFunction
from .glue import form_of
from .side import Memory
from .types import AsyncValueType, ListType, Primitive, RecordType, StringType, ValueType, VariantType, flat_params

_BYTES = 256 << 10
"""Bytes of a string, or of a list of bytes; of all in one list together."""
_NUMBERS = 8 << 10
"""Items of a list of other numbers, each of which becomes an object."""
_ITEMS = 64
"""Items of any other list."""
MOST_LEAVES = 2048
"""Bytes in memory of what is lifted part by part: a type may have as many parts, and be named again and again."""
_PLACE = struct.Struct("<II")


class Check(NamedTuple):
    """What a core argument says, or leads to."""

    length: int | None
    """Which one is a length; None if there is one value."""
    most: int
    """The most that it may be."""
    place: int = 0
    """Which one is the place of the items."""
    element: ValueType | None = None
    """Their type, if they have texts and bytes of their own: all of those are at most _BYTES."""


Checks = tuple[Check, ...] | None
"""None for what is never carried out there."""


def checks_of(host: HostFunction) -> Checks:
    """Return what to look at before a call is carried out on the event loop."""
    if isinstance(host.of, AsyncFunction):
        return _checks_of_builtin(host.of, len(form_of(host).params))
    if not isinstance(host.of, ImportedFunction):
        return () if host.kind in ("new", "rep", "drop") else None
    kind = host.of.type
    if len(flat_params(kind)) > len(form_of(host).params):  # they are in memory
        large = sum(each.size for _, each in kind.params) > MOST_LEAVES
        return None if large or any(each.has_pointers for _, each in kind.params) else ()
    found: list[Check] = []
    at = 0
    for _, each in kind.params:
        if not _look(each, at, found):
            return None
        at += len(each.flat)
    return tuple(found)


def passes(checks: Sequence[Check], flat: Sequence[int], memory: Memory) -> bool:
    """Return whether a call with these core arguments may be carried out on the event loop."""
    return all(_passes(check, flat, memory) for check in checks)


def _passes(check: Check, flat: Sequence[int], memory: Memory) -> bool:
    count = 1 if check.length is None else flat[check.length] & 0xFFFFFFFF
    if count > check.most:
        return False
    return check.element is None or _texts_fit(check.element, memory, flat[check.place], count)


def _texts_fit(element: ValueType, memory: Memory, place: int, count: int) -> bool:
    try:
        return _bytes_of_items(element, memory, place, count, None) <= _BYTES
    except CanonicalTrap:
        return True  # lifting them traps too, and at once


def _bytes_of_items(element: ValueType, memory: Memory, place: int, count: int, within: Memory | None) -> int:
    items = memory.read(place & 0xFFFFFFFF, count * element.size)
    return sum(_bytes_of(element, items, at, within) for at in range(0, len(items), element.size))


def _bytes_of(kind: ValueType, data: bytes, at: int, memory: Memory | None) -> int:
    """Return how many bytes the texts of a value in memory have; more than may be for what has many parts.

    Lists of other things are looked into if there is a ``memory``, but not lists within lists.
    """
    if not kind.has_pointers:
        return 0
    match kind:
        case RecordType():
            return sum(_bytes_of(each, data, at + offset, memory) for _, offset, each in kind.fields)
        case VariantType():
            tag = int.from_bytes(data[at : at + kind.tag_size], "little")
            payload = kind.cases[tag][1] if tag < len(kind.cases) else None
            return 0 if payload is None else _bytes_of(payload, data, at + kind.payload_at, memory)
        case ListType(element=element) if element.kind != "u8":
            place, count = _PLACE.unpack_from(data, at)
            if memory is None or count > _most_of(element):
                return _BYTES + 1
            return _bytes_of_items(element, memory, place, count, None) if element.has_pointers else 0
    length: int = _PLACE.unpack_from(data, at)[1]
    return length


def _checks_of_builtin(function: AsyncFunction, count: int) -> Checks:
    kind = function.type
    if function.name == "task.return":
        return None if kind is not None and (kind.has_pointers or kind.size > MOST_LEAVES) else ()
    element = kind.element if isinstance(kind, AsyncValueType) else None
    if element is None or not function.name.endswith((".read", ".write")):
        return ()
    if function.name.startswith("future") and element.size > MOST_LEAVES:
        return None
    if function.name == "future.write":
        return (Check(None, 1, count - 1, element),) if element.has_pointers else ()
    if element.has_pointers:
        return None
    return () if function.name == "future.read" else (Check(count - 1, _most_copied(element)),)


def _most_copied(element: ValueType) -> int:
    """Return how many items of a stream may be copied: one by one, unless they are just bytes."""
    return _BYTES // element.size if _is_number(element) else _most_parts(element)


def _most_parts(element: ValueType) -> int:
    """Return how many items may be lifted that are not just numbers."""
    return min(_ITEMS, MOST_LEAVES // element.size)


def is_small(kind: ValueType | None, memory: Memory, place: int, count: int = 1) -> bool:
    """Return whether so many values in memory may be lifted on the event loop."""
    if kind is None or not count:
        return True
    if count > _most_copied(kind):
        return False
    if not kind.has_pointers:
        return True
    try:
        return _bytes_of_items(kind, memory, place, count, memory) <= _BYTES
    except CanonicalTrap:
        return True


def _look(kind: ValueType, at: int, found: list[Check]) -> bool:
    """Note the lengths in a value whose flat form begins there. False if it may have more of them than are there."""
    match kind:
        case StringType():
            found.append(Check(at + 1, _BYTES))
        case ListType(element=element):
            if _has_lists(element):
                return False
            found.append(Check(at + 1, _most_of(element), at, element if element.has_pointers else None))
        case RecordType():
            for _, _, each in kind.fields:
                if not _look(each, at, found):
                    return False
                at += len(each.flat)
        case VariantType():
            return all(payload is None or _look(payload, at + 1, found) for _, payload in kind.cases)
    return True


def _most_of(element: ValueType) -> int:
    """Return how many items a list of them may have."""
    if element.kind == "u8":
        return _BYTES
    return _NUMBERS if _is_number(element) else _most_parts(element)


def _is_number(kind: ValueType) -> bool:
    """Return whether it is taken as it is: a bool or a char is looked at."""
    return isinstance(kind, Primitive) and kind.kind not in ("bool", "char")


def _is_text(kind: ValueType) -> bool:
    return isinstance(kind, StringType) or (isinstance(kind, ListType) and kind.element.kind == "u8")


def _has_lists(kind: ValueType) -> bool:
    """Return whether it has lists of anything but bytes in it."""
    match kind:
        case ListType():
            return not _is_text(kind)
        case RecordType():
            return any(_has_lists(each) for _, _, each in kind.fields)
        case VariantType():
            return any(payload is not None and _has_lists(payload) for _, payload in kind.cases)
    return False
