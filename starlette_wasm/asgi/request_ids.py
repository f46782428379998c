"""The id of a request: the one that middleware outside chose, and one header for it on the answer.

Everything behind this reads the id in the request's ``x-request-id`` and puts it into the answer under that name. Where
the app wants it otherwise, adopt() prepares the scope, and fitted() renames the header of the answer or leaves it out.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from starlette.types import Scope

from ..config.settings import REQUEST_ID_HEADER, RequestSettings
from ..messages import is_request_id, new_request_id

Headers = list[tuple[bytes, bytes]]
_SENT_AS = "starlette_wasm.request_id_header"
"""In the scope: the name under which the answer carries the id, empty if it does not. Absent: x-request-id."""
_NO_STATE: dict[str, Any] = {}


def adopt(scope: Scope, request_settings: RequestSettings) -> None:
    """Give the request the id that middleware outside chose, or that its own header has."""
    name = request_settings.request_id_header
    outside = _outside(scope, name)
    stated = (scope.get("state") or _NO_STATE).get("request_id")
    if outside is None and stated is None and name == REQUEST_ID_HEADER:
        return
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
        scope[_SENT_AS] = sent_as
    given = [value.decode("latin-1") for each, value in scope["headers"] if each == (name or REQUEST_ID_HEADER)]
    known = [str(each) for each in (outside and outside.id, stated, *given[:1]) if each]
    chosen = next(filter(is_request_id, known), None) or new_request_id()
    if given != [chosen] or name not in (b"", REQUEST_ID_HEADER):
        others = [header for header in scope["headers"] if header[0] != REQUEST_ID_HEADER]
        scope["headers"] = [*others, (REQUEST_ID_HEADER, chosen.encode("ascii"))]


def _header_of_library(scope: Scope) -> bytes:
    """The header that asgi-correlation-id sets, lower case."""
    for each in getattr(scope.get("app"), "user_middleware", ()):
        if getattr(each.cls, "__module__", "").startswith("asgi_correlation_id"):
            return str(each.kwargs.get("header_name", "x-request-id")).lower().encode("latin-1")
    return REQUEST_ID_HEADER


def fitted(scope: Scope, headers: Headers) -> Headers:
    """The headers of an answer, with the id under the name that is wanted, once or not at all."""
    sent_as: bytes | None = scope.get(_SENT_AS)
    if sent_as is None:
        return headers
    kept = [header for header in headers if header[0] != sent_as]
    if not sent_as:
        return [header for header in kept if header[0] != REQUEST_ID_HEADER]
    return [(sent_as if name == REQUEST_ID_HEADER else name, value) for name, value in kept]
