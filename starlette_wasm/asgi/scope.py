"""What is read of an ASGI scope and left in it: id, template, header, region, and whether a body follows.

Everything behind adopt() reads the id of a request in its ``x-request-id`` and puts it into the answer under that name.
If the app wants it otherwise, adopt() prepares the scope, and fitted() renames the header of the answer or leaves it
out.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.types import Scope

from ..config.settings import REQUEST_ID_HEADER, RequestSettings
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
WITHOUT_BODY = ("GET", "HEAD")
"""The versions for which that is believed: not every gateway before an ASGI app hands on the length of a POST."""
Headers = list[tuple[bytes, bytes]]
SENT_AS = "starlette_wasm.request_id_header"
"""In the scope: the name under which the answer carries the id, empty if it does not. Absent: x-request-id."""
_NO_STATE: dict[str, Any] = {}


def header(scope: Scope, wanted: bytes) -> str | None:
    """Return the value of a header, as guests get it."""
    values = [value for name, value in scope["headers"] if name == wanted]
    return join(wanted.decode("latin-1"), [value.decode("latin-1") for value in values]) if values else None


def region_of(request_settings: RequestSettings, scope: Scope) -> str:
    """Return the region of a request: the node's, or the one in its ``x-region`` if that is trusted."""
    return (
        trusted_region(request_settings, header(scope, b"x-region"))
        if request_settings.trust_region_header
        else request_settings.region
    )


def asked_version(runtime: WasmRuntime, scope: Scope) -> str | None:
    """Return the version that the request asks for in ``x-wasm-version``, if that is heard; an empty one is none."""
    return (header(scope, b"x-wasm-version") or None) if runtime.request_settings.allow_version_header else None


def request_id_of(scope: Scope) -> str:
    """Return the ``x-request-id`` of a request if it is well formed, else a new one."""
    given = header(scope, b"x-request-id")
    return given if given is not None and is_request_id(given) else new_request_id()


def body_follows(scope: Scope, limit: int) -> bool:
    """Return whether there may be a body. Raises RequestTooLarge, of the head too, if that is known already."""
    if native is not None and (found := native.follows(scope, limit, MAX_HEAD)) is not None:
        return found
    return _may_follow(scope, limit) and not _expects_nothing(scope)


def _expects_nothing(scope: Scope) -> bool:
    """Return whether ``100 Continue`` is expected for a body of no bytes: asking the server for it would send that."""
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
    return follows or scope.get("http_version") not in _ANNOUNCED or scope["method"] not in WITHOUT_BODY


def adopt(scope: Scope, request_settings: RequestSettings) -> None:
    """Give the request the id that middleware outside chose, or that its own header has."""
    name = request_settings.request_id_header
    stated = (scope.get("state") or _NO_STATE).get("request_id")
    modules = sys.modules
    named = "asgi_correlation_id.context" in modules or "starlette_context" in modules
    outside = _outside(scope, name) if named else None
    if outside is not None or stated is not None or name != REQUEST_ID_HEADER:
        _rewrite(scope, name, outside, stated)


class _Outside(NamedTuple):
    """What a library's middleware outside chose."""

    id: str
    header: bytes
    """The header that the library appends to the answer."""


def _outside(scope: Scope, name: bytes) -> _Outside | None:
    library = sys.modules.get("asgi_correlation_id.context")
    if library is not None and (chosen := library.correlation_id.get()) is not None:
        return _Outside(chosen, _header_of_library(scope))
    library = sys.modules.get("starlette_context")
    if library is None or not library.context.exists():
        return None
    ids = {str(key).lower().encode("latin-1", "replace"): value for key, value in library.context.data.items()}
    header = name if name in ids else REQUEST_ID_HEADER
    return _Outside(str(ids[header]), header) if ids.get(header) else None


def _rewrite(scope: Scope, name: bytes, outside: _Outside | None, stated: object) -> None:
    sent_as = name
    if outside is not None and outside.id and name == outside.header:
        sent_as = b""  # the library appends its own
    if sent_as != REQUEST_ID_HEADER:
        scope[SENT_AS] = sent_as
    given = [value.decode("latin-1") for each, value in scope["headers"] if each == (name or REQUEST_ID_HEADER)]
    known = [str(each) for each in (outside and outside.id, stated, *given[:1]) if each]
    chosen = next(filter(is_request_id, known), None) or new_request_id()
    if given != [chosen] or name not in (b"", REQUEST_ID_HEADER):
        others = [header for header in scope["headers"] if header[0] != REQUEST_ID_HEADER]
        scope["headers"] = [*others, (REQUEST_ID_HEADER, chosen.encode("ascii"))]


def _header_of_library(scope: Scope) -> bytes:
    """Return the header that asgi-correlation-id sets, lower case."""
    for each in getattr(scope.get("app"), "user_middleware", ()):
        if getattr(each.cls, "__module__", "").startswith("asgi_correlation_id"):
            return str(each.kwargs.get("header_name", "x-request-id")).lower().encode("latin-1")
    return REQUEST_ID_HEADER


def fitted(scope: Scope, headers: Headers) -> Headers:
    """Return the headers of an answer, with the id under the name that is wanted, once or not at all."""
    sent_as: bytes | None = scope.get(SENT_AS)
    if sent_as is None:
        return headers
    kept = [header for header in headers if header[0] != sent_as]
    if not sent_as:
        return [header for header in kept if header[0] != REQUEST_ID_HEADER]
    return [(sent_as if name == REQUEST_ID_HEADER else name, value) for name, value in kept]


class ToldRoute(NamedTuple):
    """What the scope has as ``route``, as FastAPI leaves it there: for middleware that names requests by it."""

    path: str


@cache
def _told(path: str) -> ToldRoute:
    return ToldRoute(path)


def tell_route(scope: Scope, path: str) -> None:
    """Leave the template in the scope, unless a framework has done so, and name the transaction of Sentry by it."""
    if not path:
        return
    if "route" not in scope:
        scope["route"] = _told(path)
    sentry = sys.modules.get("sentry_sdk")
    if sentry is not None and hasattr(sentry, "get_client"):  # not of Sentry before 2
        _name_transaction(sentry, scope, path)


def _name_transaction(sentry: Any, scope: Scope, path: str) -> None:
    """Name Sentry's transaction: it does not know mounts, neither Starlette's nor ours, and takes the last part."""
    client = sentry.get_client()
    if not client.is_active() or ("endpoint" in scope and _by_endpoint(client)):
        return
    sentry.get_current_scope().set_transaction_name(path, source="route")


def _by_endpoint(client: Any) -> bool:
    """Return whether the user wants the names of endpoints."""
    integrations = (client.get_integration(name) for name in ("starlette", "fastapi"))
    return any(getattr(each, "transaction_style", "") == "endpoint" for each in integrations)
