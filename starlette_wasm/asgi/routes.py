"""Functions as routes: ``WasmRoute``, the ``wasm_route`` decorator, and ``wasm_endpoint``."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from .._compat import get_route_path, marked_as_coroutine
from ..config.notation import foreign_pattern, misspelt_method
from ..exceptions import ConfigError, FunctionUnavailable, RuntimeClosed
from ..messages import EdgeRequest
from ..runtime.runtime import WasmRuntime
from ..telemetry import RequestTelemetry
from .function_ref import FunctionRef
from .problems import send_problem
from .route_call import FAULTS, call, fault_response
from .scope import region_of
from .serve import Matched, serve
from .signatures import Declared, identifier
from .templates import Place, Whereabouts

Call = Callable[[Request | EdgeRequest], Awaitable[Response]]
"""Runs the function: a Starlette request or an EdgeRequest in, a Starlette response out."""
Handler = Callable[[Request, Call], Awaitable[Response]]


class WasmRoute(Route):
    """A route that a function answers.

    ``methods`` None means all: the function answers 405 itself. ``policy`` None means ``edge-none``, ``version``
    None the highest. ``runtime`` None means that of the nearest enclosing WasmMiddleware, which also checks the
    route at start.
    """

    def __init__(
        self,
        path: str,
        *,
        function: str,
        policy: str | None = None,
        version: str | None = None,
        methods: Sequence[str] | None = None,
        name: str | None = None,
        runtime: WasmRuntime | None = None,
        handler: Handler | None = None,
    ) -> None:
        _check_notation(path, methods)
        wasm = FunctionRef(function, version, policy, runtime)
        self.handler = handler
        app = _FunctionApp(wasm, path) if handler is None else _HandlerApp(wasm, path, handler)
        if name is None:
            name = function if handler is None else getattr(handler, "__name__", function)
        super().__init__(path, app, methods=None if methods is None else list(methods), name=name)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["path"] != self.path or self.param_convertors or scope.get("root_path") or scope["type"] != "http":
            return super().matches(scope)
        # What Route finds with a regular expression.
        full = not self.methods or scope["method"] in self.methods
        found = {"endpoint": self.endpoint, "path_params": dict(scope.get("path_params", ()))}
        return Match.FULL if full else Match.PARTIAL, found

    def handle(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        if self.methods and scope["method"] not in self.methods:
            return super().handle(scope, receive, send)
        answering: Any = self.app(scope, receive, send)  # a coroutine less than in Route
        return answering  # type: ignore[no-any-return]


def _check_notation(path: str, methods: Sequence[str] | None) -> None:
    """Raise ConfigError for the notation of another framework, which no request matches, and for misspelt methods."""
    foreign = foreign_pattern(path)
    if foreign is not None:
        raise ConfigError(f"the path {path!r} {foreign[0]}", key="path", hint=foreign[1])
    if isinstance(methods, str):
        raise ConfigError(f"{methods!r} is not a list", key="methods", hint=f"write [{methods!r}]")
    for method in methods or ():
        meant = misspelt_method(method.upper())
        if meant is not None:
            raise ConfigError(f"{method!r} is not a valid HTTP method", key="methods", hint=f"did you mean {meant}?")


class _FunctionApp:
    """The ASGI app of a route without Python around the function."""

    def __init__(self, wasm: FunctionRef, path: str) -> None:
        self.wasm = wasm
        self._whereabouts = Whereabouts(self, path)
        self.__name__ = self.__qualname__ = identifier(wasm.function)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        runtime, _ = await self.wasm.runtime_for(scope)
        place = self._whereabouts.place(scope)
        with self.wasm.received(scope, place) as exchange:
            try:
                target = self.wasm.target(runtime, place.route)
            except (FunctionUnavailable, RuntimeClosed) as error:
                exchange.failed(error)
                await send_problem(runtime.debug, error, scope, exchange.send(send), None)
                return
            params = {name: str(value) for name, value in scope.get("path_params", {}).items()}
            region = region_of(runtime.request_settings, scope)
            matched = Matched(scope, receive, send, get_route_path(scope), params, region, exchange)
            matched.route, matched.raises = place.within, True
            await serve(runtime, target, matched)


class _HandlerApp:
    """The ASGI app of a route with a handler ``(request, call)``."""

    def __init__(self, wasm: FunctionRef, path: str, handler: Handler) -> None:
        self.wasm = wasm
        self._whereabouts = Whereabouts(self, path)
        self._handler = handler
        self.__name__ = getattr(handler, "__name__", identifier(wasm.function))
        self.__qualname__ = getattr(handler, "__qualname__", self.__name__)
        self.__module__ = getattr(handler, "__module__", None) or __name__

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        place = self._whereabouts.place(scope)
        exchange = self.wasm.received(scope, place)
        answering = self._answer if exchange.idle else self._listened
        return answering(scope, receive, send, place, exchange)

    async def _listened(
        self, scope: Scope, receive: Receive, send: Send, place: Place, exchange: RequestTelemetry
    ) -> None:
        with exchange:
            await self._answer(scope, receive, exchange.send(send), place, exchange)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, place: Place, exchange: RequestTelemetry
    ) -> None:
        wasm = self.wasm
        request = Request(scope, receive, send)
        try:
            response = await self._handler(request, partial(call, wasm, place, request, exchange))
        except FAULTS as error:
            response = fault_response(error, request, wasm, exchange)
        await response(scope, receive, send)


def wasm_route(
    path: str,
    *,
    function: str,
    policy: str | None = None,
    version: str | None = None,
    methods: Sequence[str] | None = None,
    name: str | None = None,
    runtime: WasmRuntime | None = None,
) -> Callable[[Handler], WasmRoute]:
    """Turn an async handler ``(request, call)`` into a WasmRoute, for ``routes=[...]``.

    ``await call(request)`` runs the function and gives a Starlette Response, or raises a WasmError; one that the
    handler lets through becomes problem+json, unless the app has an exception handler for it.
    """

    def decorate(handler: Handler) -> WasmRoute:
        if not inspect.iscoroutinefunction(handler):
            raise TypeError(f"the handler of {path} must be an async function (request, call)")
        try:
            inspect.signature(handler).bind(None, None)
        except TypeError as error:
            raise TypeError(f"the handler of {path} must take (request, call): {error}") from None
        return WasmRoute(
            path,
            function=function,
            policy=policy,
            version=version,
            methods=methods,
            name=name,
            runtime=runtime,
            handler=handler,
        )

    return decorate


def wasm_endpoint(
    function: str,
    *,
    policy: str | None = None,
    version: str | None = None,
    runtime: WasmRuntime | None = None,
) -> Callable[[Request], Awaitable[Response]]:
    """Make an endpoint for ``Route``, FastAPI's ``add_api_route``, or whatever else takes a Starlette endpoint."""
    wasm = FunctionRef(function, version, policy, runtime)

    def endpoint(request: Request, **_: str) -> Awaitable[Response]:
        if not isinstance(request, Request):
            raise TypeError(
                f"wasm_endpoint({function!r}) is an endpoint, which takes a Request, not {request!r:.60}: write "
                f"Route(path, wasm_endpoint({function!r})), or for a handler @wasm_route(path, function={function!r})"
            )
        return answered(request)

    async def answered(request: Request) -> Response:
        place = whereabouts.place(request.scope)
        with wasm.received(request.scope, place) as exchange:
            try:
                response = await call(wasm, place, request, exchange, request)
            except FAULTS as error:
                response = fault_response(error, request, wasm, exchange)
            exchange.answered(response.status_code)
        return response

    endpoint.__name__ = endpoint.__qualname__ = identifier(function)
    endpoint.__doc__ = None
    endpoint.wasm = wasm  # type: ignore[attr-defined]
    endpoint.__signature__ = Declared()  # type: ignore[attr-defined]
    whereabouts = Whereabouts(endpoint)
    return marked_as_coroutine(endpoint)
