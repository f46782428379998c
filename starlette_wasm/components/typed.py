"""``TypedCall``: one call of an exported function with Python values, and what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, NamedTuple

from .calls import Await, Imports
from .exported import has_handles, may_be_large
from .flat_plan import ImportedFunction, LiftedFunction
from .python_types import python_name, to_component
from .types import FuncType, Resource
from .values import Err, Ok, Some, Value

_FEW, _SHORT = 500, 128 << 10
"""Parts of values, and characters of a text, that the event loop has time for."""


class TypedCall:
    """A typed call. ``values`` are ready to be lowered; ``value`` is what the function gave, once it has completed.

    ``may_be_large`` is whether they, or what it gives, may have so many parts that the event loop is not to wait for
    them.
    """

    __slots__ = ("function", "may_be_large", "value", "values")

    def __init__(self, function: LiftedFunction, values: Sequence[Value]) -> None:
        self.function = function
        self.values = values
        self.may_be_large = may_be_large(function.type)
        self.value: Value = None


class Linked(NamedTuple):
    """The imported functions that other functions satisfy, and what calls these."""

    functions: Collection[ImportedFunction]
    call: Callable[[ImportedFunction, Sequence[Value]], Awaitable[Value]]


class LinkedImports:
    """The imports of an invocation of which other functions satisfy some, and the host the rest."""

    def __init__(self, host: Imports, linked: Linked) -> None:
        self._host = host
        self._linked = linked

    def call(self, function: ImportedFunction, values: Sequence[Value]) -> Value | Await:
        if function in self._linked.functions:
            return Await(partial(self._linked.call, function, values))
        return self._host.call(function, values)

    def drop(self, resource: Resource, rep: Any) -> None:
        self._host.drop(resource, rep)


def are_small(values: list[Any]) -> bool:
    """Return whether what a caller gives is converted and checked in no time."""
    left = values
    for _ in range(_FEW):
        if not left:
            return True
        each = left.pop()
        if isinstance(each, Ok | Err | Some):
            left.append(each.value)
        elif is_dataclass(each):
            left += (getattr(each, part.name) for part in fields(each))
        elif isinstance(each, Sequence | Mapping):
            text = isinstance(each, str | bytes | bytearray | memoryview)
            if len(each) > (_SHORT if text else _FEW):
                return False
            if not text:
                left += each.values() if isinstance(each, Mapping) else each
    return not left


def arguments(kind: FuncType, given: Sequence[Any], named: Mapping[str, Any]) -> list[Value]:
    """Return the arguments for a function, converted and checked.

    Raises TypeError for too many, too few or unknown ones and for resources and streams, ValueMismatchError for one
    that does not fit its type; both name the parameter.
    """
    if has_handles(kind):
        raise TypeError(f"{kind.text:.300} has resources, streams or futures, which live no longer than one call")
    if len(given) > len(kind.params):
        raise TypeError(f"{len(given)} arguments are given, there are {len(kind.params)} parameters: {kind.text:.300}")
    left = dict(named)
    values = []
    for index, (name, each) in enumerate(kind.params):
        if index < len(given):
            value = given[index]
        else:
            key = name if name in left else python_name(name)
            if key not in left:
                raise TypeError(f"parameter {name}: {each} is missing")
            value = left.pop(key)
        values.append(to_component(each, value, f"parameter {name}"))
    if left:
        raise TypeError(f"there is no further parameter {next(iter(left))!r:.60}: {kind.text:.300}")
    return values
