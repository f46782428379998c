"""Readers of an ASGI scope: header, region, request id, and whether a body follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.types import Scope

from ..engine.native.library import native
from ..exceptions import RequestTooLarge
from ..invocation.context import trusted_region
from ..messages import is_request_id, join, new_request_id

if TYPE_CHECKING:
    from ..runtime.runtime import WasmRuntime

RUNTIME = "starlette_wasm.runtime"
"""The key in an ASGI scope under which the nearest enclosing WasmMiddleware leaves its runtime."""
MAX_HEAD = 64 << 10
"""Bytes of path, query and headers: no policy bounds them, and not every server does."""
_ANNOUNCED = ("1.1", "1.0")
"""HTTP versions in which a request without content-length and transfer-encoding has no body (RFC 9112, section 6.3)."""
_WITHOUT_BODY = ("GET", "HEAD")
"""The versions for which that is believed: not every gateway before an ASGI app hands on the length of a POST."""


def header(scope: Scope, wanted: bytes) -> str | None:
    """Return the value of a header, as guests get it."""
    values = [value for name, value in scope["headers"] if name == wanted]
    return join(wanted.decode("latin-1"), [value.decode("latin-1") for value in values]) if values else None


def region_of(runtime: WasmRuntime, scope: Scope) -> str:
    """Return the region of a request: the node's, or the one in its ``x-region`` if that is trusted."""
    request_settings = runtime.request_settings
    return (
        trusted_region(request_settings, header(scope, b"x-region"))
        if request_settings.trust_region_header
        else request_settings.region
    )


def asked_version(runtime: WasmRuntime, scope: Scope) -> str | None:
    """Return the version that the request asks for in ``x-wasm-version``, if that is heard; an empty one is none."""
    return (header(scope, b"x-wasm-version") or None) if runtime.request_settings.allow_version_header else None


def request_id_of(scope: Scope) -> str:
    """The ``x-request-id`` of a request if it is well formed, else a new one."""
    given = header(scope, b"x-request-id")
    return given if given is not None and is_request_id(given) else new_request_id()


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
