"""Functions as routes: ``WasmRoute``, the ``wasm_route`` decorator, and ``wasm_endpoint``."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Match, Mount, Route
from starlette.types import Receive, Scope, Send

from .. import _compat
from .._compat import get_route_path
from ..config.notation import foreign_pattern, misspelt_method
from ..engine.fast_path import Completed, Started
from ..exceptions import (
    ConfigError,
    FunctionNotFound,
    FunctionUnavailable,
    ModuleLoadError,
    PolicyViolation,
    RuntimeClosed,
    WasmError,
)
from ..functions.target import Target
from ..invocation.fast_path import COLD
from ..invocation.off_loop import check_size, rendered
from ..invocation.options import Caller, CallOptions
from ..messages import EdgeRequest
from ..protocols.headers import with_request_id
from ..runtime.deployment import Deployment
from ..runtime.runtime import WasmRuntime
from ..sync.cancel_scope import Interrupted
from ..telemetry import NO_TELEMETRY, RequestTelemetry
from . import tenants
from .body import gone, read_body
from .coalesce import send_in_one_write
from .forms import encode_form, with_length
from .problems import GONE, has_handler, problem, send_problem
from .scope import RUNTIME, SENT_AS, adopt, body_follows, fitted, region_of, request_id_of, tell_route
from .serve import Matched, request_of, serve
from .signatures import Declared, identifier
from .templates import Place, Whereabouts, each_route, mount_template, routes_of

Call = Callable[[Request | EdgeRequest], Awaitable[Response]]
"""Runs the function: a Starlette request or an EdgeRequest in, a Starlette response out."""
_REQUEST_ID = "starlette_wasm.request_id"
"""In the scope: that of the last call, as bytes, for the answer to its fault."""
Handler = Callable[[Request, Call], Awaitable[Response]]
# What is wrong with the route itself, and would have stopped the start had the route been found there.
_AT_START = (ConfigError, FunctionNotFound, ModuleLoadError, PolicyViolation)
_FAULTS = (WasmError, ClientDisconnect, Interrupted)


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """Which function, version and policy a route or endpoint names."""

    function: str
    version: str | None
    policy: str | None
    runtime: WasmRuntime | None

    def target(self, server: WasmRuntime | Deployment, path: str, *, where: str = "") -> Target:
        """Bind to a runtime, or to what it serves next; ``path`` is the route's pattern."""
        return server.target(self.function, self.version, self.policy, route=path, where=where)

    def adopt(self, scope: Scope) -> None:
        """Give the request the id that the app wants it to have."""
        runtime: WasmRuntime | None = self.runtime or scope.get(RUNTIME)
        if runtime is not None:
            adopt(scope, runtime.request_settings)

    def exchange(self, scope: Scope, place: Place, *, since: int = 0) -> RequestTelemetry:
        """Return the request, for whoever listens to its runtime."""
        runtime: WasmRuntime | None = self.runtime or scope.get(RUNTIME)
        if runtime is None:
            return NO_TELEMETRY
        route = place.whole(scope) if scope.get("root_path") else place.route
        return runtime.telemetry.exchange(scope, route, since=since or scope.get(COLD, 0))

    async def runtime_for(self, scope: Scope) -> tuple[WasmRuntime, int]:
        """Return the runtime of a request, and since when it waited for it to start: ns since the epoch, or 0."""
        runtime = self.runtime or scope.get(RUNTIME)
        if runtime is None:
            raise ConfigError(
                f"the route of function {self.function!r} has no runtime",
                hint="add WasmMiddleware to the app, or give the route runtime=",
            )
        if self.runtime is None or runtime.is_open or runtime.state == "closed":
            return runtime, scope.get(COLD, 0)
        since = scope[COLD] = time.time_ns()
        await runtime.start(for_request=True)
        return runtime, since


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
        runtime, cold = await self.wasm.runtime_for(scope)
        adopt(scope, runtime.request_settings)
        place = self._whereabouts.place(scope)
        tell_route(scope, place.route)
        with self.wasm.exchange(scope, place, since=cold) as exchange:
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
        self.wasm.adopt(scope)
        place = self._whereabouts.place(scope)
        tell_route(scope, place.route)
        exchange = self.wasm.exchange(scope, place)
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
            response = await self._handler(request, partial(_call, wasm, place, request, exchange))
        except _FAULTS as error:
            response = _fault(error, request, wasm, exchange)
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

    async def endpoint(request: Request, **_: str) -> Response:
        wasm.adopt(request.scope)
        place = whereabouts.place(request.scope)
        tell_route(request.scope, place.route)
        with wasm.exchange(request.scope, place) as exchange:
            try:
                response = await _call(wasm, place, request, exchange, request)
            except _FAULTS as error:
                response = _fault(error, request, wasm, exchange)
            exchange.answered(response.status_code)
        return response

    endpoint.__name__ = endpoint.__qualname__ = identifier(function)
    endpoint.__doc__ = None
    endpoint.wasm = wasm  # type: ignore[attr-defined]
    endpoint.__signature__ = Declared()  # type: ignore[attr-defined]
    whereabouts = Whereabouts(endpoint)
    return endpoint


def _fault(error: Exception, request: Request, wasm: FunctionRef, exchange: RequestTelemetry) -> Response:
    """Return the answer to one of ``_FAULTS``: problem+json. Raises it if it is not ours to answer."""
    if not isinstance(error, WasmError):
        return Response(status_code=GONE)
    if isinstance(error, _AT_START) or has_handler(request.scope, error):
        raise error
    exchange.failed(error)
    runtime: WasmRuntime | None = wasm.runtime or request.scope.get(RUNTIME)
    used: bytes | None = request.scope.get(_REQUEST_ID)
    request_id = request_id_of(request.scope) if used is None else used.decode("ascii")
    status, headers, body = problem(runtime is not None and runtime.debug, error, request_id)
    headers = [(b"content-type", b"application/problem+json"), *fitted(request.scope, headers)]
    if request.method == "HEAD":
        return _response(status, [*headers, (b"content-length", b"%d" % len(body))], b"")
    return _response(status, headers, body)


async def _call(
    wasm: FunctionRef, place: Place, outer: Request, exchange: RequestTelemetry, given: Request | EdgeRequest
) -> Response:
    """Run the function for ``given``, in place of the request ``outer``."""
    scope = outer.scope
    runtime, cold = scope.get(RUNTIME), 0
    if wasm.runtime is not None or runtime is None or COLD in scope:
        runtime, cold = await wasm.runtime_for(scope)
    target = runtime.target(wasm.function, wasm.version, wasm.policy, route=place.route or wasm.function)
    if not runtime.tenancy.active:
        return await _answered(runtime, target, place, outer, exchange, given, cold)
    usage = await tenants.usage_of(runtime, scope)
    tenants.ask(usage, target)
    with tenants.place_of(usage, target):
        return await _answered(runtime, target, place, outer, exchange, given, cold)


async def _answered(
    runtime: WasmRuntime,
    target: Target,
    place: Place,
    outer: Request,
    exchange: RequestTelemetry,
    given: Request | EdgeRequest,
    cold: int,
) -> Response:
    scope = outer.scope
    path = place.within
    if isinstance(given, EdgeRequest):
        if not _compat.is_stream_consumed(outer):
            await _body(outer, outer, target, runtime)  # or the wait for a disconnect would take it away
        options = CallOptions(_caller(outer, cold, exchange), path, Headers(scope=scope))
        return await _run(runtime, target, outer, given, options)
    body: bytes | None = getattr(given, "_body", None)
    if body is None:
        if given is outer and not _compat.is_stream_consumed(given) and not body_follows(scope, target.max_body):
            given._body = body = b""
        else:
            body = await _body(given, outer, target, runtime)
    scope = given.scope
    within = get_route_path(scope) if scope.get("root_path") else scope["path"]
    started: Started | None = None
    if given is outer:  # what a handler has made may not announce its body
        params = scope.get("path_params") or {}  # none without a router
        settings = runtime.request_settings
        region = region_of(settings, scope) if settings.trust_region_header else settings.region
        found = runtime.fast_path.run(target, scope, within, params, body, region, exchange, path)
        if type(found) is Completed:
            scope[_REQUEST_ID] = found.request_id
            headers = found.headers if SENT_AS not in scope else fitted(scope, found.headers)
            return _Answer(found.status, headers, found.body)
        started = found if isinstance(found, Started) else None
        encoded = None
        if started is None:
            encoded = runtime.fast_path.encode(target, scope, within, params, body, region, exchange, path)
        if encoded is not None:
            scope[_REQUEST_ID] = encoded.request_id.encode("ascii")
            options = CallOptions(_caller(outer, cold, exchange), path)
            status, headers, content = await runtime.invoker.answer(target, encoded, outer.method, region, options)
            return _Answer(status, fitted(scope, headers), content)
    with started or nullcontext():
        request = await request_of(target, scope, body, path=within, params=given.path_params, waits=started is None)
        options = CallOptions(_caller(outer, cold, exchange), path, started=started)
        return await _run(runtime, target, outer, request, options)


def _caller(outer: Request, cold: int, exchange: RequestTelemetry) -> Caller:
    """Return who waits for the answer to a request whose body was read."""
    on_disconnect = partial(gone, outer.scope, outer.receive, bool(getattr(outer, "_body", b"")))
    return Caller(outer.scope.get("client"), cold, on_disconnect, exchange)


async def _run(
    runtime: WasmRuntime, target: Target, outer: Request, request: EdgeRequest, options: CallOptions
) -> Response:
    """Return the answer to ``request``, under the id that stays with ``outer``."""
    await check_size(target, request)
    try:
        response = await runtime.invoker.call(target, request, options)
    finally:
        if request.context is not None:
            outer.scope[_REQUEST_ID] = request.context.request_id.encode("ascii")
    assert request.context is not None
    status, found, body = await rendered(target.tenant, response, outer.method)
    return _Answer(status, fitted(outer.scope, with_request_id(found, request.context.request_id)), body)


async def _body(request: Request, outer: Request, target: Target, runtime: WasmRuntime) -> bytes:
    """Return the body, which is left where Starlette keeps it once it was read."""
    body = _compat.read_body(request)
    if body is None:
        form = _compat.read_form(request)
        if form is not None:
            body = await encode_form(form, request.headers.get("content-type", ""), target.max_body, target.tenant)
            request.scope["headers"] = with_length(request.scope["headers"], len(body))
        elif _compat.is_stream_consumed(request):
            raise RuntimeError("the handler has consumed the request's stream; read it with request.body()")
        # One that the handler has made may have a body that its scope does not announce.
        elif body_follows(request.scope, target.max_body) or request is not outer:
            body = await read_body(runtime, request.receive, target.max_body)
        else:
            body = b""
        _compat.keep_body(request, body)
    return body


def _response(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Response:
    ours = any(name == b"content-length" for name, _ in headers)
    if not ours and status not in (204, 304):
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    return _Answer(status, headers, body)


class _Answer(Response):
    """A response with just these headers, which Response would work out anew."""

    body: bytes

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = headers

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        sending = send_in_one_write(receive, send, self.status_code, self.raw_headers, self.body)
        return sending if self.background is None else _then(sending, self.background)


async def _then(sending: Coroutine[Any, Any, None], background: BackgroundTask) -> None:
    await sending
    await background()


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
