"""Every path of an app in the order in which it is matched, with what answers and what guards it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.routing import Host, Mount

from ..exceptions import WasmError
from ..pipelines.plan import Pipeline
from ..runtime.runtime import WasmRuntime
from .discovery import has_own_middleware
from .function_ref import FunctionRef
from .middleware import WasmMiddleware
from .rules import WasmRules
from .templates import each_route, mount_template, routes_of


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table. ``by`` is ``rule``, ``pipeline``, ``function route``, ``native`` or ``mount``."""

    path: str
    by: str
    function: str = ""
    version: str = ""
    policy: str = ""
    methods: str = "all"
    guards: tuple[str, ...] = ()


def rules_table(runtime: WasmRuntime, guards: Sequence[str]) -> list[Entry]:
    """Return the rules and pipelines of an open runtime, the most specific pattern first."""
    deployment = runtime.deployment
    entries = [
        Entry(
            rule.path_pattern,
            "rule" if rule.weight == 100 else f"rule, weight {rule.weight}",
            rule.function_name,
            rule.version or "highest",
            rule.policy or runtime.settings.default_policy,
            ", ".join(rule.methods or ()) or "all",
            tuple(guards),
        )
        for rule in deployment.config.rules
    ]
    entries += [_pipeline(each, guards) for each in deployment.pipelines.all]
    return sorted(entries, key=lambda entry: _specificity(entry.path))


def _pipeline(pipeline: Pipeline, guards: Sequence[str]) -> Entry:
    targets = pipeline.targets
    versions = ", ".join(target.version for target in targets)
    policies = ", ".join(dict.fromkeys(target.policy.name for target in targets))
    methods = ", ".join(pipeline.rule().methods or ()) or "all"
    return Entry(pipeline.route, "pipeline", str(pipeline), versions, policies, methods, tuple(guards))


def _specificity(pattern: str) -> tuple[tuple[int, str], ...]:
    """Order patterns as the router does: plain segments before parameters, before the rest of a path."""
    segments = [each for each in pattern.split("/") if each]
    ranks = [(2 if each.endswith(":path}") else 1 if "{" in each else 0, each) for each in segments]
    return (*ranks, (3, ""))  # a longer pattern comes before its prefix


def app_table(app: Any) -> list[Entry]:
    """Return the table of a Starlette or FastAPI app whose runtimes are open."""
    listed = list(getattr(app, "user_middleware", ()))
    names = [_name(each) for each in listed]
    place = next((index for index, each in enumerate(listed) if each.cls is WasmMiddleware), None)
    runtime = None if place is None else listed[place].kwargs.get("runtime")
    guards = [name for each, name in zip(listed, names, strict=True) if each.cls is not WasmMiddleware]
    depending = _dependencies(getattr(app, "router", None))
    entries = list(_walk(routes_of(app), "", guards, depending, runtime))
    behind = any(entry.by == "rules" for entry in entries)
    if runtime is not None and not behind:
        entries = [*rules_table(runtime, names[:place]), *entries]
    return [each for entry in entries for each in _expanded(entry, app, runtime)]


def _expanded(entry: Entry, app: Any, runtime: WasmRuntime | None) -> list[Entry]:
    """Return the rules in the place of the entry of a WasmRules."""
    if entry.by != "rules":
        return [entry]
    rules = next(iter(_rules(app)), None)
    owner = runtime if rules is None or rules.runtime is None else rules.runtime
    return [] if owner is None else rules_table(owner, entry.guards)


def _rules(app: Any) -> Iterator[WasmRules]:
    for route in each_route(routes_of(app)):
        kind = getattr(route, "original_route", route)
        found = getattr(kind, "rules_of", kind)
        if isinstance(found, WasmRules):
            yield found


def _walk(
    routes: Sequence[Any], prefix: str, guards: Sequence[str], depending: Sequence[str], runtime: WasmRuntime | None
) -> Iterator[Entry]:
    """Yield the routes. ``guards`` is the middleware for every route; ``depending`` guards only FastAPI's own."""
    for route in each_route(routes):
        kind = getattr(route, "original_route", route)
        rules = getattr(kind, "rules_of", kind)
        run = [*depending, *_dependencies(route), *_dependencies(kind)] if hasattr(kind, "dependant") else []
        own = tuple(dict.fromkeys([*guards, *run]))
        wasm = getattr(getattr(route, "endpoint", None), "wasm", None)
        if isinstance(rules, WasmRules):
            yield Entry(f"{prefix}/", "rules", guards=own)
        elif isinstance(kind, Mount | Host) and not has_own_middleware(route.app) and routes_of(route.app):
            yield from _walk(routes_of(route.app), prefix + mount_template(route), guards, (), runtime)
        elif isinstance(kind, Mount | Host):
            yield Entry(prefix + (mount_template(route) or "/"), "mount", guards=own)
        elif isinstance(wasm, FunctionRef):
            yield _of_function(prefix + route.path, wasm, route, own, wasm.runtime or runtime)
        else:
            path = prefix + getattr(route, "path", "")
            yield Entry(path, "native", methods=_methods(route), guards=own)


def _of_function(
    path: str, wasm: FunctionRef, route: Any, guards: tuple[str, ...], runtime: WasmRuntime | None
) -> Entry:
    version, policy = wasm.version or "highest", wasm.policy or "edge-none"
    if runtime is not None:
        try:
            target = wasm.target(runtime, path)
            version, policy = target.version, target.policy.name
        except WasmError as error:
            version = f"none: {error.title}"
    return Entry(path, "function route", wasm.function, version, policy, _methods(route), guards)


def _methods(route: Any) -> str:
    return ", ".join(sorted(getattr(route, "methods", None) or ())) or "all"


def _name(listed: Any) -> str:
    function = getattr(listed.kwargs.get("dispatch"), "__name__", None)
    return str(function or getattr(listed.cls, "__name__", None) or type(listed.cls).__name__)


def _dependencies(owner: Any) -> list[str]:
    """Return how FastAPI's dependencies of a router or route are written."""
    return [_dependency(each) for each in getattr(owner, "dependencies", None) or ()]


def _dependency(given: Any) -> str:
    called = given.dependency
    scopes = "".join(f", {scope!r}" for scope in getattr(given, "scopes", None) or ())
    return f"{type(given).__name__}({getattr(called, '__name__', type(called).__name__)}{scopes})"
