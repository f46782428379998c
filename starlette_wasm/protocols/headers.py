"""Validation and rendering of responses, the same for all protocols.

A guest's response is checked when it is decoded, so that ``runtime.invoke`` never gives an illegal one. One that
was built or changed by a caller is checked when it is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from starlette_wasm.messages import EdgeResponse
from starlette_wasm.protocols.errors import ResponseError

MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024

# RFC 9110, section 7.6.1, and what else is between two hops only. Content-Length is the host's to compute. Server and
# Date are those of the server that the app runs on: uvicorn and hypercorn add theirs to those of the app.
_DROPPED = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

_is_token = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch  # RFC 9110, section 5.6.2
_is_value = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch  # RFC 9110, section 5.5

# Names seen to be tokens, as given -> in lower case, "" for those that are dropped. Guests choose them, hence
# the bounds.
_names: dict[str, str] = {}
_MAX_NAMES = 1024
_MAX_NAME_CHARS = 64


def shorten(text: str) -> str:
    """Quote and escape ``text`` for a message, at most about 40 characters of it."""
    return ascii(text if len(text) <= 40 else f"{text[:37]}...")


def check_name(name: str) -> str:
    """Return the header name in lower case, or an empty string if the host drops it.

    Raises:
        ResponseError: It is not a token.
    """
    if not isinstance(name, str) or not _is_token(name):
        raise ResponseError(f"illegal header name {shorten(str(name))}")
    lower = name.lower()
    if lower in _DROPPED:
        lower = ""
    if len(name) <= _MAX_NAME_CHARS:
        if len(_names) >= _MAX_NAMES:
            _names.clear()
        _names[name] = lower
    return lower


def check_value(name: str, value: object) -> str:
    """Return the header value without white space around it.

    Raises:
        ResponseError: It is not a string, or has a character that no header value may have.
    """
    if not isinstance(value, str):
        raise ResponseError(f"value of header {shorten(name)} must be a string, or a list of strings")
    value = value.strip(" \t")
    # The first two are a fifth of the regex's price, and true for nearly every value.
    if not (value.isascii() and value.isprintable()) and not _is_value(value):
        beyond = next((char for char in value if char > "\xff"), None)
        if beyond is not None:
            raise ResponseError(
                f"illegal character in the value of header {shorten(name)}: U+{ord(beyond):04X} is beyond Latin-1;"
                " percent-encode it"
            )
        raise ResponseError(f"illegal character in the value of header {shorten(name)}")
    return value


def check_headers(headers: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
    """Return headers with lower-case names and legal values, without those that only the host may set.

    Dropped are ``Content-Length``, hop-by-hop headers and those that ``Connection`` names.

    Raises:
        ResponseError: An illegal name or value, the same name twice, more than 100 headers, more than 32 KiB.
    """
    checked: dict[str, str | list[str]] = {}
    count = size = 0
    connection: list[str] = []
    for name, value in headers.items():
        lower = _names.get(name)
        if lower is None:
            lower = check_name(name)
        if type(value) is list:
            values = [check_value(name, each) for each in value]
            count += len(values)
            size += sum(map(len, values)) + len(values) * (len(name) + 4)
            value = values[0] if len(values) == 1 else values
        else:
            value = check_value(name, value)
            count += 1
            size += len(name) + len(value) + 4  # ": " and CRLF
        if count > MAX_HEADERS:
            raise ResponseError(f"more than {MAX_HEADERS} headers")
        if size > MAX_HEADER_BYTES:
            raise ResponseError(f"more than {MAX_HEADER_BYTES} bytes of headers")
        if not lower:
            if name.lower() == "connection":
                connection += [value] if isinstance(value, str) else value
        elif lower in checked:
            raise ResponseError(f"header {shorten(lower)} given twice; use a list for repeated values")
        elif value != []:
            checked[lower] = value
    for option in ",".join(connection).split(",") if connection else ():
        checked.pop(option.strip(" \t").lower(), None)
    return checked


def declared_length(headers: Mapping[str, str | list[str]]) -> int | None:
    """Return the guest's ``Content-Length``, which only an answer to HEAD takes over; None if it gave none."""
    for name, value in headers.items():
        if len(name) == 14 and name.lower() == "content-length" and isinstance(value, str):
            value = value.strip(" \t")
            return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None
    return None


def check_status(status: object) -> int:
    """Return the status code.

    Raises:
        ResponseError: It is not an integer from 200 to 599; a bool is not one.
    """
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise ResponseError("status must be an integer from 200 to 599")
    return int(status)


def check_base64(response: EdgeResponse) -> None:
    """Raise `ResponseError` if the body claims to be base64 and is not, as RFC 4648 defines it."""
    try:
        response.content  # noqa: B018 (decodes, and keeps the bytes)
    except ValueError:
        raise ResponseError("body is not valid base64") from None


class Rendered(NamedTuple):
    """An answer as ASGI wants it."""

    status_code: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def with_request_id(headers: list[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """Return raw headers with the host's ``x-request-id`` in place of what a guest has set."""
    headers = [header for header in headers if header[0] != b"x-request-id"]
    headers.append((b"x-request-id", request_id.encode("ascii")))
    return headers


def raw_headers(response: EdgeResponse) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response that is checked, as ASGI has them."""
    raw: list[tuple[bytes, bytes]] = []
    for name, value in response.headers.items():
        raw_name = name.encode("ascii")
        if isinstance(value, str):
            raw.append((raw_name, value.encode("latin-1")))
        else:
            raw += [(raw_name, each.encode("latin-1")) for each in value]
    return raw


def render(response: EdgeResponse, method: str, *, checked: bool = False) -> Rendered:
    """Return status, raw ASGI headers and body of a response to a request with ``method``.

    ``checked``: nobody has touched it since it was decoded. ``content-length`` is computed; for HEAD it is
    the guest's own, else that of the body which is left out, and there is none if there is no body either. 204 and
    304 have neither (RFC 9110, section 8.6), 205 has an empty body.

    Raises:
        ResponseError: The response was built or changed by the caller, and is not valid.
    """
    declared = response._length if checked else declared_length(response.headers)
    if not checked:
        response = EdgeResponse(
            check_status(response.status_code),
            check_headers(response.headers),
            response.body,
            response.is_base64_encoded,
        )
        if response.is_base64_encoded:
            check_base64(response)
    status = response.status_code
    raw = raw_headers(response)
    if status == 204 or status == 304:
        return Rendered(status, raw, b"")
    content = b"" if status == 205 else response.content
    length = len(content)
    if method == "HEAD":
        if declared is not None:
            length = declared
        elif not content:
            return Rendered(status, raw, b"")
        content = b""
    raw.append((b"content-length", b"%d" % length))
    return Rendered(status, raw, content)
