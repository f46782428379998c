"""A component with all that is nested in it as one flat plan over core modules.

Instantiating a component runs no code but that of core modules: everything else (composition, aliases, inline
instances, types) only says what goes where, and can be worked out once. What is left is a list of core instances, in
order, the functions that the host makes for them, and what is exported.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from . import definitions as d
from .environment import Environment
from .errors import ComponentError
from .lifting_rules import check_builtin, check_lift, check_lower
from .types import FuncType, Resource, ValueType

MAX_STEPS = 300
"""Core instances."""
MAX_INSTANCES = 1000
"""Component instances, nested ones included."""
MAX_HOSTS = 5000
"""Functions that the host makes."""
MAX_WORK = 1_000_000
"""Definitions that are carried out, each as often as its component is instantiated."""
_MAX_NESTED = 64


@dataclass(frozen=True, slots=True)
class CoreExport:
    """What a core instance exports, by the step that makes it."""

    step: int
    name: str
    sort: str


@dataclass(frozen=True, slots=True, eq=False)
class CanonOptions:
    """The options of lifting and lowering, looked up."""

    encoding: str
    memory: CoreItem | None
    realloc: CoreItem | None
    post_return: CoreItem | None
    callback: CoreItem | None = None
    is_async: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ImportedFunction:
    """A function that the host gives. ``interface`` is empty for one that the world imports itself."""

    interface: str
    name: str
    type: FuncType

    def __str__(self) -> str:
        return f"{self.interface} {self.name}".strip()


@dataclass(frozen=True, slots=True, eq=False)
class LiftedFunction:
    """A core function as a component exports it."""

    core: CoreItem
    options: CanonOptions
    type: FuncType
    instance: int


@dataclass(frozen=True, slots=True, eq=False)
class AsyncFunction:
    """A built-in of the async ABI. ``type`` is of a stream or future, or the result of a task."""

    name: str
    type: ValueType | None
    slot: int = 0
    flag: bool = False
    """Whether it may be cancelled, or is async, by its name."""


@dataclass(frozen=True, slots=True, eq=False)
class HostFunction:
    """A core function that the host makes.

    ``kind`` is ``import`` (what the component imports), ``adapter`` (what an inner component exports to another),
    ``async`` (a built-in), or ``new``, ``drop`` and ``rep`` of a resource.
    """

    number: int
    kind: str
    of: ImportedFunction | LiftedFunction | Resource | AsyncFunction
    options: CanonOptions
    instance: int


CoreItem = CoreExport | HostFunction
ExportTree = dict[str, tuple[str, object]]


@dataclass(frozen=True, slots=True)
class Step:
    """A core instance: its module, and for each name that the module imports from, a step or items."""

    module: d.CoreModule
    arguments: dict[str, int | dict[str, CoreItem]]
    instance: int

    def item(self, module: str, name: str, sort: str) -> CoreItem:
        """Return what an import of the module gets. Raises ComponentError."""
        given = self.arguments.get(module)
        if isinstance(given, int):
            return CoreExport(given, name, sort)
        found = None if given is None else given.get(name)
        if found is None:
            raise ComponentError(f"a core module imports {module!r} {name!r}, which is not given")
        return found


@dataclass(slots=True)
class FlatPlan:
    """What instantiation does, in order."""

    steps: list[Step] = field(default_factory=list)
    hosts: list[HostFunction] = field(default_factory=list)
    exports: ExportTree = field(default_factory=dict)
    imports: list[ImportedFunction] = field(default_factory=list)
    """All that the host is asked for, called or not."""
    imported: ExportTree = field(default_factory=dict)
    """The same as a tree, with the types: by the names of interfaces."""
    instances: int = 0


@dataclass(frozen=True, slots=True)
class _Closure:
    """A component with what its definitions may name outside of it."""

    component: d.Component
    outer: Environment | None


def flatten(component: d.Component) -> FlatPlan:
    """Raise ComponentError."""
    maker = _Maker()
    maker.plan.exports = maker.instantiate(_Closure(component, None), None, 0)
    return maker.plan


class _Maker:
    def __init__(self) -> None:
        self.plan = FlatPlan()
        self._work = MAX_WORK

    def instantiate(self, closure: _Closure, arguments: ExportTree | None, depth: int) -> ExportTree:
        """Carry out a component's definitions. ``arguments`` is None for the outermost: the host gives its imports."""
        self.plan.instances += 1
        if self.plan.instances > MAX_INSTANCES:
            raise ComponentError(f"it makes more than {MAX_INSTANCES} component instances")
        if depth > _MAX_NESTED:
            raise ComponentError(f"its instances are nested more than {_MAX_NESTED} deep")
        environment = Environment(closure.outer, self.plan.instances - 1)
        exports: ExportTree = {}
        for item in closure.component.items:
            self._work -= 1
            if self._work < 0:
                raise ComponentError(f"instantiating it takes more than {MAX_WORK} steps")
            self._carry_out(environment, item, arguments, exports, depth)
        return exports

    def _carry_out(
        self, env: Environment, item: d.Definition, arguments: ExportTree | None, exports: ExportTree, depth: int
    ) -> None:
        match item:
            case d.CoreModule():
                env.add("core module", item)
            case d.Component():
                env.add("component", _Closure(item, env))
            case d.CoreTypeDef():
                env.add("core type", item)
            case d.TypeDef():
                env.add("type", env.resolve(item.definition))
            case d.ImportDef():
                sort, value = self._imported(env, item, arguments)
                env.add(sort, value)
            case d.Alias():
                env.add(item.sort, env.alias(item) if item.how != "core export" else _core_alias(env, item))
            case d.CoreInstance() | d.CoreExports():
                env.add("core instance", self._core_instance(env, item))
            case d.Instance():
                closure = env.get("component", item.component, _Closure)
                given = {name: (sort, env.get(sort, index)) for name, sort, index in item.arguments}
                env.add("instance", self.instantiate(closure, given, depth + 1))
            case d.Exports():
                env.add("instance", {name: (sort, env.get(sort, index)) for name, sort, index in item.exports})
            case d.Export():
                value = env.get(item.sort, item.index)
                if item.name in exports:
                    raise ComponentError(f"it exports {item.name!r} twice")
                exports[item.name] = (item.sort, value)
                env.add(item.sort, value)  # an export is one more item of its index space
            case d.AsyncBuiltin():
                env.add("core func", self._async_builtin(env, item))
            case _:
                self._canon(env, item)

    def _imported(self, env: Environment, item: d.ImportDef, arguments: ExportTree | None) -> tuple[str, object]:
        if arguments is None:
            made = self.plan.imported[item.name] = env.declared("", item.name, item.desc, self._import_function)
            return made
        if item.name not in arguments:
            raise ComponentError(f"a nested component imports {item.name!r}, which it is not given")
        sort, value = arguments[item.name]
        if sort != item.desc.sort:
            raise ComponentError(
                f"a nested component imports the {item.desc.sort} {item.name!r}, and is given a {sort}"
            )
        return sort, value

    def _import_function(self, interface: str, name: str, kind: FuncType) -> ImportedFunction:
        function = ImportedFunction(interface, name, kind)
        self.plan.imports.append(function)
        if len(self.plan.imports) > MAX_HOSTS:
            raise ComponentError(f"it imports more than {MAX_HOSTS} functions")
        return function

    def _core_instance(self, env: Environment, item: d.CoreInstance | d.CoreExports) -> int | dict[str, CoreItem]:
        if isinstance(item, d.CoreExports):
            return {name: _core_item(env, sort, index) for name, sort, index in item.exports}
        module = env.get("core module", item.module, d.CoreModule)
        arguments = {}
        for name, index in item.arguments:
            given = env.get("core instance", index)
            assert isinstance(given, int | dict)
            arguments[name] = given
        self.plan.steps.append(Step(module, arguments, env.instance))
        if len(self.plan.steps) > MAX_STEPS:
            raise ComponentError(f"it makes more than {MAX_STEPS} core instances")
        return len(self.plan.steps) - 1

    def _canon(self, env: Environment, item: d.Lift | d.Lower | d.ResourceBuiltin) -> None:
        if isinstance(item, d.ResourceBuiltin):
            resource = env.get("type", item.type, Resource)
            if item.kind != "drop" and resource.instance != env.instance:
                raise ComponentError(f"resource.{item.kind} names a resource that another instance defines")
            env.add("core func", self._host(item.kind, resource, NO_OPTIONS, env))
            return
        options = _options(env, item.options)
        if isinstance(item, d.Lift):
            kind = env.get("type", item.type, FuncType)
            check_lift(kind, item.options)
            core = _core_item(env, "core func", item.function)
            env.add("func", LiftedFunction(core, options, kind, env.instance))
            return
        function = env.get("func", item.function)
        assert isinstance(function, ImportedFunction | LiftedFunction)
        check_lower(function.type, item.options)
        kind_of_host = "import"
        if isinstance(function, LiftedFunction):
            kind_of_host = "adapter"
        env.add("core func", self._host(kind_of_host, function, options, env))

    def _async_builtin(self, env: Environment, item: d.AsyncBuiltin) -> HostFunction:
        check_builtin(item)
        options = _options(env, item.options)
        if item.memory is not None:
            options = replace(options, memory=_core_item(env, "core memory", item.memory))
        kind = None if item.type is None else env.value_type(item.type)
        return self._host("async", AsyncFunction(item.name, kind, item.slot, item.flag), options, env)

    def _host(
        self,
        kind: str,
        of: ImportedFunction | LiftedFunction | Resource | AsyncFunction,
        options: CanonOptions,
        env: Environment,
    ) -> HostFunction:
        made = HostFunction(len(self.plan.hosts), kind, of, options, env.instance)
        self.plan.hosts.append(made)
        if len(self.plan.hosts) > MAX_HOSTS:
            raise ComponentError(f"it needs more than {MAX_HOSTS} functions of the host")
        return made


NO_OPTIONS = CanonOptions("utf8", None, None, None)


def _core_alias(env: Environment, item: d.Alias) -> CoreItem:
    instance = env.get("core instance", item.index)
    if isinstance(instance, int):
        return CoreExport(instance, item.name, item.sort.removeprefix("core "))
    assert isinstance(instance, dict)
    if item.name not in instance:
        raise ComponentError(f"a core instance has no export {item.name!r}")
    found = instance[item.name]
    assert isinstance(found, CoreExport | HostFunction)
    return found


def _core_item(env: Environment, sort: str, index: int) -> CoreItem:
    found = env.get(sort, index)
    if not isinstance(found, CoreExport | HostFunction):
        raise ComponentError(f"a {sort} cannot be an export of a core instance")
    return found


def _options(env: Environment, given: d.Options) -> CanonOptions:
    def item(sort: str, index: int | None) -> CoreItem | None:
        return None if index is None else _core_item(env, sort, index)

    return CanonOptions(
        given.encoding,
        item("core memory", given.memory),
        item("core func", given.realloc),
        item("core func", given.post_return),
        item("core func", given.callback),
        given.is_async,
    )
