"""Paths that two would serve: a rule or an endpoint of ours, and a route of the app."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from starlette.routing import BaseRoute, Host, Match, Mount, Route
from starlette.types import Scope

from ..runtime.deployment import Deployment
from .discovery import has_own_middleware
from .endpoints import exposed
from .templates import each_route, mount_template, routes_of

_PARAMETER = re.compile(r"\{[^{}]*\}")
_SEGMENT = re.compile("[^/]+")
_ANY = "starlette-wasm-sample"
"""A segment that only routes for any path take."""
_PREFIX = "set endpointsPrefix, such as /internal"


def overlaps(app: object, deployment: Deployment, *, behind: bool) -> Iterator[str]:
    """Yield a text for each path that one takes from another. ``behind``: the app's routes come before the rules."""
    routes = routes_of(app)
    for path in () if behind else _native_paths(routes):
        match = deployment.router.match(_PARAMETER.sub("x", path))
        if match is not None:
            yield f"the rule for {match.pattern} shadows the route {path} of the app"
    for path in exposed(deployment.config):
        match = deployment.router.match(path)
        if match is not None:
            yield f"the rule for {match.pattern} shadows the endpoint {path}; {_PREFIX}"
        elif (route := _specific(routes, path)) is not None and behind:
            yield f"the route {route} of the app shadows the endpoint {path}; {_PREFIX}"
        elif route is not None:
            yield f"exposeEndpoints shadows the route {route} of the app; {_PREFIX}"


def _native_paths(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[str]:
    for route in each_route(routes):
        kind = getattr(route, "original_route", route)  # FastAPI's, behind what stands in for it
        if isinstance(kind, Mount) and not has_own_middleware(route.app):
            yield from _native_paths(route.routes, prefix + route.path)
        elif isinstance(kind, Route) and not hasattr(route.endpoint, "wasm"):
            yield prefix + route.path


def _specific(routes: Sequence[BaseRoute], path: str) -> str | None:
    """Return the template of the route that takes ``path``, or ``path/`` as a mount does; None if it takes any path."""
    for each in (path, f"{path}/"):
        taker, template = _taker(routes, _scope(each))
        if taker is not None and taker is not _taker(routes, _scope(_SEGMENT.sub(_ANY, each)))[0]:
            return template
    return None


def _scope(path: str) -> Scope:
    return {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}


def _taker(routes: Sequence[BaseRoute], scope: Scope) -> tuple[BaseRoute | None, str]:
    """Return the route at the end that takes a request, and its template."""
    for route in each_route(routes):
        kind = getattr(route, "original_route", route)
        match, child = route.matches(dict(scope))
        if match is Match.NONE or getattr(kind, "rules_behind", False) or hasattr(kind, "rules_of"):
            continue
        template = mount_template(route) if isinstance(kind, Mount | Host) else getattr(route, "path", "")
        inner = routes_of(route.app) if isinstance(kind, Mount | Host) else []
        if not inner:
            return kind, template
        taker, within = _taker(inner, {**scope, **child})
        if taker is not None:
            return taker, template + within
    return None, ""
