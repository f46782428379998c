"""Finds the routes of functions inside an app, so that they are checked at start and take part in reloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from starlette.routing import BaseRoute, Host, Mount

from .function_ref import FunctionRef
from .templates import each_route, mount_template, routes_of


def find_functions(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, FunctionRef]]:
    """Yield the whole template and the function of all routes that name one, as each_function()."""
    return ((path, wasm) for path, wasm, _ in each_function(routes))


def each_function(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, FunctionRef, Any]]:
    """Yield the whole template, the function, and the route itself, of all routes that name one.

    Mounts are followed, but not into an app that has a WasmMiddleware of its own.
    """
    for route in each_route(routes):
        wasm = getattr(getattr(route, "endpoint", None), "wasm", None)
        if isinstance(wasm, FunctionRef):
            yield prefix + route.path, wasm, route
        kind = getattr(route, "original_route", route)
        if isinstance(kind, Mount | Host) and not has_own_middleware(route.app):
            yield from each_function(routes_of(route.app), prefix + mount_template(route))


def has_own_middleware(app: object) -> bool:
    """Return whether a WasmMiddleware is around an app, or in its list."""
    while app is not None:
        classes = [type(app), *(each.cls for each in getattr(app, "user_middleware", ()))]
        if any(base.__name__ == "WasmMiddleware" for each in classes for base in getattr(each, "__mro__", ())):
            return True
        app = getattr(app, "app", None)
    return False
