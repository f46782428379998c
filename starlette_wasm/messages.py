"""What goes into a function and what comes out of it.

Plain dataclasses, no models: a request is built for every call, and nothing in it needs validation, since the
host made it.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from starlette.datastructures import URL
from starlette.types import Scope

# A Host header that needs no further look: a name or IPv4 address, and a port that is in range as it has at
# most four digits. Everything else, valid or not, goes through Starlette.
# Ports up to 64999: Starlette takes no host whose port is over 65535.
_PLAIN_HOST = re.compile(r"[A-Za-z0-9._-]+(?::(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?").fullmatch
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._~!$&'()*+,;=:@-]*").fullmatch  # RFC 3986, pchar without escapes
_PATH = "/!$&'()*+,;=:@"
_ESCAPES = {byte: f"%{byte:02X}" for byte in range(0x80, 0x100)}
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}").fullmatch


def to_utf8(text: str) -> bytes:
    """Encode ``text``; a lone surrogate, which UTF-8 cannot express, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def join(name: str, values: Iterable[str]) -> str:
    """Join a header that comes more than once into one value (RFC 9110, 5.2; cookies as RFC 9113, 8.2.3)."""
    return ("; " if name == "cookie" else ", ").join(values)


def pairs(query: str) -> Iterator[tuple[str, str]]:
    """Yield names and values of a query: as ``parse_qsl(query, keep_blank_values=True)``, in a third of its time."""
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            yield _decoded(name), _decoded(value)


def _decoded(text: str) -> str:
    return unquote(text.replace("+", " ")) if "%" in text or "+" in text else text


def is_request_id(text: str) -> bool:
    """Return whether an incoming ``x-request-id`` may be taken over: up to 128 letters, digits and ``. _ : -``."""
    return _REQUEST_ID(text) is not None


def new_request_id() -> str:
    """Make a request id: 128 random bits as 32 hexadecimal digits."""
    return os.urandom(16).hex()


@dataclass(slots=True)
class EdgeContext:
    """The host's facts for a function about its invocation.

    ``deadline_ms`` is the time left, in milliseconds, when the function starts. ``traceparent`` and
    ``tracestate`` (W3C Trace Context) are those of the function's own span, None without tracing.
    """

    request_id: str
    region: str = ""
    cold_start: bool = False
    function: str = ""
    version: str = ""
    deadline_ms: int = 0
    traceparent: str | None = None
    tracestate: str | None = None


@dataclass(slots=True)
class EdgeRequest:
    """One request to a function.

    ``headers`` has lower-case names, repeated ones joined with ``, `` (``cookie`` with ``; ``); ``query`` the
    last value of a repeated key. ``multi_value_headers`` and ``multi_value_query`` hold all values, only of
    those names that occur more than once. ``body`` is None when empty, and base64 where ``is_base64_encoded``
    (of bytes that are not UTF-8). ``context`` is filled in by the runtime. ``raw_path`` is the path as the
    client sent it, percent-encoded and with the mount's prefix, empty if there was no client; only the ``cgi``
    protocol passes it on by itself, others in ``url``.
    """

    path: str = "/"
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    is_base64_encoded: bool = False
    params: dict[str, str] = field(default_factory=dict)
    url: str = ""
    multi_value_headers: dict[str, list[str]] = field(default_factory=dict)
    multi_value_query: dict[str, list[str]] = field(default_factory=dict)
    context: EdgeContext | None = None
    raw_path: str = ""
    mount: str = ""
    """The template of what the app is mounted at, such as ``/tenants/{tenant}``; also only for ``cgi``."""

    @property
    def content(self) -> bytes:
        """The body as bytes.

        Raises:
            ValueError: ``is_base64_encoded`` is set and the body is not base64.
        """
        if not self.body:
            return b""
        return a2b_base64(self.body, strict_mode=True) if self.is_base64_encoded else to_utf8(self.body)

    @property
    def size(self) -> int:
        """Bytes of the body; base64 is not decoded for it."""
        body = self.body
        if not body:
            return 0
        if self.is_base64_encoded:
            return len(body) // 4 * 3 - body[-2:].count("=")
        return len(body) if body.isascii() else len(to_utf8(body))

    @classmethod
    def from_scope(cls, scope: Scope, body: bytes, *, path: str, params: Mapping[str, object]) -> EdgeRequest:
        """Build a request from an ASGI ``http`` scope and its whole body.

        ``path`` is the path inside the mount, ``params`` the path parameters of the route, of any type.
        """
        headers: dict[str, str] = {}
        repeated: dict[str, list[str]] = {}
        for raw_name, raw_value in scope["headers"]:
            name = raw_name.decode("latin-1").lower()
            value = raw_value.decode("latin-1")
            if name in headers:
                repeated.setdefault(name, [headers[name]]).append(value)
            else:
                headers[name] = value
        for name, values in repeated.items():
            headers[name] = join(name, values)

        query: dict[str, str] = {}
        repeated_query: dict[str, list[str]] = {}
        query_string: bytes = scope.get("query_string", b"")
        if query_string:
            for name, value in pairs(query_string.decode("latin-1")):
                if name in query:
                    repeated_query.setdefault(name, [query[name]]).append(value)
                query[name] = value

        text: str | None = None
        is_base64 = False
        if body:
            try:
                text = body.decode()
            except UnicodeDecodeError:
                text = b64encode(body).decode("ascii")
                is_base64 = True

        raw_path = _raw_path(scope)
        return cls(
            path,
            scope["method"],
            headers,
            query,
            text,
            is_base64,
            {name: param if isinstance(param, str) else str(param) for name, param in params.items()} if params else {},
            _full_url(scope, raw_path, headers, query_string),
            repeated,
            repeated_query,
            None,
            raw_path,
        )


def _raw_path(scope: Scope) -> str:
    """Return the path as the client sent it, bytes beyond ASCII percent-encoded. It is made from the decoded path if
    the server gives none, or if the server's is not of this path, as behind a middleware that rewrites it.
    """
    path: str = scope["path"]
    given: bytes | None = scope.get("raw_path")
    if given:
        raw = given.partition(b"?")[0].decode("latin-1")
        if not raw.isascii():
            raw = raw.translate(_ESCAPES)
        if raw == path or unquote(raw) == path:
            return raw
        root: str = scope.get("root_path", "")
        if root and path == root + unquote(raw):  # of which not every server puts the prefix before both
            return quote(root, safe=_PATH) + raw
    return path if _PLAIN_PATH(path) else quote(path, safe=_PATH, errors="replace")


def _full_url(scope: Scope, path: str, headers: dict[str, str], query_string: bytes) -> str:
    """Build the same as ``str(URL(scope=scope))``, with the path as it was sent, and without that object if the scope
    is a common one.
    """
    if not query_string.isascii():
        # RFC 3986 has only ASCII in a query; servers let other bytes pass, and URL() raises for some.
        query_string = quote(query_string, safe="!#$%&'()*+,/:;=?@[]~").encode("ascii")
    host = headers.get("host")
    if host is not None and path[:1] == "/" and _PLAIN_HOST(host):
        url = f"{scope.get('scheme', 'http')}://{host}{path}"
        return f"{url}?{query_string.decode('ascii')}" if query_string else url
    server = scope.get("server")
    if server is not None and server[1] is None:
        server = None  # a Unix socket, whose "host" is a file name
    return str(URL(scope={**scope, "path": path, "query_string": query_string, "server": server}))


@dataclass(slots=True)
class EdgeResponse:
    """What a function answered.

    ``headers`` maps a name to a value, or to a list for repeated ones such as ``set-cookie``. ``body`` is
    base64 where ``is_base64_encoded``.
    """

    status_code: int
    headers: dict[str, str | list[str]] = field(default_factory=dict)
    body: str = ""
    is_base64_encoded: bool = False
    _length: int | None = field(default=None, init=False, repr=False, compare=False)
    _decoded: tuple[str, bytes] | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of_guest(cls, status: int, headers: dict[str, str | list[str]], body: str, declared: int) -> EdgeResponse:
        """Make what a guest answered and was checked; ``declared`` is its own content-length, -1 if it gave none."""
        response = cls(status, headers, body)
        if declared >= 0:
            response._length = declared
        return response

    @property
    def content(self) -> bytes:
        """The body as bytes.

        Raises:
            ValueError: ``is_base64_encoded`` is set and the body is not base64.
        """
        if not self.is_base64_encoded:
            return to_utf8(self.body)
        # Checked when the guest answers, sent later: the bytes are kept, for as long as the body is the same.
        if self._decoded is None or self._decoded[0] is not self.body:
            self._decoded = (self.body, a2b_base64(self.body, strict_mode=True))
        return self._decoded[1]
