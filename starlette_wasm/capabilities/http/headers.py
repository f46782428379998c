"""Headers of a guest's request, and of the response to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..errors import CapabilityError, Code
from ..fields import bad_field

Headers = list[tuple[str, str]]

MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 << 10

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose content has a meaning (RFC 9110, section 9.3): what a server does with that of others is open."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
# RFC 9110, section 5.5, with obs-text.
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "te", "trailer", "trailers", "transfer-encoding", "upgrade", "http2-settings"}
)
_OURS = frozenset({"host", "content-length", "expect", "baggage"})
_DEFAULTS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "starlette-wasm"}
_CREDENTIALS = frozenset({"authorization", "cookie"})


def of_guest(pairs: Iterable[tuple[str, str]]) -> Headers:
    """Check a guest's headers: in lower case, without hop-by-hop and ``Proxy-`` ones and those that are ours to set.

    Raises CapabilityError.
    """
    headers: Headers = []
    for name, value in pairs:
        value = value.strip(" \t")
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise bad_field("headers", "has a name that is not a token, or a value with a character that none may have")
        headers.append((name.lower(), value))
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        raise bad_field("headers", f"has more than {MAX_HEADERS}, or more than {MAX_HEADER_BYTES} bytes")
    named = _named_by_connection(headers)
    return [
        (name, value)
        for name, value in headers
        if name not in _HOP_BY_HOP and name not in _OURS and name not in named and not name.startswith("proxy-")
    ]


def to_send(
    headers: Headers, *, host: str, method: str, length: int | None, extra: Mapping[str, str]
) -> list[tuple[bytes, bytes]]:
    """Return what goes out: ``extra``, which is the host's, takes the place of the guest's.

    ``length`` is that of the body, None if it is not known.
    """
    there = {name for name, _ in headers}
    extra = {name.lower(): value for name, value in extra.items()}
    out = [("host", host)]
    out += [(name, value) for name, value in headers if name not in extra]
    out += [(name, value) for name, value in _DEFAULTS.items() if name not in there and name not in extra]
    out += extra.items()
    if length is None:
        out.append(("transfer-encoding", "chunked"))
    elif length or method in WITH_BODY:
        out.append(("content-length", str(length)))
    if length != 0 and method not in WITH_BODY:
        out.append(("connection", "close"))
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in out]


def for_other_origin(headers: Headers) -> Headers:
    return [(name, value) for name, value in headers if name not in _CREDENTIALS]


def without_content(headers: Headers) -> Headers:
    """Drop what a redirect drops that turns a request into a GET (Fetch standard, HTTP-redirect fetch, step 12)."""
    return [(name, value) for name, value in headers if not name.startswith("content-")]


def of_response(raw: list[tuple[bytes, bytes]]) -> Headers:
    """Return them in lower case, without hop-by-hop ones. Raises CapabilityError."""
    if len(raw) > MAX_HEADERS or sum(len(name) + len(value) for name, value in raw) > MAX_HEADER_BYTES:
        raise CapabilityError(
            Code.TOO_LARGE, f"response too large: more than {MAX_HEADERS} headers, or {MAX_HEADER_BYTES} bytes of them"
        )
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw]
    named = _named_by_connection(headers)
    return [(name, value) for name, value in headers if name not in _HOP_BY_HOP and name not in named]


def _named_by_connection(headers: Headers) -> set[str]:
    return {each.strip(" \t").lower() for name, value in headers if name == "connection" for each in value.split(",")}
