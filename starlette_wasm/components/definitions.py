"""What the sections of a component define, as it was read: indices are not looked up yet.

The names are those of the binary format (component model, design/mvp/Binary.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ValueRef = str | int
"""A value type: the name of a primitive one, or an index."""
Case = tuple[str, ValueRef | None]
Sort = str
"""Which index space: ``func``, ``type``, ``instance``, ``component``, ``core func``, ``core memory`` and so on."""


@dataclass(frozen=True, slots=True)
class ValueDef:
    """A value type. ``cases`` are fields, cases, items or labels, by its kind."""

    kind: str
    cases: tuple[Case, ...] = ()


@dataclass(frozen=True, slots=True)
class HandleDef:
    kind: Literal["own", "borrow"]
    resource: int


@dataclass(frozen=True, slots=True)
class FuncDef:
    params: tuple[tuple[str, ValueRef], ...]
    result: ValueRef | None
    is_async: bool


@dataclass(frozen=True, slots=True)
class ResourceDef:
    destructor: int | None


@dataclass(frozen=True, slots=True)
class ExternDesc:
    """The type of an import or export. ``bound`` is ``eq`` or ``sub`` for a type."""

    sort: Sort
    index: int = -1
    bound: str = ""


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias of an item: ``how`` is ``export`` or ``core export``, of an instance, or ``outer``."""

    sort: Sort
    how: str
    index: int
    name: str = ""
    depth: int = 0


@dataclass(frozen=True, slots=True)
class TypeDef:
    definition: ValueDef | HandleDef | FuncDef | ResourceDef | ScopeDef


@dataclass(frozen=True, slots=True)
class CoreTypeDef:
    """A core type: only core modules that are imported have one, and those are refused."""


@dataclass(frozen=True, slots=True)
class ImportDef:
    name: str
    desc: ExternDesc


@dataclass(frozen=True, slots=True)
class ExportDecl:
    name: str
    desc: ExternDesc


@dataclass(frozen=True, slots=True)
class ScopeDef:
    """The type of a component or an instance."""

    kind: Literal["component", "instance"]
    declarations: tuple[TypeDef | CoreTypeDef | Alias | ImportDef | ExportDecl, ...]


@dataclass(frozen=True, slots=True)
class CoreModule:
    """The range of its bytes."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CoreInstance:
    """A core instance to be made; ``arguments`` are names with indices of core instances."""

    module: int
    arguments: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class CoreExports:
    """A core instance made of what is there."""

    exports: tuple[tuple[str, Sort, int], ...]


@dataclass(frozen=True, slots=True)
class Instance:
    component: int
    arguments: tuple[tuple[str, Sort, int], ...]


@dataclass(frozen=True, slots=True)
class Exports:
    """An instance made of what is there."""

    exports: tuple[tuple[str, Sort, int], ...]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of lifting and lowering. Indices are of core functions, and of a core memory."""

    encoding: str = "utf8"
    memory: int | None = None
    realloc: int | None = None
    post_return: int | None = None
    callback: int | None = None
    is_async: bool = False


@dataclass(frozen=True, slots=True)
class Lift:
    function: int
    options: Options
    type: int


@dataclass(frozen=True, slots=True)
class Lower:
    function: int
    options: Options


@dataclass(frozen=True, slots=True)
class ResourceBuiltin:
    """A built-in function for a resource: ``kind`` is ``new``, ``drop`` or ``rep``."""

    kind: str
    type: int


@dataclass(frozen=True, slots=True)
class AsyncBuiltin:
    """A built-in of the async ABI, by its name. ``type`` is of a stream or future, or the result of a task."""

    name: str
    type: ValueRef | None = None
    options: Options = Options()
    slot: int = 0
    kind: int = 0
    """The core type of a value of the context, as the binary format has it."""
    memory: int | None = None
    flag: bool = False
    """Whether it may be cancelled, or is async, by its name."""


@dataclass(frozen=True, slots=True)
class Export:
    name: str
    sort: Sort
    index: int


@dataclass(frozen=True, slots=True)
class Component:
    """A component, in the order of its definitions."""

    items: tuple[Definition, ...] = field(repr=False)


Definition = (
    CoreModule
    | CoreInstance
    | CoreExports
    | CoreTypeDef
    | Component
    | Instance
    | Exports
    | Alias
    | TypeDef
    | Lift
    | Lower
    | ResourceBuiltin
    | AsyncBuiltin
    | ImportDef
    | Export
)
