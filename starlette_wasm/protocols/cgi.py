"""CGI/1.1 (RFC 3875) as WAGI and Spin's wagi executor speak it.

Source for what RFC 3875 leaves open: ``crates/http/src/wagi/mod.rs`` of spinframework/spin.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlencode

from starlette_wasm.messages import EdgeRequest, EdgeResponse, to_utf8
from starlette_wasm.protocols.errors import ResponseError
from starlette_wasm.protocols.headers import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    check_headers,
    check_name,
    check_status,
    check_value,
    declared_length,
)
from starlette_wasm.protocols.jsonscan import MAX_TOKENS

# Credentials, and what other variables hold (RFC 3875, section 4.1.18); what belongs to the connection; and
# Proxy, as HTTP_PROXY has a meaning to HTTP clients (https://httpoxy.org).
_HIDDEN = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "keep-alive",
        "proxy",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

_NAMES = frozenset(
    {
        *("GATEWAY_INTERFACE", "SERVER_PROTOCOL", "SERVER_SOFTWARE", "SERVER_NAME", "SERVER_PORT", "REQUEST_METHOD"),
        *("SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH"),
        *("REMOTE_ADDR", "REMOTE_HOST", "AUTH_TYPE", "REMOTE_USER"),
        *("X_MATCHED_ROUTE", "X_FULL_URL", "X_RAW_PATH_INFO"),
    }
)
# "x_a" and "x-a" would be one variable: only names that stay distinct get in.
_is_plain_name = re.compile(r"[a-z0-9-]+").fullmatch
_origin = re.compile(r"([a-z]+)://(\[[^\]/?#]*\]|[^:/?#]*)(?::([0-9]{1,5}))?").match
_variables = re.compile(r"\$\{([A-Z0-9_]+)\}").sub
_slashes = re.compile(r"/|%2[Ff]").finditer

_find_blank_line = re.compile(rb"(?:\A|\n)\r?\n").search
_status = re.compile(r"([0-9]{3})(?:[ \t].*)?").fullmatch
# The lines' ends and the names that are later dropped count too, so a little more than the headers may have.
_MAX_BLOCK_BYTES = MAX_HEADER_BYTES + 1024


class CgiProtocol:
    """Environment variables and the body in, a header block and the body out.

    A ``Location`` without a ``Status`` is a 302 to the client, also for a path: there are no local redirects.
    """

    name = "cgi"

    def encode(self, request: EdgeRequest) -> bytes:
        return request.content

    def environ(self, request: EdgeRequest, *, route: str, client: tuple[str, int] | None) -> list[tuple[str, str]]:
        """Return the meta-variables of RFC 3875 and WAGI, without NUL; ``client`` is host and port.

        ``SCRIPT_NAME`` is the part of the path that ``route`` matched, ``PATH_INFO`` what follows it: the
        value of a last ``{param:path}``, or what is below a prefix. Absent ones are empty, as in WAGI.
        """
        headers = request.headers
        script, path_info = _split_path(request.path, route)
        query = _query_string(request)
        host = headers.get("host", "localhost")
        url = request.url or f"http://{host}{quote(to_utf8(request.path))}{'?' if query else ''}{query}"
        origin = _origin(url) or _origin(f"http://{host}")
        scheme, server_name, port = origin.groups() if origin else ("http", "localhost", None)
        address = client[0] if client else ""
        variables = [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_SOFTWARE", "starlette-wasm"),
            ("SERVER_NAME", server_name),
            ("SERVER_PORT", port or ("443" if scheme == "https" else "80")),
            ("REQUEST_METHOD", request.method),
            ("SCRIPT_NAME", _mount(request) + script),
            ("PATH_INFO", path_info),
            ("PATH_TRANSLATED", path_info),
            ("QUERY_STRING", query),
            ("CONTENT_TYPE", _as_received(headers.get("content-type", ""))),
            ("CONTENT_LENGTH", str(len(request.content))),
            ("REMOTE_ADDR", address),
            ("REMOTE_HOST", address),
            ("AUTH_TYPE", ""),
            ("REMOTE_USER", ""),
            ("X_MATCHED_ROUTE", request.mount + route),
            ("X_FULL_URL", url),
            ("X_RAW_PATH_INFO", _raw_path_info(request.raw_path, path_info)),
        ]
        variables += [
            (f"HTTP_{name.upper().replace('-', '_')}", _as_received(value))
            for name, value in headers.items()
            if _is_plain_name(name) and name not in _HIDDEN
        ]
        return [(name, to_utf8(value).decode().replace("\0", "\ufffd")) for name, value in variables]

    def decode(self, stdout: bytes, tokens: int = MAX_TOKENS) -> EdgeResponse:
        blank = _find_blank_line(stdout, 0, _MAX_BLOCK_BYTES)
        if blank is None:
            if len(stdout) > _MAX_BLOCK_BYTES:
                raise ResponseError(f"no blank line within {_MAX_BLOCK_BYTES} bytes of headers", _MAX_BLOCK_BYTES)
            raise ResponseError("no blank line after the headers", len(stdout))
        headers = _read_headers(stdout[: blank.start()])
        # RFC 3875, section 6.2: at least one of these. A status alone is enough for WAGI as well.
        status = headers.pop("status", None)
        if status is None and "content-type" not in headers and "location" not in headers:
            raise ResponseError("neither content-type nor location nor status among the headers", 0)
        for name in ("content-type", "location"):
            if isinstance(headers.get(name), list):
                raise ResponseError(f"header '{name}' given twice", 0)
        length = declared_length(headers)
        try:
            code = 302 if "location" in headers else 200
            if status is not None:
                match = _status(status) if isinstance(status, str) else None
                code = check_status(int(match[1]) if match else None)
            headers = check_headers(headers)
        except ResponseError as error:
            raise ResponseError(error.problem, 0) from None
        body = stdout[blank.end() :]
        try:
            response = EdgeResponse(code, headers, body.decode())
        except UnicodeDecodeError:
            response = EdgeResponse(code, headers, b64encode(body).decode("ascii"), True)
        response._length = length
        return response


def is_variable(name: str) -> bool:
    """Return whether a request may set this variable."""
    return name in _NAMES or name.startswith("HTTP_")


def cgi_arguments(given: list[str], request: EdgeRequest, variables: Mapping[str, str]) -> list[str]:
    """Return the path, then ``given`` with ``${NAME}`` replaced; by default one argument for each part of the query.

    As WAGI documents them, and Spin its ``argv``: ``${SCRIPT_NAME}`` is the path, ``${ARGS}`` the parts of the query;
    others are the variables of CGI.
    """
    path = request.raw_path or quote(to_utf8(request.path))
    query = [part for part in variables["QUERY_STRING"].split("&") if part]
    known = {**variables, "SCRIPT_NAME": path, "ARGS": " ".join(query)}
    found = [path]
    for each in given or ["${ARGS}"]:
        if each == "${ARGS}":
            found += query
        else:
            found.append(_variables(lambda match: known.get(match[1], match[0]), each))
    return found


def segments_of(route: str) -> int | None:
    """Count the segments of a pattern, without a last ``{param:path}``; None for one with such a part elsewhere."""
    pattern = route.rstrip("/")
    if pattern.endswith(":path}"):
        pattern = pattern[: pattern.rindex("/")]
    return None if ":path}" in pattern else pattern.count("/")


def _split_path(path: str, route: str) -> tuple[str, str]:
    """Split ``path`` behind the segments that ``route`` has; all of it if they cannot be counted."""
    segments = segments_of(route)
    if segments is None:
        return path, ""
    end = 0
    for _ in range(segments):
        end = path.find("/", end + 1)
        if end < 0:
            return path, ""
    return path[:end], path[end:]


def _mount(request: EdgeRequest) -> str:
    """Return the part of the path before the mount, which ``request.path`` lacks."""
    full = unquote(request.raw_path)
    return full.removesuffix(request.path) if full.endswith(request.path) else ""


def _query_string(request: EdgeRequest) -> str:
    if request.url:
        return request.url.partition("?")[2].partition("#")[0]
    return urlencode({**request.query, **request.multi_value_query}, doseq=True, errors="replace")


def _raw_path_info(raw_path: str, path_info: str) -> str:
    """Return the end of ``raw_path`` that decodes to ``path_info``; without one ``path_info`` is encoded anew.

    It begins with a slash, and has as many of them as ``path_info``, escaped or not.
    """
    slashes = [match.start() for match in _slashes(raw_path)]
    count = path_info.count("/")
    raw = raw_path[slashes[-count] :] if 0 < count <= len(slashes) else ""
    return raw if unquote(raw) == path_info else quote(to_utf8(path_info))


def _as_received(value: str) -> str:
    """Decode a header that came as UTF-8, which is read as Latin-1 like all headers."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _read_headers(block: bytes) -> dict[str, str | list[str]]:
    headers: dict[str, str | list[str]] = {}
    at = 0
    for count, line in enumerate(block.split(b"\n") if block else ()):
        if count >= MAX_HEADERS + 1:  # Status is not one of them
            raise ResponseError(f"more than {MAX_HEADERS} headers", at)
        raw_name, colon, raw_value = line.removesuffix(b"\r").partition(b":")
        if not colon or line[:1] in (b" ", b"\t"):
            raise ResponseError("header line without a name and a colon", at)
        name = raw_name.decode("latin-1")
        try:
            check_name(name)
            value = check_value(name, raw_value.decode("latin-1"))
        except ResponseError as error:
            raise ResponseError(error.problem, at) from None
        name = name.lower()
        others = headers.get(name)
        if others is None:
            headers[name] = value
        elif isinstance(others, list):
            others.append(value)
        else:
            headers[name] = [others, value]
        at += len(line) + 1
    return headers
