"""``wasi:http/incoming-handler``: a request for a handler, and what it answers with.

A request comes as the JSON of the ``edge`` protocol, and the answer goes out as that: the rules for status, headers and
sizes are the same for all kinds of functions (protocols/).
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any
from urllib.parse import quote, urlencode

from ...protocols.headers import declared_length
from ..errors import CanonicalTrap
from ..http_exchange import Headers, HttpExchange, InvalidHead, ResponseBody
from ..http_head import HttpHead
from ..values import Err, Ok, Value
from .bodies import IncomingBody, OutgoingBody
from .exchange_streams import RequestStream
from .fields import FORBIDDEN, TYPES, Fields
from .host import WasiHost
from .offers import offer
from .streams import InputStream

METHOD = "variant {get, head, post, put, delete, connect, options, trace, patch, other(string)}"
SCHEME = "option<variant {HTTP, HTTPS, other(string)}>"
_OF_PATHS = "/:@!$&'()*+,;=~"
_METHODS = ("get", "head", "post", "put", "delete", "connect", "options", "trace", "patch")


class GivenRequest:
    """A request of the ``edge`` protocol, as ``wasi:http`` has it."""

    def __init__(self, head: HttpHead, content: bytes = b"") -> None:
        self.method = head.method
        self.scheme = head.scheme
        self.authority = head.authority
        self.path = head.path
        self.headers = Fields(head.headers, fixed=True)
        self.content = content


class IncomingRequest(GivenRequest):
    """What a handler is given."""

    def __init__(self, head: HttpHead, content: bytes, exchange: HttpExchange | None = None) -> None:
        """Take a body that is ``content``, or comes through the exchange."""
        super().__init__(head, content)
        stream = InputStream(content) if exchange is None else RequestStream(exchange)
        self.body: IncomingBody | None = IncomingBody(stream)


def read_message(message: bytes) -> tuple[HttpHead, bytes]:
    """Read the head and the body of a request of the ``edge`` protocol."""
    given = json.loads(message)
    scheme, _, rest = (given["url"] or _url_of(given)).partition("://")
    authority, slash, path = rest.partition("/")
    headers = _entries(given)
    authority = next((value.decode("latin-1") for name, value in headers if name.lower() == "host"), authority)
    headers = [each for each in headers if each[0].lower() not in FORBIDDEN]
    return HttpHead(given["method"], scheme, authority, slash + path or "/", headers), _body(given)


def _url_of(given: dict[str, Any]) -> str:
    """Return the URL of a request that did not come over HTTP, as handlers want a whole one."""
    lists = given.get("multi_value_query", {})
    query = urlencode({name: lists.get(name, value) for name, value in given["query"].items()}, doseq=True)
    return f"http://localhost{quote(given['path'], safe=_OF_PATHS)}{'?' if query else ''}{query}"


def _body(given: dict[str, Any]) -> bytes:
    body = given["body"] or ""
    return b64decode(body) if given["is_base64_encoded"] else body.encode("utf-8", "surrogatepass")


def _field_value(value: str) -> bytes:
    """Return the bytes of a header field: what came over HTTP is Latin-1, what Python code gave may be any text."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape")


def _entries(given: dict[str, Any]) -> list[tuple[str, bytes]]:
    lists = given.get("multi_value_headers", {})
    found = []
    for name, value in given["headers"].items():
        found += [(name, _field_value(each)) for each in lists.get(name, [value])]
    return found


class OutgoingResponse:
    def __init__(self, headers: Fields) -> None:
        headers.fixed = True
        self.headers = headers
        self.status = 200
        self.body: OutgoingBody | None = None

    def leave_by(self, exchange: HttpExchange) -> None:
        """Make this the answer of a request. Raises InvalidHead."""
        if self.body is not None and self.body.leaves_by is not None:
            queue = self.body.leaves_by[1]
        else:
            queue = ResponseBody()
            queue.closed = True
        try:
            exchange.answer(self.status, edge_headers(self.headers), queue)
        except InvalidHead:
            raise InvalidHead(self.message().decode()) from None

    def message(self) -> bytes:
        """Return the response in the ``edge`` protocol, without what has left."""
        return edge_message(self.status, self.headers, b"" if self.body is None else bytes(self.body.data))


def edge_headers(fields: Fields) -> Headers:
    """Return header fields as the ``edge`` protocol has them."""
    headers: dict[str, list[str]] = {}
    for name, value in fields.entries:
        headers.setdefault(name.lower(), []).append(value.decode("latin-1"))
    return {name: values[0] if len(values) == 1 else values for name, values in headers.items()}


def edge_message(status: int, headers: Fields, body: bytes) -> bytes:
    """Write a response in the ``edge`` protocol."""
    message = {
        "status_code": status,
        "headers": edge_headers(headers),
        "body": b64encode(body).decode(),
        "is_base64_encoded": True,
    }
    return json.dumps(message, ensure_ascii=False).encode()


class ResponseOutparam:
    """The slot for a handler's answer."""

    def __init__(self) -> None:
        self.response: OutgoingResponse | None = None
        self.error: str | None = None

    def answer(self) -> bytes:
        """Return the answer in the ``edge`` protocol. Traps if there is none, or one that is not whole."""
        if self.error is not None:
            raise CanonicalTrap(f"its handler answered with the error {self.error}")
        if self.response is None:
            raise CanonicalTrap("its handler returned without a response")
        body = self.response.body
        if body is not None and not body.finished:
            raise CanonicalTrap("its handler returned without finishing the body of its response")
        return self.response.message()


@offer(TYPES, "[method]incoming-request.method", f"func(self: borrow<incoming-request>) -> {METHOD}")
def request_method(_: WasiHost, request: IncomingRequest) -> Value:
    return method_of(request.method)


def method_of(method: str) -> Value:
    known = method.lower()
    return (known, None) if known in _METHODS else ("other", method)


@offer(TYPES, "[method]incoming-request.path-with-query", "func(self: borrow<incoming-request>) -> option<string>")
def request_path(_: WasiHost, request: IncomingRequest) -> Value:
    return request.path


@offer(TYPES, "[method]incoming-request.scheme", f"func(self: borrow<incoming-request>) -> {SCHEME}")
def request_scheme(_: WasiHost, request: IncomingRequest) -> Value:
    return scheme_of(request.scheme)


def scheme_of(scheme: str) -> Value:
    known = scheme.upper()
    return (known, None) if known in ("HTTP", "HTTPS") else ("other", scheme)


@offer(TYPES, "[method]incoming-request.authority", "func(self: borrow<incoming-request>) -> option<string>")
def request_authority(_: WasiHost, request: IncomingRequest) -> Value:
    return request.authority


@offer(TYPES, "[method]incoming-request.headers", "func(self: borrow<incoming-request>) -> fields")
def request_headers(_: WasiHost, request: IncomingRequest) -> Value:
    return request.headers


@offer(TYPES, "[method]incoming-request.consume", "func(self: borrow<incoming-request>) -> result<incoming-body>")
def request_consume(_: WasiHost, request: IncomingRequest) -> Value:
    body, request.body = request.body, None
    return Err() if body is None else Ok(body)


@offer(TYPES, "[constructor]outgoing-response", "func(headers: fields) -> outgoing-response")
def new_response(_: WasiHost, headers: Fields) -> Value:
    return OutgoingResponse(headers)


@offer(TYPES, "[method]outgoing-response.status-code", "func(self: borrow<outgoing-response>) -> u16")
def response_status(_: WasiHost, response: OutgoingResponse) -> Value:
    return response.status


@offer(
    TYPES,
    "[method]outgoing-response.set-status-code",
    "func(self: borrow<outgoing-response>, status-code: u16) -> result",
)
def response_set_status(_: WasiHost, response: OutgoingResponse, status: int) -> Value:
    if not 100 <= status <= 999:
        return Err()
    response.status = status
    return Ok()


@offer(TYPES, "[method]outgoing-response.headers", "func(self: borrow<outgoing-response>) -> fields")
def response_headers(_: WasiHost, response: OutgoingResponse) -> Value:
    return response.headers


@offer(TYPES, "[method]outgoing-response.body", "func(self: borrow<outgoing-response>) -> result<outgoing-body>")
def response_body(host: WasiHost, response: OutgoingResponse) -> Value:
    if response.body is not None:
        return Err()
    response.body = OutgoingBody(host.exchange, declared_length(edge_headers(response.headers)))
    return Ok(response.body)


@offer(
    TYPES,
    "[static]response-outparam.set",
    "func(param: response-outparam, response: result<outgoing-response, variant {...}>)",
)
def outparam_set(host: WasiHost, out: ResponseOutparam, response: Value) -> Value:
    if isinstance(response, Ok):
        out.response = response.value
        if host.exchange is not None:
            response.value.leave_by(host.exchange)
    else:
        out.error = response.value[0]
