"""``wasi:http``: a request for a handler, and what it answers with. Requests of its own are refused.

A request comes as the JSON of the ``edge`` protocol, and the answer goes out as that: the rules for status, headers and
sizes are the same for all kinds of functions (protocols/).
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from typing import Any

from ..errors import CanonicalTrap
from ..values import Err, Ok, Value
from .host import WasiHost
from .offers import offer, refuse
from .streams import InputStream, OutputStream, Pollable

_TYPES = "wasi:http/types"
_HEADER_ERROR = "variant {invalid-syntax, forbidden, immutable...}"
_METHOD = "variant {get, head, post, put, delete, connect, options, trace, patch, other(string)}"
_SCHEME = "option<variant {HTTP, HTTPS, other(string)}>"
_METHODS = ("get", "head", "post", "put", "delete", "connect", "options", "trace", "patch")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}").fullmatch
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch
_FORBIDDEN = frozenset(
    ("connection", "host", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authorization",
     "proxy-connection", "te", "transfer-encoding", "upgrade")
)  # fmt: skip
_MOST_FIELDS = 1000


class Fields:
    """Names and values in their order. Those of a request cannot be changed."""

    def __init__(self, entries: list[tuple[str, bytes]] | None = None, *, fixed: bool = False) -> None:
        self.entries = entries or []
        self.fixed = fixed

    def get(self, name: str) -> list[bytes]:
        return [value for each, value in self.entries if each.lower() == name.lower()]

    def remove(self, name: str) -> None:
        self.entries = [entry for entry in self.entries if entry[0].lower() != name.lower()]

    def add(self, name: str, value: bytes) -> Value:
        """Ok, or what is wrong."""
        if not _NAME(name) or not _VALUE(value):
            return Err(("invalid-syntax", None))
        if name.lower() in _FORBIDDEN:
            return Err(("forbidden", None))
        if len(self.entries) >= _MOST_FIELDS:
            raise CanonicalTrap(f"more than {_MOST_FIELDS} header fields")
        self.entries.append((name, value))
        return Ok()


class IncomingRequest:
    """What a handler is given."""

    def __init__(self, message: bytes) -> None:
        given = json.loads(message)
        self.method: str = given["method"]
        scheme, _, rest = given["url"].partition("://")
        self.scheme = scheme
        authority, slash, path = rest.partition("/")
        self.path = slash + path or "/"
        self.headers = Fields(_entries(given), fixed=True)
        self.authority = next((value.decode("latin-1") for value in self.headers.get("host")), authority)
        body = given["body"] or ""
        self.body: IncomingBody | None = IncomingBody(
            b64decode(body) if given["is_base64_encoded"] else body.encode("utf-8", "surrogatepass")
        )


def _entries(given: dict[str, Any]) -> list[tuple[str, bytes]]:
    lists = given.get("multi_value_headers", {})
    found = []
    for name, value in given["headers"].items():
        found += [(name, each.encode("utf-8", "surrogateescape")) for each in lists.get(name, [value])]
    return found


class IncomingBody:
    def __init__(self, data: bytes) -> None:
        self.stream: InputStream | None = InputStream(data)


class FutureTrailers:
    taken = False


class OutgoingBody:
    """``finished`` is whether the guest has marked it as whole."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.stream: OutputStream | None = None
        self.finished = False


class OutgoingResponse:
    def __init__(self, headers: Fields) -> None:
        headers.fixed = True
        self.headers = headers
        self.status = 200
        self.body: OutgoingBody | None = None


class ResponseOutparam:
    """The slot for a handler's answer."""

    def __init__(self) -> None:
        self.response: OutgoingResponse | None = None
        self.error: str | None = None

    def answer(self) -> bytes:
        """The answer in the ``edge`` protocol. Traps if there is none, or one that is not whole."""
        if self.error is not None:
            raise CanonicalTrap(f"its handler answered with the error {self.error}")
        if self.response is None:
            raise CanonicalTrap("its handler returned without a response")
        response = self.response
        body = response.body
        if body is not None and not body.finished:
            raise CanonicalTrap("its handler returned without finishing the body of its response")
        headers: dict[str, list[str]] = {}
        for name, value in response.headers.entries:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1"))
        message = {
            "status_code": response.status,
            "headers": {name: values[0] if len(values) == 1 else values for name, values in headers.items()},
            "body": b64encode(body.data).decode() if body is not None else "",
            "is_base64_encoded": True,
        }
        return json.dumps(message, ensure_ascii=False).encode()


@offer(_TYPES, "[constructor]fields", "func() -> fields")
def new_fields(_: WasiHost) -> Value:
    return Fields()


@offer(
    _TYPES,
    "[static]fields.from-list",
    f"func(entries: list<tuple<string, list<u8>>>) -> result<fields, {_HEADER_ERROR}>",
)
def fields_from_list(_: WasiHost, entries: list[tuple[str, bytes]]) -> Value:
    made = Fields()
    for name, value in entries:
        added = made.add(name, value)
        if isinstance(added, Err):
            return added
    return Ok(made)


@offer(_TYPES, "[method]fields.get", "func(self: borrow<fields>, name: string) -> list<list<u8>>")
def fields_get(_: WasiHost, fields: Fields, name: str) -> Value:
    return fields.get(name)


@offer(_TYPES, "[method]fields.has", "func(self: borrow<fields>, name: string) -> bool")
def fields_has(_: WasiHost, fields: Fields, name: str) -> Value:
    return bool(fields.get(name))


@offer(
    _TYPES,
    "[method]fields.set",
    f"func(self: borrow<fields>, name: string, value: list<list<u8>>) -> result<_, {_HEADER_ERROR}>",
)
def fields_set(_: WasiHost, fields: Fields, name: str, values: list[bytes]) -> Value:
    if fields.fixed:
        return Err(("immutable", None))
    before = fields.entries
    fields.remove(name)
    for value in values:
        added = fields.add(name, value)
        if isinstance(added, Err):
            fields.entries = before
            return added
    return Ok()


@offer(_TYPES, "[method]fields.delete", f"func(self: borrow<fields>, name: string) -> result<_, {_HEADER_ERROR}>")
def fields_delete(_: WasiHost, fields: Fields, name: str) -> Value:
    if fields.fixed:
        return Err(("immutable", None))
    if not _NAME(name):
        return Err(("invalid-syntax", None))
    fields.remove(name)
    return Ok()


@offer(
    _TYPES,
    "[method]fields.append",
    f"func(self: borrow<fields>, name: string, value: list<u8>) -> result<_, {_HEADER_ERROR}>",
)
def fields_append(_: WasiHost, fields: Fields, name: str, value: bytes) -> Value:
    return Err(("immutable", None)) if fields.fixed else fields.add(name, value)


@offer(_TYPES, "[method]fields.entries", "func(self: borrow<fields>) -> list<tuple<string, list<u8>>>")
@offer(_TYPES, "[method]fields.copy-all", "func(self: borrow<fields>) -> list<tuple<string, list<u8>>>")
def fields_entries(_: WasiHost, fields: Fields) -> Value:
    return list(fields.entries)


@offer(_TYPES, "[method]fields.clone", "func(self: borrow<fields>) -> fields")
def fields_clone(_: WasiHost, fields: Fields) -> Value:
    return Fields(list(fields.entries))


@offer(_TYPES, "[method]incoming-request.method", f"func(self: borrow<incoming-request>) -> {_METHOD}")
def request_method(_: WasiHost, request: IncomingRequest) -> Value:
    method = request.method.lower()
    return (method, None) if method in _METHODS else ("other", request.method)


@offer(_TYPES, "[method]incoming-request.path-with-query", "func(self: borrow<incoming-request>) -> option<string>")
def request_path(_: WasiHost, request: IncomingRequest) -> Value:
    return request.path


@offer(_TYPES, "[method]incoming-request.scheme", f"func(self: borrow<incoming-request>) -> {_SCHEME}")
def request_scheme(_: WasiHost, request: IncomingRequest) -> Value:
    known = request.scheme.upper()
    return (known, None) if known in ("HTTP", "HTTPS") else ("other", request.scheme)


@offer(_TYPES, "[method]incoming-request.authority", "func(self: borrow<incoming-request>) -> option<string>")
def request_authority(_: WasiHost, request: IncomingRequest) -> Value:
    return request.authority


@offer(_TYPES, "[method]incoming-request.headers", "func(self: borrow<incoming-request>) -> fields")
def request_headers(_: WasiHost, request: IncomingRequest) -> Value:
    return request.headers


@offer(_TYPES, "[method]incoming-request.consume", "func(self: borrow<incoming-request>) -> result<incoming-body>")
def request_consume(_: WasiHost, request: IncomingRequest) -> Value:
    body, request.body = request.body, None
    return Err() if body is None else Ok(body)


@offer(_TYPES, "[method]incoming-body.stream", "func(self: borrow<incoming-body>) -> result<input-stream>")
def body_stream(_: WasiHost, body: IncomingBody) -> Value:
    stream, body.stream = body.stream, None
    return Err() if stream is None else Ok(stream)


@offer(_TYPES, "[static]incoming-body.finish", "func(this: incoming-body) -> future-trailers")
def body_finish(_: WasiHost, body: IncomingBody) -> Value:
    return FutureTrailers()


@offer(_TYPES, "[method]future-trailers.subscribe", "func(self: borrow<future-trailers>) -> pollable")
def trailers_subscribe(_: WasiHost, trailers: FutureTrailers) -> Value:
    return Pollable()


@offer(
    _TYPES,
    "[method]future-trailers.get",
    "func(self: borrow<future-trailers>) -> option<result<result<option<fields>, variant {...}>>>",
)
def trailers_get(_: WasiHost, trailers: FutureTrailers) -> Value:
    if trailers.taken:
        return Err()
    trailers.taken = True
    return Ok(Ok(None))


@offer(_TYPES, "[constructor]outgoing-response", "func(headers: fields) -> outgoing-response")
def new_response(_: WasiHost, headers: Fields) -> Value:
    return OutgoingResponse(headers)


@offer(_TYPES, "[method]outgoing-response.status-code", "func(self: borrow<outgoing-response>) -> u16")
def response_status(_: WasiHost, response: OutgoingResponse) -> Value:
    return response.status


@offer(
    _TYPES,
    "[method]outgoing-response.set-status-code",
    "func(self: borrow<outgoing-response>, status-code: u16) -> result",
)
def response_set_status(_: WasiHost, response: OutgoingResponse, status: int) -> Value:
    if not 100 <= status <= 999:
        return Err()
    response.status = status
    return Ok()


@offer(_TYPES, "[method]outgoing-response.headers", "func(self: borrow<outgoing-response>) -> fields")
def response_headers(_: WasiHost, response: OutgoingResponse) -> Value:
    return response.headers


@offer(_TYPES, "[method]outgoing-response.body", "func(self: borrow<outgoing-response>) -> result<outgoing-body>")
def response_body(_: WasiHost, response: OutgoingResponse) -> Value:
    if response.body is not None:
        return Err()
    response.body = OutgoingBody()
    return Ok(response.body)


@offer(_TYPES, "[method]outgoing-body.write", "func(self: borrow<outgoing-body>) -> result<output-stream>")
def body_write(host: WasiHost, body: OutgoingBody) -> Value:
    if body.stream is not None:
        return Err()

    def sink(data: bytes) -> None:
        host.write_out(data)
        body.data += data

    body.stream = OutputStream(sink)
    return Ok(body.stream)


@offer(
    _TYPES,
    "[static]outgoing-body.finish",
    "func(this: outgoing-body, trailers: option<fields>) -> result<_, variant {...}>",
)
def body_done(_: WasiHost, body: OutgoingBody, trailers: Fields | None) -> Value:
    body.finished = True
    if body.stream is not None:
        body.stream.closed = True
    return Ok()


@offer(
    _TYPES,
    "[static]response-outparam.set",
    "func(param: response-outparam, response: result<outgoing-response, variant {...}>)",
)
def outparam_set(_: WasiHost, out: ResponseOutparam, response: Value) -> Value:
    if isinstance(response, Ok):
        out.response = response.value
    else:
        out.error = response.value[0]


@offer(_TYPES, "http-error-code", "func(err: borrow<error>) -> option<...>")
def http_error_code(_: WasiHost, error: object) -> Value:
    return None


class OutgoingRequest:
    def __init__(self, headers: Fields) -> None:
        self.headers = headers
        self.body: OutgoingBody | None = None
        self.given: dict[str, Value] = {"method": ("get", None), "path-with-query": None, "scheme": None,
                                        "authority": None}  # fmt: skip


class RequestOptions:
    def __init__(self) -> None:
        self.given: dict[str, Value] = {}


@offer(_TYPES, "[constructor]outgoing-request", "func(headers: fields) -> outgoing-request")
def new_request(_: WasiHost, headers: Fields) -> Value:
    return OutgoingRequest(headers)


@offer(_TYPES, "[constructor]request-options", "func() -> request-options")
def new_options(_: WasiHost) -> Value:
    return RequestOptions()


@offer(_TYPES, "[method]outgoing-request.headers", "func(self: borrow<outgoing-request>) -> fields")
def outgoing_headers(_: WasiHost, request: OutgoingRequest) -> Value:
    return request.headers


@offer(_TYPES, "[method]outgoing-request.body", "func(self: borrow<outgoing-request>) -> result<outgoing-body>")
def outgoing_body(_: WasiHost, request: OutgoingRequest) -> Value:
    if request.body is not None:
        return Err()
    request.body = OutgoingBody()
    return Ok(request.body)


def _property(resource: str, name: str, kind: str) -> None:
    """Offer reading and setting of the fields of a request or its options."""

    def read(_: WasiHost, of: OutgoingRequest | RequestOptions) -> Value:
        return of.given.get(name)

    def put(_: WasiHost, of: OutgoingRequest | RequestOptions, value: Value) -> Value:
        of.given[name] = value
        return Ok()

    given = "duration" if resource == "request-options" else name
    offer(_TYPES, f"[method]{resource}.{name}", f"func(self: borrow<{resource}>) -> {kind}")(read)
    offer(_TYPES, f"[method]{resource}.set-{name}",
          f"func(self: borrow<{resource}>, {given}: {kind}) -> result")(put)  # fmt: skip


_property("outgoing-request", "method", _METHOD)
_property("outgoing-request", "scheme", _SCHEME)
_property("outgoing-request", "path-with-query", "option<string>")
_property("outgoing-request", "authority", "option<string>")
for _timeout in ("connect", "first-byte", "between-bytes"):
    _property("request-options", f"{_timeout}-timeout", "option<u64>")


@offer(
    "wasi:http/outgoing-handler",
    "handle",
    "func(request: outgoing-request, options: option<request-options>) -> "
    "result<future-incoming-response, variant {...}>",
)
def send(_: WasiHost, request: OutgoingRequest, options: RequestOptions | None) -> Value:
    return Err(("HTTP-request-denied", None))


refuse(
    _TYPES,
    [
        *(f"[method]incoming-response.{name}" for name in ("status", "headers", "consume")),
        *(f"[method]future-incoming-response.{name}" for name in ("subscribe", "get")),
        "[method]response-outparam.send-informational",
    ],
    "no request of a component is sent, so that there is no response",
)
