"""``wasi:http`` of WASI 0.3: requests and responses whose bodies are streams, and their trailers futures."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..http_exchange import HttpExchange, InvalidHead, ResponseBody
from ..pipes import Pipe
from ..resources import HostResource
from ..values import Err, Ok, Value
from . import fields as f
from . import http
from .ends import Answer, BytesSource, FutureValue, Ignored, RequestSource, streamed_answer
from .fields import Fields
from .host import WasiHost
from .http import METHOD, SCHEME, GivenRequest, edge_headers, edge_message, read_message
from .offers import offer

TYPES = "wasi:http/types@0.3"
_ERROR = "variant {...}"
_HEADER_ERROR = "variant {invalid-syntax, forbidden, immutable...}"
_TRAILERS = f"future<result<option<fields>, {_ERROR}>>"
_SENT = f"future<result<_, {_ERROR}>>"
_CONTENTS = f"headers: fields, contents: option<stream<u8>>, trailers: {_TRAILERS}"
_CONSUMED = f"tuple<stream<u8>, {_TRAILERS}>"


class Message(HostResource):
    """What requests and responses have in common. Its parts are given away once."""

    def __init__(self, headers: Fields, contents: Pipe | None, trailers: Pipe) -> None:
        headers.fixed = True
        self.headers = headers
        self.contents = contents
        self.trailers = trailers
        self.sent = FutureValue()
        """Ready when it has been sent, or will not be."""

    def consume(self, result: Pipe) -> Value:
        """Return its body and its trailers; ``result`` is how the guest fared with them, which nobody asks for."""
        result.attach(Ignored())
        self.sent.set(Ok())
        return self.contents or Pipe(source=BytesSource(b"")), self.trailers

    def dropped(self) -> None:
        """Note that the guest has dropped it: what it goes on to write goes nowhere."""
        self.refuse(Err(("internal-error", "it was dropped")))

    def refuse(self, reason: Err) -> None:
        """Refuse to send it, for that reason."""
        for each in (self.contents, self.trailers):
            if each is not None:
                each.close()
        self.sent.set(reason)


class Request(Message):
    """A request; ``given`` are method, path, scheme and authority, under the names of WIT."""

    def __init__(self, headers: Fields, contents: Pipe | None, trailers: Pipe, options: RequestOptions | None) -> None:
        super().__init__(headers, contents, trailers)
        if options is not None:
            options.fixed = True
        self.options = options
        self.given: dict[str, Value] = {
            "method": ("get", None),
            "path-with-query": None,
            "scheme": None,
            "authority": None,
        }


class RequestOptions:
    def __init__(self, given: dict[str, Value] | None = None) -> None:
        self.given = given or {}
        self.fixed = False


class Response(Message):
    def __init__(self, headers: Fields, contents: Pipe | None, trailers: Pipe) -> None:
        super().__init__(headers, contents, trailers)
        self.status = 200

    def leave(self, host: WasiHost) -> Answer:
        """Make this the answer of the request that is served. Raises InvalidHead."""
        exchange = host.exchange
        if exchange is None:
            answer = Answer(host.answer, lambda: 1 << 20, lambda _: None, self.sent)
        else:
            body = ResponseBody()
            answer = streamed_answer(exchange, body, self.sent)
            try:
                exchange.answer(self.status, edge_headers(self.headers), body)
            except InvalidHead:
                raise InvalidHead(edge_message(self.status, self.headers, b"").decode()) from None
        answer.attach(host, self.contents, self.trailers)
        return answer


def served_request(message: bytes, exchange: HttpExchange | None) -> Request:
    """Make what a handler is given."""
    given = GivenRequest(*read_message(message))
    source = BytesSource(given.content) if exchange is None else RequestSource(exchange)
    request = Request(given.headers, Pipe(source=source), Pipe(source=FutureValue(Ok())), None)
    request.given = {
        "method": http.method_of(given.method),
        "path-with-query": given.path,
        "scheme": http.scheme_of(given.scheme),
        "authority": given.authority,
    }
    return request


for _name, _type, _call in (
    ("[constructor]fields", "func() -> fields", f.new_fields),
    ("[static]fields.from-list",
     f"func(entries: list<tuple<string, list<u8>>>) -> result<fields, {_HEADER_ERROR}>", f.fields_from_list),
    ("[method]fields.get", "func(self: borrow<fields>, name: string) -> list<list<u8>>", f.fields_get),
    ("[method]fields.has", "func(self: borrow<fields>, name: string) -> bool", f.fields_has),
    ("[method]fields.set",
     f"func(self: borrow<fields>, name: string, value: list<list<u8>>) -> result<_, {_HEADER_ERROR}>", f.fields_set),
    ("[method]fields.delete", f"func(self: borrow<fields>, name: string) -> result<_, {_HEADER_ERROR}>",
     f.fields_delete),
    ("[method]fields.append",
     f"func(self: borrow<fields>, name: string, value: list<u8>) -> result<_, {_HEADER_ERROR}>", f.fields_append),
    ("[method]fields.copy-all", "func(self: borrow<fields>) -> list<tuple<string, list<u8>>>", f.fields_entries),
    ("[method]fields.clone", "func(self: borrow<fields>) -> fields", f.fields_clone),
):  # fmt: skip
    offer(TYPES, _name, _type)(_call)


@offer(
    TYPES,
    "[method]fields.get-and-delete",
    f"func(self: borrow<fields>, name: string) -> result<list<list<u8>>, {_HEADER_ERROR}>",
)
def get_and_delete(host: WasiHost, fields: Fields, name: str) -> Value:
    found = fields.get(name)
    deleted = f.fields_delete(host, fields, name)
    return Ok(found) if isinstance(deleted, Ok) else deleted


@offer(TYPES, "[static]request.new", f"func({_CONTENTS}, options: option<request-options>) -> tuple<request, {_SENT}>")
def new_request(
    _: WasiHost, headers: Fields, contents: Pipe | None, trailers: Pipe, options: RequestOptions | None
) -> Value:
    request = Request(headers, contents, trailers, options)
    return request, Pipe(source=request.sent)


@offer(TYPES, "[static]response.new", f"func({_CONTENTS}) -> tuple<response, {_SENT}>")
def new_response(_: WasiHost, headers: Fields, contents: Pipe | None, trailers: Pipe) -> Value:
    response = Response(headers, contents, trailers)
    return response, Pipe(source=response.sent)


for _kind in ("request", "response"):
    _consume: Any = lambda _, message, result: message.consume(result)  # noqa: E731
    offer(TYPES, f"[static]{_kind}.consume-body", f"func(this: {_kind}, res: {_SENT}) -> {_CONSUMED}")(_consume)
    _headers: Any = lambda _, message: message.headers  # noqa: E731
    offer(TYPES, f"[method]{_kind}.get-headers", f"func(self: borrow<{_kind}>) -> fields")(_headers)


@offer(TYPES, "[method]request.get-options", "func(self: borrow<request>) -> option<request-options>")
def request_options(_: WasiHost, request: Request) -> Value:
    return request.options


@offer(TYPES, "[method]response.get-status-code", "func(self: borrow<response>) -> u16")
def get_status(_: WasiHost, response: Response) -> Value:
    return response.status


@offer(TYPES, "[method]response.set-status-code", "func(self: borrow<response>, status-code: u16) -> result")
def set_status(_: WasiHost, response: Response, status: int) -> Value:
    if not 100 <= status <= 599:
        return Err()
    response.status = status
    return Ok()


def _method(value: Value) -> Value:
    if value[0] != "other":
        return value
    return http.method_of(value[1]) if _TOKEN(value[1]) else _INVALID


def _scheme(value: Value) -> Value:
    if value is None or value[0] != "other":
        return value
    return http.scheme_of(value[1]) if _SCHEME_NAME(value[1]) else _INVALID


def _path(value: Value) -> Value:
    if value is None:
        return value
    return value or "/" if _PATH(value) else _INVALID


def _authority(value: Value) -> Value:
    return value if value is None or _AUTHORITY(value) else _INVALID


_INVALID = object()
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}").fullmatch
_SCHEME_NAME = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]{0,63}").fullmatch
_PATH = re.compile(r"[^\x00-\x20<>`\x7f]{0,65536}").fullmatch
_AUTHORITY = re.compile(
    r"(?:[A-Za-z0-9\-._~%!$&'()*+,;=:]+@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%!$&'()*+,;=]+)(?::[0-9]{0,5})?"
).fullmatch


def _of_request(name: str, kind: str, checked: Callable[[Value], Value]) -> None:
    """Offer reading and setting of a part of a request."""

    def read(_: WasiHost, request: Request) -> Value:
        return request.given[name]

    def put(host: WasiHost, request: Request, value: Value) -> Value:
        host.spend_on_text(value)
        found = checked(value)
        if found is _INVALID:
            return Err()
        request.given[name] = found
        return Ok()

    offer(TYPES, f"[method]request.get-{name}", f"func(self: borrow<request>) -> {kind}")(read)
    offer(TYPES, f"[method]request.set-{name}", f"func(self: borrow<request>, {name}: {kind}) -> result")(put)


def _of_options(name: str) -> None:
    """Offer reading and setting of one of the options of a request."""

    def read(_: WasiHost, options: RequestOptions) -> Value:
        return options.given.get(name)

    def put(_: WasiHost, options: RequestOptions, value: Value) -> Value:
        if options.fixed:
            return Err(("immutable", None))
        options.given[name] = value
        return Ok()

    options = "self: borrow<request-options>"
    offer(TYPES, f"[method]request-options.get-{name}", f"func({options}) -> option<u64>")(read)
    offer(TYPES, f"[method]request-options.set-{name}",
          f"func({options}, duration: option<u64>) -> result<_, variant {{...}}>")(put)  # fmt: skip


_of_request("method", METHOD, _method)
_of_request("scheme", SCHEME, _scheme)
_of_request("path-with-query", "option<string>", _path)
_of_request("authority", "option<string>", _authority)
for _name in ("connect", "first-byte", "between-bytes"):
    _of_options(f"{_name}-timeout")


@offer(TYPES, "[constructor]request-options", "func() -> request-options")
def new_options(_: WasiHost) -> Value:
    return RequestOptions()


@offer(TYPES, "[method]request-options.clone", "func(self: borrow<request-options>) -> request-options")
def clone_options(_: WasiHost, options: RequestOptions) -> Value:
    return RequestOptions(dict(options.given))
