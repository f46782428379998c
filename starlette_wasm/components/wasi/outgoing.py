"""``wasi:http/outgoing-handler``: requests of a guest's own.

They go through the client of ``http.fetch``, with its checks and counts. A request whose body the guest has yet to
write begins when that is finished or the guest waits for something: most bodies then have a length that is known.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from ...capabilities import CapabilityError, Code
from ...capabilities.http import Request, Upload, Url, UrlError
from ...capabilities.http.fetch import check_method
from ...capabilities.http.headers import Headers, of_guest
from ...capabilities.usage import Usage
from ..calls import Await
from ..resources import HostResource, IoError
from ..values import Err, Ok, Value
from .download import FutureResponse, IncomingResponse, error_code
from .fields import TYPES, Fields, valid_length
from .host import WasiHost
from .http import METHOD, SCHEME
from .offers import offer
from .streams import Pollable
from .upload import UploadBody

_ERROR_CODE = "variant {...}"
_SECOND = 1e9
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}", re.ASCII)
_PATH = re.compile(r"(?:[/?][!-~\x80-\U0010ffff]*)?")
_AUTHORITY = re.compile(
    r"(?:[!$&'()*+,\-.0-9;=A-Z_a-z~%:]*@)?(?:\[[0-9A-Fa-f:.]+\]|[!$&'()*+,\-.0-9;=A-Z_a-z~%]+)(?::([0-9]{1,5}))?",
    re.ASCII,
)
_OTHER_SCHEME = re.compile(r"[A-Za-z0-9+\-.]{0,64}", re.ASCII)


@offer(TYPES, "http-error-code", f"func(err: borrow<error>) -> option<{_ERROR_CODE}>")
def http_error_code(_: WasiHost, error: object) -> Value:
    return error.http if isinstance(error, IoError) else None


class OutgoingRequest(HostResource):
    def __init__(self, headers: Fields) -> None:
        headers.fixed = True
        self.headers = headers
        self.body: UploadBody | None = None
        self.given: dict[str, Value] = {"method": ("get", None), "path-with-query": None, "scheme": None,
                                        "authority": None}  # fmt: skip

    def url(self) -> str:
        """Return the URL as the guest has put it together. Raises ValueError for a scheme that is not of the web."""
        scheme, _ = self.given["scheme"] or ("HTTPS", None)
        if scheme == "other":
            raise ValueError(scheme)
        return f"{scheme.lower()}://{self.given['authority'] or ''}{self.given['path-with-query'] or '/'}"

    def method(self) -> str:
        """Raise CapabilityError for one that is not sent."""
        name, other = self.given["method"]
        return check_method(other if name == "other" else name.upper())

    def declared(self) -> int | None:
        """Return its content-length, if that is a number: headers of a client, which may be odd, can be sent on."""
        values = self.headers.get("content-length")
        return int(values[0]) if values and valid_length(values[0]) else None

    def pairs(self) -> list[tuple[str, str]]:
        return [(name, value.decode("latin-1")) for name, value in self.headers.entries]


class RequestOptions:
    def __init__(self) -> None:
        self.given: dict[str, Value] = {}

    def seconds(self, name: str) -> float | None:
        given: int | None = self.given.get(f"{name}-timeout")
        return None if given is None else given / _SECOND


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
def outgoing_body(host: WasiHost, request: OutgoingRequest) -> Value:
    if request.body is not None:
        return Err()
    request.body = UploadBody(host, request.declared())
    return Ok(request.body)


def _property(resource: str, name: str, kind: str) -> None:
    """Offer reading and setting of the fields of a request or its options."""

    def read(_: WasiHost, of: OutgoingRequest | RequestOptions) -> Value:
        return of.given.get(name)

    def put(host: WasiHost, of: OutgoingRequest | RequestOptions, value: Value) -> Value:
        host.spend_on_text(value)
        if not _fits(name, value):
            return Err()
        of.given[name] = value
        return Ok()

    given = "duration" if resource == "request-options" else name
    offer(TYPES, f"[method]{resource}.{name}", f"func(self: borrow<{resource}>) -> {kind}")(read)
    offer(TYPES, f"[method]{resource}.set-{name}",
          f"func(self: borrow<{resource}>, {given}: {kind}) -> result")(put)  # fmt: skip


def _fits(name: str, value: Any) -> bool:
    """Return whether a request may have that."""
    if value is None:
        return True
    if name == "method":
        return value[0] != "other" or bool(_TOKEN.fullmatch(value[1]))
    if name == "scheme":
        return value[0] != "other" or bool(_OTHER_SCHEME.fullmatch(value[1]))
    if name == "path-with-query":
        return bool(_PATH.fullmatch(value))
    if name == "authority":
        found = _AUTHORITY.fullmatch(value)
        return found is not None and int(found[1] or 0) < 65536
    return True


_property("outgoing-request", "method", METHOD)
_property("outgoing-request", "scheme", SCHEME)
_property("outgoing-request", "path-with-query", "option<string>")
_property("outgoing-request", "authority", "option<string>")
for _timeout in ("connect", "first-byte", "between-bytes"):
    _property("request-options", f"{_timeout}-timeout", "option<u64>")


def prepared(host: WasiHost, request: OutgoingRequest, options: RequestOptions) -> FutureResponse | Err:
    """Return a request that is yet to be sent, or why it may not be."""
    session = host.session
    if session is None:
        return Err(("HTTP-request-denied", None))
    try:
        method, url, headers = request.method(), Url.parse(request.url()), of_guest(request.pairs())
        session.admit(url)
    except UrlError:
        return Err(("HTTP-request-URI-invalid", None))
    except ValueError:
        return Err(("HTTP-protocol-error", None))
    except CapabilityError as error:
        return Err(_code_of_own(error))
    make = partial(_request, session.usage, (method, url, headers), request.body, options)
    answer = FutureResponse(host, session, make, request.body)
    answer.between_seconds = options.seconds("between-bytes")
    return answer


@offer(
    "wasi:http/outgoing-handler",
    "handle",
    "func(request: outgoing-request, options: option<request-options>) -> "
    f"result<future-incoming-response, {_ERROR_CODE}>",
)
def send(host: WasiHost, request: OutgoingRequest, options: RequestOptions | None) -> Value | Await:
    answer, body = prepared(host, request, options or RequestOptions()), request.body
    if isinstance(answer, Err):
        return answer
    if body is None or body.finished:
        return Await(partial(_begin, answer))
    body.begin = answer.begin
    host.wakeup.before_wait(answer.begin)
    return Ok(answer)


def _code_of_own(error: CapabilityError) -> Value:
    """Find what is wrong with a request that is not sent."""
    if error.code is Code.BAD_REQUEST:
        return (
            "HTTP-request-method-invalid" if "method" in error.message else "HTTP-request-header-section-size"
        ), None
    return error_code(error)


def _request(usage: Usage, head: tuple[str, Url, Headers], body: UploadBody | None, options: RequestOptions) -> Request:
    upload = None if body is None else Upload(partial(body.piece, usage), body.length, lambda: body.trailers)
    return Request(
        *head,
        upload=upload,
        connect_seconds=options.seconds("connect"),
        answer_seconds=options.seconds("first-byte"),
    )


async def _begin(answer: FutureResponse) -> Value:
    answer.begin()
    return Ok(answer)


@offer(TYPES, "[method]future-incoming-response.subscribe", "func(self: borrow<future-incoming-response>) -> pollable")
def future_subscribe(_: WasiHost, future: FutureResponse) -> Value:
    return Pollable(future)


@offer(
    TYPES,
    "[method]future-incoming-response.get",
    f"func(self: borrow<future-incoming-response>) -> option<result<result<incoming-response, {_ERROR_CODE}>>>",
)
def future_get(_: WasiHost, future: FutureResponse) -> Value | Await:
    if future.taken:
        return Err()
    if future.result is None:
        return None if future.begun else Await(lambda: _begin_unanswered(future))
    future.taken = True
    return Ok(future.result)


async def _begin_unanswered(future: FutureResponse) -> Value:
    """Send the request of a guest that asks without waiting, again and again, too."""
    future.begin()
    return None


@offer(TYPES, "[method]incoming-response.status", "func(self: borrow<incoming-response>) -> u16")
def incoming_status(_: WasiHost, response: IncomingResponse) -> Value:
    return response.status


@offer(TYPES, "[method]incoming-response.headers", "func(self: borrow<incoming-response>) -> fields")
def incoming_headers(_: WasiHost, response: IncomingResponse) -> Value:
    return response.headers


@offer(TYPES, "[method]incoming-response.consume", "func(self: borrow<incoming-response>) -> result<incoming-body>")
def incoming_consume(_: WasiHost, response: IncomingResponse) -> Value:
    body, response.body = response.body, None
    return Err() if body is None else Ok(body)


@offer(
    TYPES,
    "[method]response-outparam.send-informational",
    f"func(self: borrow<response-outparam>, status: u16, headers: fields) -> result<_, {_ERROR_CODE}>",
)
def send_informational(_: WasiHost, out: object, status: int, headers: Fields) -> Value:
    """Refuse, as wasmtime does: there is no way to send one."""
    return Err(("internal-error", "informational responses are not sent"))
