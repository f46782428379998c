"""``wasi:http/outgoing-handler``: requests of a guest's own."""

from __future__ import annotations

from ..values import Err, Ok, Value
from .bodies import OutgoingBody
from .fields import TYPES, Fields
from .host import WasiHost
from .http import METHOD, SCHEME
from .offers import offer, refuse


@offer(TYPES, "http-error-code", "func(err: borrow<error>) -> option<...>")
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


@offer(TYPES, "[constructor]outgoing-request", "func(headers: fields) -> outgoing-request")
def new_request(_: WasiHost, headers: Fields) -> Value:
    return OutgoingRequest(headers)


@offer(TYPES, "[constructor]request-options", "func() -> request-options")
def new_options(_: WasiHost) -> Value:
    return RequestOptions()


@offer(TYPES, "[method]outgoing-request.headers", "func(self: borrow<outgoing-request>) -> fields")
def outgoing_headers(_: WasiHost, request: OutgoingRequest) -> Value:
    return request.headers


@offer(TYPES, "[method]outgoing-request.body", "func(self: borrow<outgoing-request>) -> result<outgoing-body>")
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
    offer(TYPES, f"[method]{resource}.{name}", f"func(self: borrow<{resource}>) -> {kind}")(read)
    offer(TYPES, f"[method]{resource}.set-{name}",
          f"func(self: borrow<{resource}>, {given}: {kind}) -> result")(put)  # fmt: skip


_property("outgoing-request", "method", METHOD)
_property("outgoing-request", "scheme", SCHEME)
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
    TYPES,
    [
        *(f"[method]incoming-response.{name}" for name in ("status", "headers", "consume")),
        *(f"[method]future-incoming-response.{name}" for name in ("subscribe", "get")),
        "[method]response-outparam.send-informational",
    ],
    "no request of a component is sent, so that there is no response",
)
