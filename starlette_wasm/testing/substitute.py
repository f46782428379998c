"""Puts the runtimes of an app into the surroundings of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..asgi.middleware import WasmMiddleware
from ..asgi.rules import WasmRules
from ..asgi.templates import each_route, routes_of
from ..exceptions import ConfigError
from ..runtime.runtime import WasmRuntime
from .runtime import RecordingRuntime, Surroundings


@contextmanager
def substituted(app: Any, surroundings: Surroundings) -> Iterator[list[RecordingRuntime]]:
    """Put each runtime of a Starlette app into ``surroundings``, for the block, and give them.

    These are the runtimes of each WasmMiddleware in its list, of each WasmRules among its routes, and of routes that
    have one of their own. Raises ConfigError if there is none.
    """
    listed = [each for each in getattr(app, "user_middleware", ()) if each.cls is WasmMiddleware]
    found = [*_runtimes(app), *(each.kwargs["runtime"] for each in listed if each.kwargs.get("runtime") is not None)]
    if not listed and not found:
        raise ConfigError(
            "the app has no WasmMiddleware in its list, and no WasmRules with a config among its routes",
            hint="give the Starlette or FastAPI app itself, not what is wrapped around it",
        )
    with ExitStack() as stack:
        runtimes = [stack.enter_context(_recorded(runtime, surroundings)) for runtime in dict.fromkeys(found)]
        made = [each for each in listed if each.kwargs.get("runtime") is None]
        runtimes += [stack.enter_context(_replaced(each, surroundings)) for each in made]
        built, app.middleware_stack = app.middleware_stack, None  # it is built anew, with what was put there
        try:
            yield runtimes
        finally:
            app.middleware_stack = built


@contextmanager
def _replaced(listed: Any, surroundings: Surroundings) -> Iterator[RecordingRuntime]:
    """Give a middleware that is yet to be made a runtime."""
    args, kwargs = listed.args, dict(listed.kwargs)
    config = kwargs.get("config", args[0] if args else None)
    runtime = RecordingRuntime(config or {}, surroundings.settings(kwargs.get("settings")), surroundings)
    listed.args, listed.kwargs = (), {"runtime": runtime}
    try:
        yield runtime
    finally:
        listed.args, listed.kwargs = args, kwargs


@contextmanager
def _recorded(runtime: WasmRuntime, surroundings: Surroundings) -> Iterator[RecordingRuntime]:
    """Make a runtime that others hold a recording one. Raises ConfigError if it is open."""
    if runtime.is_open:
        raise ConfigError("a runtime of the app is open already", hint="enter client() before it is started")
    kind, before = type(runtime), dict(vars(runtime))
    setattr(runtime, "__class__", RecordingRuntime)  # noqa: B010
    assert isinstance(runtime, RecordingRuntime)
    runtime.surround(surroundings)
    try:
        yield runtime
    finally:
        setattr(runtime, "__class__", kind)  # noqa: B010
        for name in ("telemetry", "invoker", "fast_path", "shadows", "_given_settings"):
            vars(runtime)[name] = before[name]


def _runtimes(app: Any) -> Iterator[WasmRuntime]:
    for route in each_route(routes_of(app)):
        kind = getattr(route, "original_route", route)
        rules = getattr(kind, "rules_of", kind)
        endpoint = getattr(route, "endpoint", None)
        holder = rules if isinstance(rules, WasmRules) else getattr(endpoint, "wasm", None)
        runtime = getattr(holder, "runtime", None)
        if isinstance(runtime, WasmRuntime):
            yield runtime
