"""The index spaces of a component while it is worked out, and the types in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from . import definitions as d
from .errors import ComponentError, UnsupportedComponentError
from .types import (
    PRIMITIVES,
    FuncType,
    Resource,
    ValueType,
    async_value,
    enum_of,
    flags_of,
    handle_of,
    list_of,
    option_of,
    record_of,
    result_of,
    variant_of,
)

_Kind = TypeVar("_Kind")
ImportFunction = Callable[[str, str, FuncType], object]
"""Makes an imported function of its interface, name and type."""
MAX_DECLARED = 100_000
"""Declarations of types of instances that are carried out."""


@dataclass(frozen=True, slots=True)
class ScopeType:
    """The type of an instance or a component, with what its declarations may name outside of it."""

    definition: d.ScopeDef
    outer: Scope


class Scope:
    """The index spaces of a component, or of the type of an instance."""

    def __init__(self, outer: Scope | None) -> None:
        self._outer = outer
        self._spaces: defaultdict[str, list[object]] = defaultdict(list)
        self.declared_count: list[int] = outer.declared_count if outer is not None else [0]

    def add(self, sort: str, value: object) -> None:
        self._spaces[sort].append(value)

    @overload
    def get(self, sort: str, index: int) -> object: ...
    @overload
    def get(self, sort: str, index: int, kind: type[_Kind]) -> _Kind: ...
    def get(self, sort: str, index: int, kind: type[Any] = object) -> Any:
        """Get an item of an index space. Raises ComponentError unless it is there, and of that kind."""
        space = self._spaces[sort]
        if index >= len(space):
            raise ComponentError(f"{sort} {index} is named, and there are {len(space)}")
        found = space[index]
        if not isinstance(found, kind):
            raise ComponentError(f"{sort} {index} is not of the kind that is needed there")
        return found

    def alias(self, item: d.Alias) -> object:
        """Find an item of an instance, or of a scope around this one. Raises ComponentError."""
        if item.how == "outer":
            scope: Scope | None = self
            for _ in range(item.depth):
                scope = scope and scope._outer
                if scope is None:
                    raise ComponentError(f"an alias reaches {item.depth} levels out, beyond the outermost component")
            assert scope is not None
            return scope.get(item.sort, item.index)
        instance = self.get("instance", item.index, dict)
        sort, value = instance.get(item.name, (None, None))
        if sort != item.sort:
            raise ComponentError(f"an instance has no {item.sort} {item.name!r}")
        return value

    def value_type(self, ref: d.ValueRef) -> ValueType:
        if isinstance(ref, str):
            return PRIMITIVES[ref]
        return self.get("type", ref, ValueType)

    def _optional(self, ref: d.ValueRef | None) -> ValueType | None:
        return None if ref is None else self.value_type(ref)

    def resolve(self, definition: d.ValueDef | d.HandleDef | d.FuncDef | d.ResourceDef | d.ScopeDef) -> object:
        """Return the type that a definition makes. Raises ComponentError."""
        match definition:
            case d.ValueDef():
                return self._resolve_value(definition)
            case d.HandleDef():
                return handle_of(definition.kind, self.get("type", definition.resource, Resource))
            case d.FuncDef():
                params = tuple((name, self.value_type(ref)) for name, ref in definition.params)
                return FuncType(params, self._optional(definition.result), definition.is_async)
            case d.ScopeDef():
                return ScopeType(definition, self)
            case d.ResourceDef():
                return self.new_resource(definition)

    def new_resource(self, definition: d.ResourceDef) -> Resource:
        raise ComponentError("a type of an instance defines a resource")

    def _resolve_value(self, definition: d.ValueDef) -> ValueType:
        kind, cases = definition.kind, definition.cases
        if kind in PRIMITIVES:
            return PRIMITIVES[kind]
        names = [name for name, _ in cases]
        if kind == "enum":
            return enum_of(names)
        if kind == "flags":
            return flags_of(names)
        types = [self._optional(ref) for _, ref in cases]
        if kind == "variant":
            return variant_of(list(zip(names, types, strict=True)))
        if kind == "result":
            return result_of(*types)
        if kind in ("stream", "future"):
            return async_value(kind, types[0])
        present = [each for each in types if each is not None]
        if kind in ("record", "tuple"):
            return record_of(names, present, kind)
        return list_of(present[0]) if kind == "list" else option_of(present[0])

    def declared(
        self, interface: str, name: str, desc: d.ExternDesc, import_function: ImportFunction
    ) -> tuple[str, object]:
        """Return what an import or export of that type is. Raises ComponentError."""
        self.declared_count[0] += 1
        if self.declared_count[0] > MAX_DECLARED:
            raise ComponentError(f"the types of its imports come to more than {MAX_DECLARED} declarations")
        if desc.sort == "func":
            return "func", import_function(interface, name, self.get("type", desc.index, FuncType))
        if desc.sort == "type":
            return "type", self.get("type", desc.index) if desc.bound == "eq" else Resource(name)
        if desc.sort == "instance":
            return "instance", _instance(self.get("type", desc.index, ScopeType), name, import_function)
        raise UnsupportedComponentError(
            f"it imports the {desc.sort} {name!r}", "build it in, with wac or wasm-tools compose"
        )


def _instance(kind: ScopeType, name: str, import_function: ImportFunction) -> dict[str, tuple[str, object]]:
    """Make an instance of that type: with resources of its own, and functions that ``import_function`` makes."""
    scope = Scope(kind.outer)
    exports: dict[str, tuple[str, object]] = {}
    for each in kind.definition.declarations:
        match each:
            case d.TypeDef():
                scope.add("type", scope.resolve(each.definition))
            case d.CoreTypeDef():
                scope.add("core type", each)
            case d.Alias():
                scope.add(each.sort, scope.alias(each))
            case d.ExportDecl():
                exports[each.name] = made = scope.declared(name, each.name, each.desc, import_function)
                scope.add(*made)
            case d.ImportDef():
                raise ComponentError(f"the type of the instance {name!r} imports something")
    return exports


class Environment(Scope):
    """The index spaces of an instance of a component; ``instance`` is its number."""

    def __init__(self, outer: Scope | None, instance: int) -> None:
        super().__init__(outer)
        self.instance = instance

    def new_resource(self, definition: d.ResourceDef) -> Resource:
        destructor = None if definition.destructor is None else self.get("core func", definition.destructor)
        return Resource("resource", self.instance, destructor)
