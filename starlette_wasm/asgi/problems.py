"""Answers that no function gives: problem+json for faults, and what goes to a client that has gone away."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from starlette.types import Scope, Send

from ..exceptions import FunctionOverloaded, RequestTimeout, RequestTooLarge, WasmError
from .scope import fitted, request_id_of

GONE = 499
"""The status of an answer to a client that has gone away, for those that look at it: other middleware, logs, traces."""
Headers = list[tuple[bytes, bytes]]


def has_handler(scope: Scope, error: WasmError) -> bool:
    """Return whether the app has registered a handler for this error."""
    handlers: dict[Any, Any] = scope.get("starlette.exception_handlers", ({}, {}))[0]
    return any(kind in handlers for kind in type(error).__mro__ if kind not in (Exception, BaseException, object))


def problem(debug: bool, error: WasmError, request_id: str) -> tuple[int, Headers, bytes]:
    """Return status, headers and body of the answer to a fault (RFC 9457)."""
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


async def send_problem(debug: bool, error: WasmError, scope: Scope, send: Send, request_id: str | None) -> None:
    """Answer a fault; ``request_id`` is what a guest got, None if none has one."""
    status, headers, body = problem(debug, error, request_id or request_id_of(scope))
    await send_plain(scope, send, status, b"application/problem+json", body, fitted(scope, headers))


async def send_method_not_allowed(scope: Scope, send: Send, allowed: Iterable[str]) -> None:
    """Send 405, as problem+json, for a pattern whose rules are for other methods."""
    request_id = request_id_of(scope)
    document = {"type": "method-not-allowed", "title": "method not allowed", "status": 405, "request_id": request_id}
    headers = [(b"allow", ", ".join(allowed).encode("ascii")), (b"x-request-id", request_id.encode("ascii"))]
    await send_plain(
        scope, send, 405, b"application/problem+json", json.dumps(document).encode(), fitted(scope, headers)
    )


async def send_gone(send: Send) -> None:
    """Answer a client that has gone away, for whoever looks at the status."""
    with suppress(OSError):
        await send({"type": "http.response.start", "status": GONE, "headers": []})
        await send({"type": "http.response.body"})


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
