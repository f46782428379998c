"""From an ASGI request to a function and back: shared by the middleware and the routes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from ..engine.fast_path import Completed, NotTaken, Started
from ..engine.native.library import native
from ..exceptions import FunctionError, FunctionOverloaded, RequestTimeout, RequestTooLarge, RuntimeClosed, WasmError
from ..functions.target import Target
from ..invocation.context import trusted_region
from ..invocation.fast_path import COLD
from ..invocation.off_loop import LONGEST_WAIT, is_large_scope, off_loop, rendered
from ..invocation.options import Caller, CallOptions
from ..messages import EdgeRequest, is_request_id, join, new_request_id
from ..sync.cancel_scope import Interrupted, OnDisconnect
from ..sync.timeout import within
from ..telemetry import RequestTelemetry
from .coalesce import send_in_one_write
from .request_ids import fitted
from .templates import rule_template
from .tenants import ask, place_of, usage_of

if TYPE_CHECKING:
    from ..pipelines.plan import Pipeline
    from ..runtime.runtime import WasmRuntime

RUNTIME = "starlette_wasm.runtime"
"""The key in an ASGI scope under which the nearest enclosing WasmMiddleware leaves its runtime."""
MAX_HEAD = 64 << 10
"""Bytes of path, query and headers: no policy bounds them, and not every server does."""
_REPLAY_PAUSE = 0.05
_ANNOUNCED = ("1.1", "1.0")
"""HTTP versions in which a request without content-length and transfer-encoding has no body (RFC 9112, section 6.3)."""
_WITHOUT_BODY = ("GET", "HEAD")
"""The versions for which that is believed: not every gateway before an ASGI app hands on the length of a POST."""
GONE = 499
"""The status of an answer to a client that has gone away, for those that look at it: other middleware, logs, traces."""
Headers = list[tuple[bytes, bytes]]


def body_follows(scope: Scope, limit: int) -> bool:
    """Whether there may be a body. Raises RequestTooLarge, of the head too, if that is known already."""
    if native is not None and (found := native.follows(scope, limit, MAX_HEAD)) is not None:
        return found
    return _may_follow(scope, limit) and not _expects_nothing(scope)


def _expects_nothing(scope: Scope) -> bool:
    """Whether ``100 Continue`` is expected for a body of no bytes: to ask the server for it would send that answer."""
    expects = announced = False
    for name, value in scope["headers"]:
        if name == b"expect":
            expects = True
        elif name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
            announced = True
    return expects and not announced and scope.get("http_version") in _ANNOUNCED


def _may_follow(scope: Scope, limit: int) -> bool:
    size, follows = len(scope["path"]) + len(scope.get("query_string", b"")), False
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name == b"transfer-encoding":
            follows = True
        elif name == b"content-length":
            follows = follows or value.strip(b"0") != b""
            if value.isdigit() and (len(value) > 18 or int(value) > limit):
                raise RequestTooLarge(limit)
    if size > MAX_HEAD:
        raise RequestTooLarge(MAX_HEAD, "head")
    return follows or scope.get("http_version") not in _ANNOUNCED or scope["method"] not in _WITHOUT_BODY


async def read_body(runtime: WasmRuntime, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises RequestTooLarge as soon as that is known, RequestTimeout where it does not come within
    ``body_timeout_ms``, RuntimeClosed where draining ends before, and ClientDisconnect."""
    limit_ms = runtime.settings.body_timeout_ms
    try:
        return await within(_read(receive, limit), limit_ms, RequestTimeout, partial(runtime.invoker.guard, None))
    except Interrupted:
        raise RuntimeClosed(runtime.state) from None


async def _read(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] | None = None
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body = message.get("body", b"")
        size += len(body)
        if size > limit:
            raise RequestTooLarge(limit)
        if chunks is not None:
            chunks.append(body)
        if not message.get("more_body", False):
            return body if chunks is None else b"".join(chunks)
        if chunks is None:
            chunks = [body]


def replayed(request: Request, receive: Receive) -> Receive:
    """``receive`` from the start of the body again, if it was read with ``request.body()``."""
    body: bytes | None = getattr(request, "_body", None)
    if body is None:
        return receive
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


async def disconnected(receive: Receive) -> None:
    """Returns when the client has gone away. The body must have been read, if there is one."""
    if (await receive())["type"] == "http.disconnect":
        return  # else it was the empty body of a request that has none, or a replay
    while (await receive())["type"] != "http.disconnect":
        # Middleware that has read the body may replay it for ever, at once.
        await asyncio.sleep(_REPLAY_PAUSE)


def gone_of(scope: Scope, receive: Receive, body: bytes) -> OnDisconnect | None:
    """What notices that the client has gone away, once the body has been read.

    None for a request that expects ``100 Continue`` and has no body: a server sends that at the first ``receive()``,
    and may not if nothing is awaited (RFC 9110, section 10.1.1).
    """
    if not body and header(scope, b"expect") is not None:
        return None
    return partial(disconnected, receive)


@dataclass(slots=True)
class Matched:
    """A request for which a rule or a route was found."""

    scope: Scope
    receive: Receive
    send: Send
    path: str
    """The path inside the mount."""
    params: dict[str, str]
    region: str
    exchange: RequestTelemetry
    route: str = ""
    """The path pattern for the guest's environment, if it is not the target's."""
    raises: bool = False
    """Whether faults are raised for which the app has an exception handler."""
    copied: bool = False
    """Whether the request is needed again, for a shadow copy; else its body may go to the guest as it comes."""


async def serve(
    runtime: WasmRuntime,
    target: Target | Pipeline,
    matched: Matched,
    *,
    follows: bool | None = None,
    tried: Completed | Started | NotTaken | None = None,
) -> EdgeRequest | None:
    """Answer a request with a function or a pipeline. Gives the request, if a guest has decided the answer.

    Faults become problem+json. ``tried`` is what the fast path gave, and ``follows`` what body_follows() gave; None if
    they were not asked. An answer of the fast path leaves no request.
    """
    if type(target) is Target and target.streams:
        from .streamed import stream  # which imports this

        return await stream(runtime, target, matched)
    scope, receive, exchange = matched.scope, matched.receive, matched.exchange
    path, params = matched.path, matched.params
    send = exchange.send(matched.send)
    request: EdgeRequest | None = None
    try:
        usage = await usage_of(runtime, scope) if runtime.tenancy.active else None
        ask(usage, target)
        limit = target.max_body
        body = b""
        found = tried
        if body_follows(scope, limit) if follows is None else follows:
            body = await read_body(runtime, receive, limit)
        with place_of(usage, target):
            if tried is None:
                found = runtime.fast_path.run(target, scope, path, params, body, matched.region, exchange)
            if type(found) is Completed:
                status, headers, content = found.status, found.headers, found.body
            else:
                started = found if isinstance(found, Started) else None
                with started or nullcontext():
                    request = await request_of(target, scope, body, path=path, params=params, waits=started is None)
                    caller = Caller(scope.get("client"), scope.get(COLD, 0), gone_of(scope, receive, body), exchange)
                    if isinstance(target, Target):
                        options = CallOptions(caller, matched.route, started=started)
                        response = await runtime.invoker.call(target, request, options)
                    else:
                        response = await runtime.call_pipeline(target, request, caller)
                assert request.context is not None
                status, headers, content = await rendered(target.tenant, response, scope["method"])
                headers = with_request_id(headers, request.context.request_id)
    except WasmError as error:
        exchange.failed(error)
        if matched.raises and has_handler(scope, error):
            raise
        await send_problem(runtime.debug, error, scope, send, request)
        return request if isinstance(error, FunctionError) else None
    except (ClientDisconnect, Interrupted):
        await send_gone(send)
        return None
    await send_in_one_write(receive, send, status, fitted(scope, headers), content)
    return request


async def send_gone(send: Send) -> None:
    """Answer a client that has gone away, for whoever looks at the status."""
    with suppress(OSError):
        await send({"type": "http.response.start", "status": GONE, "headers": []})
        await send({"type": "http.response.body"})


async def request_of(
    target: Target | Pipeline, scope: Scope, body: bytes, *, path: str, params: Mapping[str, object], waits: bool
) -> EdgeRequest:
    """``EdgeRequest.from_scope()``, in a thread if the request is large.

    Not if a guest has begun, which ``waits`` denies: it holds an instance, and fast_path.c only takes a head that is
    cheap to read.
    """
    read = partial(EdgeRequest.from_scope, scope, body, path=path, params=params)
    if waits and is_large_scope(scope, body):
        limit = target.plan.limits.time if isinstance(target, Target) else LONGEST_WAIT
        request = await off_loop(target.tenant, read, limit)
    else:
        request = read()
    if scope.get("root_path") and (type(target) is not Target or target.protocol.name == "cgi"):
        request.mount = rule_template(scope, "")
    return request


def region_of(runtime: WasmRuntime, scope: Scope) -> str:
    """The region of a request: the node's, or the one in its ``x-region`` where that is trusted."""
    request_settings = runtime.request_settings
    return (
        trusted_region(request_settings, header(scope, b"x-region"))
        if request_settings.trust_region_header
        else request_settings.region
    )


def asked_version(runtime: WasmRuntime, scope: Scope) -> str | None:
    """Return the version that the request asks for in ``x-wasm-version``, if that is heard; an empty one is none."""
    return (header(scope, b"x-wasm-version") or None) if runtime.request_settings.allow_version_header else None


def header(scope: Scope, wanted: bytes) -> str | None:
    """Return the value of a header, as guests get it."""
    values = [value for name, value in scope["headers"] if name == wanted]
    return join(wanted.decode("latin-1"), [value.decode("latin-1") for value in values]) if values else None


def has_handler(scope: Scope, error: WasmError) -> bool:
    """Whether the app has registered a handler for this error."""
    handlers: dict[Any, Any] = scope.get("starlette.exception_handlers", ({}, {}))[0]
    return any(kind in handlers for kind in type(error).__mro__ if kind not in (Exception, BaseException, object))


def with_request_id(headers: Headers, request_id: str) -> Headers:
    headers = [header for header in headers if header[0] != b"x-request-id"]
    headers.append((b"x-request-id", request_id.encode("ascii")))
    return headers


def problem(debug: bool, error: WasmError, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of the answer to a fault (RFC 9457)."""
    document = {"type": error.slug, "title": error.title, "status": error.status, "request_id": request_id}
    detail = str(error) if debug else error.detail
    if detail is not None:
        document["detail"] = detail
    headers: Headers = [(b"x-request-id", request_id.encode("ascii"))]
    if isinstance(error, FunctionOverloaded):
        headers.append((b"retry-after", str(error.retry_after).encode("ascii")))
    elif isinstance(error, RequestTimeout | RequestTooLarge):
        headers.append((b"connection", b"close"))  # or the server would wait for the rest
    return error.status, headers, json.dumps(document).encode()


async def send_problem(debug: bool, error: WasmError, scope: Scope, send: Send, request: EdgeRequest | None) -> None:
    context = request.context if request is not None else None
    request_id = context.request_id if context is not None else request_id_of(scope)
    status, headers, body = problem(debug, error, request_id)
    await send_plain(scope, send, status, b"application/problem+json", body, fitted(scope, headers))


async def send_method_not_allowed(scope: Scope, send: Send, allowed: Iterable[str]) -> None:
    """405, as problem+json, for a pattern whose rules are for other methods."""
    request_id = request_id_of(scope)
    document = {"type": "method-not-allowed", "title": "method not allowed", "status": 405, "request_id": request_id}
    headers = [(b"allow", ", ".join(allowed).encode("ascii")), (b"x-request-id", request_id.encode("ascii"))]
    await send_plain(
        scope, send, 405, b"application/problem+json", json.dumps(document).encode(), fitted(scope, headers)
    )


async def send_plain(
    scope: Scope,
    send: Send,
    status: int,
    kind: bytes,
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    all_headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def request_id_of(scope: Scope) -> str:
    """The ``x-request-id`` of a request if it is well formed, else a new one."""
    given = header(scope, b"x-request-id")
    return given if given is not None and is_request_id(given) else new_request_id()
