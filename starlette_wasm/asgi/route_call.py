"""What ``call`` of a handler does: runs the function of a route for a Starlette request, and gives a response."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import nullcontext
from functools import partial
from typing import Any

from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .. import _compat
from .._compat import get_route_path
from ..engine.fast_path import Completed, NotTaken, Started
from ..exceptions import ConfigError, FunctionNotFound, ModuleLoadError, PolicyViolation, WasmError
from ..functions.target import Target
from ..invocation.fast_path import COLD
from ..invocation.off_loop import check_size, rendered
from ..invocation.options import Caller, CallOptions
from ..messages import EdgeRequest
from ..protocols.headers import with_request_id
from ..runtime.runtime import WasmRuntime
from ..sync.cancel_scope import Interrupted
from ..telemetry import RequestTelemetry
from . import tenants
from .body import gone, read_body
from .coalesce import send_in_one_write
from .forms import encode_form, with_length
from .function_ref import FunctionRef
from .problems import GONE, has_handler, problem
from .scope import RUNTIME, SENT_AS, body_follows, fitted, region_of, request_id_of
from .serve import request_of
from .templates import Place

_REQUEST_ID = "starlette_wasm.request_id"
"""In the scope: that of the last call, as bytes, for the answer to its fault."""
# What is wrong with the route itself, and would have stopped the start had the route been found there.
_AT_START = (ConfigError, FunctionNotFound, ModuleLoadError, PolicyViolation)
FAULTS = (WasmError, ClientDisconnect, Interrupted)


def fault_response(error: Exception, request: Request, wasm: FunctionRef, exchange: RequestTelemetry) -> Response:
    """Return the answer to one of ``FAULTS``: problem+json. Raises it if it is not ours to answer."""
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


async def call(
    wasm: FunctionRef, place: Place, outer: Request, exchange: RequestTelemetry, given: Request | EdgeRequest
) -> Response:
    """Run the function for ``given``, in place of the request ``outer``."""
    scope = outer.scope
    runtime, cold = scope.get(RUNTIME), 0
    if wasm.runtime is not None or runtime is None or COLD in scope:
        runtime, cold = await wasm.runtime_for(scope)
    target = runtime.target(wasm.function, wasm.version, wasm.policy, route=place.route or wasm.function)
    if not runtime.tenancy.active:
        found = None
        if given is outer and exchange.idle:
            if scope["method"] not in ("GET", "HEAD"):
                await _body(outer, outer, target, runtime)  # it may have one
            found = _at_once(runtime, target, place, outer, exchange)
        if isinstance(found, Response):
            return found
        return await _answered(runtime, target, place, outer, exchange, given, cold, found)
    usage = await tenants.usage_of(runtime, scope)
    tenants.take_request(usage, target)
    with tenants.hold_slot(usage, target):
        return await _answered(runtime, target, place, outer, exchange, given, cold)


def _at_once(
    runtime: WasmRuntime, target: Target, place: Place, outer: Request, exchange: RequestTelemetry
) -> Response | Started | None:
    """Answer on the fast path a request that has no body, or whose body was read, if nobody listens.

    Return its guest if it has begun one, and gives no answer.
    """
    body: bytes | None = getattr(outer, "_body", None)
    if body is None and _compat.is_stream_consumed(outer):
        return None
    scope, settings = outer.scope, runtime.request_settings
    within = get_route_path(scope) if scope.get("root_path") else scope["path"]
    region = region_of(settings, scope) if settings.trust_region_header else settings.region
    params = scope.get("path_params") or {}  # none without a router
    found = runtime.fast_path.answer(target, scope, within, params, body, region, exchange.trace, place.within)
    if isinstance(found, NotTaken):
        return None
    if body is None:
        _compat.keep_body(outer, b"")  # C has looked
    return _completed(scope, *found) if isinstance(found, tuple) else found


def _completed(scope: Scope, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Response:
    """Return the response with what C made of an answer; the last header has the request's id."""
    scope[_REQUEST_ID] = headers[-1][1]
    return _Answer(status, headers if SENT_AS not in scope else fitted(scope, headers), body)


async def _answered(
    runtime: WasmRuntime,
    target: Target,
    place: Place,
    outer: Request,
    exchange: RequestTelemetry,
    given: Request | EdgeRequest,
    cold: int,
    started: Started | None = None,
) -> Response:
    """Return the answer; ``started`` is a guest that has begun for the request ``outer``."""
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
    if given is outer and started is None:  # what a handler has made may not announce its body
        params = scope.get("path_params") or {}  # none without a router
        settings = runtime.request_settings
        region = region_of(settings, scope) if settings.trust_region_header else settings.region
        found = runtime.fast_path.run(target, scope, within, params, body, region, exchange, path)
        if type(found) is Completed:
            return _completed(scope, found.status, found.headers, found.body)
        started = found if isinstance(found, Started) else None
        encoded = None
        if started is None:
            encoded = runtime.fast_path.encode(target, scope, within, params, body, region, exchange, path)
        if encoded is not None:
            scope[_REQUEST_ID] = encoded.request_id.encode("ascii")
            status, headers, content = await runtime.invoker.answer(
                target, encoded, outer.method, region, lambda: CallOptions(_caller(outer, cold, exchange), path)
            )
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
