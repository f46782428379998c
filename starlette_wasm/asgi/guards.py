"""Finds guards that do not guard: middleware and FastAPI dependencies that rules and routes of functions go past."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType
from typing import Any

from starlette.routing import BaseRoute, Host, Match, Mount, Route, Router
from starlette.types import Scope

from ..config.router import EdgeRouterConfig
from .templates import inner_of, mount_template, routes_of

_PLUMBING = frozenset(
    ("ServerErrorMiddleware", "ExceptionMiddleware", "AsyncExitStackMiddleware", "OpenTelemetryMiddleware")
)
"""Starlette's and FastAPI's own; and those of tracing, whose spans are joined from both sides."""
_MOST_NAMED = 20
_REMEDY = (
    "put middleware outside WasmMiddleware (before it in Starlette's list, added after it with add_middleware), or "
    "serve the rules behind all of it with WasmRules; FastAPI's dependencies run for add_api_route(path, "
    "wasm_endpoint(...)) and for include_router(WasmRules(...).router())"
)


@dataclass(slots=True)
class Guards:
    """What each guard misses, by its name; ``patterns`` are those of the rules that are served in front of the app."""

    patterns: Sequence[str]
    missed: dict[str, dict[str, None]] = field(default_factory=dict)

    def miss(self, guard: str, *what: str) -> None:
        if what:
            self.missed.setdefault(guard, {}).update(dict.fromkeys(what))

    def rules_below(self, path: str) -> list[str]:
        """Return the rules that serve paths at or below ``path``."""
        return [f"rule {each}" for each in self.patterns if _overlap(each, path)]


def seams(app: object, patterns: Sequence[str], *, behind: bool) -> list[str]:
    """Return what a user should know at start: routes that get no request, and one text of guards that do not."""
    texts = [
        f"the route {path} gets no request: {before} comes before it and takes all of them; put it first"
        for path, before in unreachable(routes_of(app))
    ]
    guards = unguarded(app, () if behind else patterns, patterns if behind else ())
    return texts if guards is None else [*texts, guards]


def patterns_of(config: EdgeRouterConfig) -> list[str]:
    """Return the patterns of all rules and pipelines, each once."""
    patterns = [*(rule.path_pattern for rule in config.rules), *(pipeline.path for pipeline in config.pipelines)]
    return list(dict.fromkeys(patterns))


def unguarded(app: object, patterns: Sequence[str], behind: Sequence[str] = ()) -> str | None:
    """Return the text of one warning; None if every guard guards.

    ``app`` is what is inside of WasmMiddleware; ``patterns`` are those of the rules that are served in front of it, and
    ``behind`` those of a WasmRules among its routes.
    """
    guards = Guards(patterns)
    for name in _middleware_inside(app):
        guards.miss(f"{name} (inside WasmMiddleware)", *(f"rule {each}" for each in patterns))
    depending = _dependencies(_router(app))
    for name in depending:
        guards.miss(name, *(f"rule {each}" for each in patterns))
    _walk(routes_of(app), "", depending, guards, behind)
    if not guards.missed:
        return None
    lines = [f"  {guard} misses the {_listed(missed)}" for guard, missed in guards.missed.items()]
    return "\n".join(["guards that do not guard:", *lines, _REMEDY])


def unreachable(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the functions' routes that an earlier route leaves nothing, each with that route."""
    for index, route in enumerate(routes):
        if isinstance(route, Mount):
            yield from unreachable(routes_of(route.app), prefix + mount_template(route))
        path = _path_of_function(route)
        if path is None:
            continue
        sample: Scope = {"type": "http", "method": _method(route), "path": _sample(route, path), "root_path": ""}
        sample["headers"] = []
        for before in routes[:index]:
            if not isinstance(before, Host) and before.matches(dict(sample))[0] is Match.FULL:
                kind = "the mount at" if isinstance(before, Mount) else "the route"
                yield prefix + path, f"{kind} {prefix}{getattr(before, 'path', '') or '/'}"
                break


def _path_of_function(route: BaseRoute) -> str | None:
    """Return the path that a function serves, as one of Starlette's routes; None for other routes."""
    if getattr(route, "rules_behind", False):
        return "/"
    return route.path if isinstance(route, Route) and hasattr(route.endpoint, "wasm") else None


def _method(route: BaseRoute) -> str:
    methods = getattr(route, "methods", None)
    return min(methods) if methods else "GET"


def _sample(route: BaseRoute, path: str) -> str:
    """Return a path that the route takes, and that hardly any other names."""
    values: dict[str, Any] = {"int": "70000001", "float": "70000001.5", "uuid": "0c0ffee0-0000-4000-8000-000000000001"}
    for name, convertor in getattr(route, "param_convertors", {}).items():
        kind = type(convertor).__name__.removesuffix("Convertor").lower()
        path = re.sub(rf"\{{{name}(:\w+)?\}}", values.get(kind, "starlette-wasm-sample"), path)
    return path if path != "/" else "/starlette-wasm-sample" if getattr(route, "rules_behind", False) else path


def _walk(
    routes: Iterable[Any], prefix: str, depending: tuple[str, ...], guards: Guards, behind: Sequence[str]
) -> None:
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None and hasattr(route, "include_context"):
            _included(route, included, prefix, depending, guards, behind)
        elif isinstance(route, Mount | Host):
            _mounted(route, prefix, depending, guards, behind)
        elif getattr(route, "rules_behind", False):
            for name in depending:
                guards.miss(name, *(f"rule {each}" for each in behind))
        elif isinstance(route, Route):
            _route(route, prefix, depending, guards)


def _route(route: Route, prefix: str, depending: tuple[str, ...], guards: Guards) -> None:
    own = _dependencies(route)
    path = prefix + route.path
    is_function = hasattr(route.endpoint, "wasm")
    for name in _wrappers(route.app):
        guards.miss(
            f"{name} (of the route {path})", *(f"rule {each}" for each in guards.patterns if _serves(each, path))
        )
    if not hasattr(route, "dependant"):  # no route of FastAPI's: no dependency runs
        if is_function:
            for name in depending:
                guards.miss(name, f"route {path}")
        return
    for name in dict.fromkeys([*depending, *own]):
        guards.miss(name, *(f"rule {each}" for each in guards.patterns if _serves(each, path)))


def _included(
    route: Any, router: Any, prefix: str, depending: tuple[str, ...], guards: Guards, behind: Sequence[str]
) -> None:
    context = route.include_context
    inner = tuple(dict.fromkeys([*depending, *_dependencies(context), *_dependencies(router)]))
    below = prefix + context.prefix + router.prefix
    if below:
        for name in inner:
            guards.miss(name, *guards.rules_below(below))
    _walk(router.routes, prefix + context.prefix, inner, guards, behind)


def _mounted(route: Any, prefix: str, depending: tuple[str, ...], guards: Guards, behind: Sequence[str]) -> None:
    below = prefix + mount_template(route)
    inner = _dependencies(_router(route.app))
    if below:
        for name in _middleware_inside(route.app):
            guards.miss(f"{name} (of the mount at {below})", *guards.rules_below(below))
        for name in inner:
            guards.miss(name, *guards.rules_below(below))
    _walk(routes_of(route.app), below, tuple(dict.fromkeys([*depending, *inner])), guards, behind)


def _middleware_inside(app: object) -> Iterator[str]:
    """Yield the names of the middleware around an app and in its list, up to a WasmMiddleware of its own."""
    while app is not None:
        if hasattr(app, "routes"):
            for listed in getattr(app, "user_middleware", ()):
                yield from _named(_listed_name(listed))
            if isinstance(app, Router):
                yield from _wrappers(app.middleware_stack)
            return
        yield from _named(_instance_name(app))
        app = inner_of(app)


def _wrappers(app: object) -> Iterator[str]:
    """Yield the names of the middleware that was put around a router, or the endpoint of a route."""
    while (inner := inner_of(app)) is not None and not _is_end(app):
        yield from _named(_instance_name(app))
        app = inner


def _is_end(app: object) -> bool:
    """Return whether it is an app, or what Starlette or FastAPI makes of an endpoint, which holds its app too."""
    framework = str(getattr(app, "__module__", "")).partition(".")[0] in ("starlette", "fastapi")
    return hasattr(app, "routes") or (framework and isinstance(app, FunctionType))


def _named(name: str) -> Iterator[str]:
    if name not in _PLUMBING and name != "WasmMiddleware":
        yield name


def _instance_name(middleware: object) -> str:
    function = getattr(middleware, "dispatch_func", None)
    if type(middleware).__name__ == "BaseHTTPMiddleware" and function is not None:
        return str(getattr(function, "__name__", "BaseHTTPMiddleware"))
    if inner_of(middleware) is None:
        return "WasmMiddleware"  # the app at the end, which is none
    function = middleware.func if isinstance(middleware, partial) else middleware
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return str(name).partition(".<locals>")[0]


def _listed_name(listed: Any) -> str:
    function = listed.kwargs.get("dispatch")
    name = getattr(function, "__name__", None) or getattr(listed.cls, "__name__", None)
    return str(name or type(listed.cls).__name__)


def _router(app: object) -> object:
    """Return the router at the end of an app, or the app itself."""
    while app is not None and not hasattr(app, "routes"):
        app = inner_of(app)
    return getattr(app, "router", app)


def _dependencies(owner: object) -> tuple[str, ...]:
    """Return how FastAPI's dependencies of a router, an include or a route are written."""
    return tuple(dict.fromkeys(_dependency(each) for each in getattr(owner, "dependencies", None) or ()))


def _dependency(depends: Any) -> str:
    called = depends.dependency
    return f"{type(depends).__name__}({getattr(called, '__name__', None) or type(called).__name__})"


def _overlap(pattern: str, path: str) -> bool:
    """Return whether a rule serves paths at or below ``path``."""
    ours, theirs = pattern.strip("/").split("/"), path.strip("/").split("/")
    if len(ours) < len(theirs) and "{" in pattern and not pattern.endswith(":path}"):
        return False
    pairs = zip(ours, theirs, strict=False)
    return pattern == "/" or all(one == other or "{" in one or "{" in other for one, other in pairs)


def _serves(pattern: str, path: str) -> bool:
    """Return whether a rule takes requests from the route at ``path``."""
    if len(path.strip("/").split("/")) > len(pattern.strip("/").split("/")) and "{" in pattern:
        return pattern.endswith(":path}") and _overlap(pattern, path)
    return _overlap(pattern, path) and len(pattern.rstrip("/").split("/")) <= len(path.rstrip("/").split("/"))


def _listed(missed: Iterable[str]) -> str:
    names = list(missed)
    shown = ", ".join(names[:_MOST_NAMED])
    return shown if len(names) <= _MOST_NAMED else f"{shown} and {len(names) - _MOST_NAMED} more"
