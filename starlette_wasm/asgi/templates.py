"""Templates of routes: how a request got here, with the names of parameters in place of what the client sent.

Starlette keeps only the values: ``root_path`` is the part of the path that the mounts matched. The names are found by
following the same mounts again, from the outermost router, which is in the scope.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from inspect import getclosurevars
from types import FunctionType
from typing import Any, NamedTuple

from starlette.routing import BaseRoute, Host, Match, Mount
from starlette.types import Scope

from .._compat import get_route_path

_MOST_ROOTS = 16
"""Root paths that are kept apart. A server has one; what sets another for each request must not be seen in routes."""
_roots: set[str] = set()


def each_route(routes: Sequence[BaseRoute]) -> Iterable[Any]:
    """Return the routes, with what stands in for those that FastAPI's ``include_router`` leaves in their router."""
    iterate = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    each: Iterable[Any] = routes if iterate is None else iterate(routes)
    return each


def routes_of(app: object) -> list[BaseRoute]:
    """Return the routes of an app, behind the middleware around it."""
    while app is not None:
        routes = getattr(app, "routes", None)
        if routes is not None:
            return list(routes)
        app = inner_of(app)
    return []


def inner_of(app: object, depth: int = 4) -> object:
    """Return what a middleware wraps; None if that cannot be found.

    As a rule that is its ``app``, but it may have another name, and a middleware may be a function within a function.
    """
    found = getattr(app, "app", None)
    if found is not None or depth == 0:
        return found
    return next((each for each in _held(app) if _is_app(each) or inner_of(each, depth - 1) is not None), None)


def _held(app: object) -> Iterator[object]:
    """Yield what a middleware without ``app`` may have it among."""
    if isinstance(app, partial):
        yield from (*app.args, *app.keywords.values())
    elif isinstance(app, FunctionType):
        yield from getclosurevars(app).nonlocals.values()
    elif callable(app) and not isinstance(app, type):
        yield from getattr(app, "__dict__", {}).values()


def _is_app(found: object) -> bool:
    return callable(found) and hasattr(found, "routes")


def mount_template(mount: Any) -> str:
    """Return the path of a mount, without the types of its parameters; a host has none."""
    template: str = getattr(mount, "path_format", None) or ""
    return template.removesuffix("/{path}")


def root_template(scope: Scope) -> str:
    """Return the ``root_path`` that the app itself was given; empty if there are too many of them to keep apart."""
    root: str = scope.get("app_root_path", scope.get("root_path", "")).rstrip("/")
    if root in _roots or not root:
        return root
    if len(_roots) >= _MOST_ROOTS:
        return ""
    _roots.add(root)
    return root


def mounts_template(scope: Scope) -> str:
    """Return the mounts that the request came through; empty if none is known."""
    return next((template for template, _ in _levels(scope)), "")


def rule_template(scope: Scope, pattern: str) -> str:
    """Return the whole template of a rule."""
    return root_template(scope) + mounts_template(scope) + pattern


class Place(NamedTuple):
    """The place of a route in an app."""

    within: str
    """The template inside the mount; empty if it is not known."""
    route: str
    """The same with the mounts before it, but without what the server mounts the app at."""

    def whole(self, scope: Scope) -> str:
        """Return the template as a client sees it."""
        return root_template(scope) + self.route if self.route and scope.get("root_path") else self.route


class Whereabouts:
    """Tells where an endpoint is in an app: the template inside its mount, for the request at hand."""

    def __init__(self, endpoint: object, path: str = "") -> None:
        """Take ``path``, the route's own template; empty if that is not known yet."""
        self._endpoint = endpoint
        self._path = path
        self._own = Place(path, path) if path else None
        """Where it is if that is below no mount, and no router of FastAPI's."""

    def place(self, scope: Scope) -> Place:
        """Return the templates for this request."""
        if self._own is not None and not scope.get("root_path") and "fastapi" not in scope:
            return self._own
        within = self._within(scope)
        if not within or not scope.get("root_path"):
            return Place(within, within)
        return Place(within, mounts_template(scope) + within)

    def _within(self, scope: Scope) -> str:
        """Return the template, with the prefixes of FastAPI's ``include_router``; empty if no router led here."""
        if "fastapi" in scope:
            context = scope["fastapi"].get("effective_route_context")
            if context is not None and self._is_ours(context.original_route):
                path: str = (context.starlette_route or context).path
                return path
        if self._path:
            return self._path
        route = scope.get("route")
        return getattr(route if self._is_ours(route) else self._found(scope), "path", "")

    def _is_ours(self, route: object) -> bool:
        return getattr(route, "endpoint", None) is self._endpoint

    def _found(self, scope: Scope) -> object:
        """Find the route, in an app that does not put it into the scope: Starlette does not."""
        path = get_route_path(scope)
        for _, routes in _levels(scope):
            for route in each_route(routes):
                if self._is_ours(route) and route.path_regex.match(path):
                    return route
        return None


def _levels(scope: Scope) -> Iterator[tuple[str, Sequence[BaseRoute]]]:
    """Yield the routes that the request may have come through, and the template of their mounts; the first is right."""
    router = scope.get("router")
    root: str = scope.get("root_path", "")
    base: str = scope.get("app_root_path", root)
    if router is not None and root.startswith(base):
        yield from _follow(router.routes, root[len(base) :], "", scope)


def _follow(
    routes: Sequence[BaseRoute], rest: str, template: str, scope: Scope
) -> Iterator[tuple[str, Sequence[BaseRoute]]]:
    """Follow the mounts; ``rest`` is what is left of the path that they matched."""
    if not rest:
        yield template, routes
    for route in each_route(routes):
        kind = getattr(route, "original_route", route)  # FastAPI's, behind what stands in for it
        if isinstance(kind, Host) and route.matches(scope)[0] is Match.FULL:
            yield from _follow(routes_of(route.app), rest, template, scope)
        elif isinstance(kind, Mount) and (match := route.path_regex.match(rest + "/")) is not None:
            rest_within = f"/{match['path']}"[:-1]  # without the slash that was added
            yield from _follow(routes_of(route.app), rest_within, template + mount_template(route), scope)
