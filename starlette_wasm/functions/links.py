"""Imports of a component that other functions satisfy: ``imports`` of function.yaml, checked and looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..components.kinds import is_component
from ..config.error_text import nearest
from ..engine.module import Module
from ..exceptions import CompileError, ConfigError, FunctionNotFound
from .catalog import MANIFEST, FunctionSource
from .loader import LoadedFunction

if TYPE_CHECKING:
    from ..components.flat_plan import HostFunction, ImportedFunction, LiftedFunction
    from .target import Target

    Links = Mapping[ImportedFunction, "Link"]


@dataclass(frozen=True, slots=True)
class Link:
    """What answers an imported function: the export of a target."""

    target: Target
    name: str
    function: LiftedFunction

    def isolated(self) -> Link:
        """Make the same with nothing granted."""
        return replace(self, target=self.target.isolated())


def links_of(function: LoadedFunction, bind: Callable[[str, str | None, str], Target]) -> dict[ImportedFunction, Link]:
    """Return what answers the imports that function.yaml names; ``bind`` gives the target of a name and a version.

    Raises ConfigError for an interface that is not imported or has another type, CompileError for one that nothing
    satisfies, and what ``bind`` raises.
    """
    module, source = function.module, function.source
    imported = _imported(module)
    links: dict[ImportedFunction, Link] = {}
    for interface, given in source.manifest.imports.items():
        key = f"imports.{interface}"
        wanted = [each for each in imported if interface in (each.interface, each.interface.partition("@")[0])]
        if not wanted:
            names = {each.interface.partition("@")[0] for each in imported if each.interface}
            raise _wrong(source, key, "is not imported, or nothing of it is called", nearest(interface, names))
        target = bind(given.function, given.version, f"{source.file.with_name(MANIFEST)}: {key}")
        for each in wanted:
            links[each] = _link(source, key, each, target)
    if is_component(module):
        for each in module.unresolved:
            if each not in links:
                raise _unsatisfied(source, each)
    return links


def _unsatisfied(source: FunctionSource, wanted: ImportedFunction) -> CompileError:
    """Return the error for an import that neither the host nor another function satisfies."""
    name = wanted.interface.partition("@")[0] or "INTERFACE"
    hint = (
        f'write imports: {{"{name}": {{function: NAME}}}} into {MANIFEST} beside it, with the name of a function that '
        "exports it; or compose both to one component, with wac"
    )
    return CompileError(f"it imports {wanted}, and nothing satisfies that", file=source.file, hint=hint)


def _imported(module: Module) -> list[ImportedFunction]:
    """Return the functions that core code of a component may call."""
    if not is_component(module):
        return []
    from ..components.flat_plan import ImportedFunction

    hosts: list[HostFunction] = module.flat.hosts
    return [host.of for host in hosts if isinstance(host.of, ImportedFunction)]


def _link(source: FunctionSource, key: str, wanted: ImportedFunction, target: Target) -> Link:
    from ..components.exported import has_handles, named

    module = target.function.module
    functions = module.functions if is_component(module) else {}
    full = f"{wanted.interface}#{wanted.name}"
    found = named(functions, full) or named(functions, f"{wanted.interface.partition('@')[0]}#{wanted.name}")
    if len(found) != 1:
        there = f"it exports {', '.join(list(functions)[:10]) or 'no function'}"
        hint = (
            there if is_component(module) else "it is a core module: make a component of it, such as with wit-bindgen"
        )
        raise _wrong(source, key, f"{target} does not export {full}", hint)
    function = functions[found[0]]
    if has_handles(wanted.type):
        kinds = "resources, streams or futures, which live no longer than an instance"
        problem = f"{wanted.name} has {kinds}: {wanted.type.text:.300}"
        raise _wrong(source, key, problem, "compose both to one component, with wac or wasm-tools compose")
    if function.type.text != wanted.type.text:
        problem = f"{wanted.name} is imported as {wanted.type.text:.300}"
        raise _wrong(source, key, problem, f"{target} exports {function.type.text:.300}")
    return Link(target, found[0], function)


def _wrong(source: FunctionSource, key: str, problem: str, hint: str) -> ConfigError:
    return ConfigError(problem, file=source.file.with_name(MANIFEST), key=key, hint=hint)


def cycles(
    functions: Mapping[tuple[str, str], LoadedFunction], find: Callable[[str, str | None], FunctionSource]
) -> Iterator[tuple[FunctionSource, ConfigError]]:
    """Yield an error for each function that imports itself, directly or through others.

    ``find`` may raise FunctionNotFound.
    """
    edges = {key: list(_imports(function.source, find)) for key, function in functions.items()}
    for key, function in functions.items():
        path = _path_back(key, edges)
        if path:
            told = " -> ".join(f"{name} v{version}" for name, version in path)
            hint = "take one of these imports out"
            yield function.source, _wrong(function.source, "imports", f"imports in a circle: {told}", hint)


def _imports(source: FunctionSource, find: Callable[[str, str | None], FunctionSource]) -> Iterator[tuple[str, str]]:
    for given in source.manifest.imports.values():
        try:
            found = find(given.function, given.version)
        except FunctionNotFound:  # reported when the import is bound
            continue
        yield found.name, found.version


def _path_back(start: tuple[str, str], edges: Mapping[tuple[str, str], list[tuple[str, str]]]) -> list[tuple[str, str]]:
    """Find the shortest way from a function back to itself; empty if there is none."""
    ways = [[start]]
    seen: set[tuple[str, str]] = set()
    for way in ways:
        for after in edges.get(way[-1], ()):
            if after == start:
                return [*way, start]
            if after not in seen:
                seen.add(after)
                ways.append([*way, after])
    return []
