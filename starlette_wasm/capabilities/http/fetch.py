"""The operation ``http.fetch``: one request of a guest, and the redirects that it leads to."""

from __future__ import annotations

import asyncio
import importlib
import re
import ssl
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..errors import CapabilityError, Code
from ..fields import Fields, bad_field
from ..pieces import Pieces
from ..usage import Usage
from . import headers as h
from .grant import HttpGrant
from .messages import Attempt, Incoming, Observer, Request, Response, checked
from .resolve import Resolver, addresses_of, resolve
from .url import Url

if TYPE_CHECKING:
    from .client import Client
    from .exchange import Exchange

MAX_REDIRECTS = 5
MAX_TIMEOUT_MS = 86_400_000

_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}", re.ASCII)
_FORBIDDEN_METHODS = ("CONNECT", "TRACE", "TRACK")


class HttpFetch:
    """Raises CapabilityError. Needs httpx, the extra ``fetch``."""

    def __init__(
        self, *, max_response_bytes: int, resolver: Resolver = resolve, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._max_response_bytes = max_response_bytes
        self._resolver = resolver
        self._ssl_context = ssl_context
        self._client: Client | None = None

    @staticmethod
    def available() -> bool:
        return find_spec("httpx") is not None

    @staticmethod
    def load() -> None:
        """Import what sends, which takes a tenth of a second: before the event loop needs it."""
        with suppress(ImportError):  # which whoever calls it is told
            importlib.import_module(".client", __package__)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def keep(self, grants: Collection[HttpGrant]) -> None:
        """Close the connections that are kept for others."""
        if self._client is not None:
            self._client.keep(grants)

    @staticmethod
    def check(grant: HttpGrant, fields: Fields) -> None:
        """Raise CapabilityError for a URL that is not granted."""
        grant.check(checked(Url.parse, fields.peek("url")))

    async def fetch(
        self, grant: HttpGrant, usage: Usage, observer: Observer | None, fields: Fields, body: bytes
    ) -> tuple[dict[str, object], bytes | Pieces]:
        url = checked(Url.parse, fields.text("url"))
        request = Request(check_method(fields.text("method", "GET")), url, h.of_guest(fields.texts("headers")), body)
        redirects = fields.integer("maxRedirects", 0, MAX_REDIRECTS, MAX_REDIRECTS)
        timeout = fields.maybe_integer("timeoutMs", 1, MAX_TIMEOUT_MS)
        fields.done()
        async with asyncio.timeout(None if timeout is None else timeout / 1000):
            request, response = await self._follow(grant, usage, observer, request, redirects)
        lists: dict[str, list[str]] = {}
        for name, value in response.headers:
            lists.setdefault(name, []).append(value)
        return {"status": response.status, "headers": lists, "url": str(request.url)}, response.body

    async def _follow(
        self, grant: HttpGrant, usage: Usage, observer: Observer | None, request: Request, redirects: int
    ) -> tuple[Request, Response]:
        for hop in range(redirects + 1):
            grant.check(request.url)
            usage.request()
            response = await self._attempt(grant, usage, observer, request, hop, follow=redirects > 0)
            location = response.location
            if location is None or redirects == 0:
                return request, response
            request = request.redirected(response.status, location)
        raise CapabilityError(Code.TOO_MANY_REDIRECTS, f"more than {redirects} redirects")

    async def _attempt(
        self, grant: HttpGrant, usage: Usage, observer: Observer | None, request: Request, hop: int, *, follow: bool
    ) -> Response:
        attempt = Attempt(request.method, request.url, hop)
        with _observed(observer, attempt) as extra:
            response = await self._send(grant, usage, request, extra, follow=follow)
            attempt.status = response.status
            return response

    async def _send(
        self, grant: HttpGrant, usage: Usage, request: Request, extra: Mapping[str, str], *, follow: bool
    ) -> Response:
        async with self._open(grant, request, extra) as response:
            received = Response(response.status, response.headers)
            if follow and received.location is not None:
                return received
            limit = min(self._max_response_bytes, usage.bytes_left, usage.room // 2)  # it is copied once
            body = Pieces()
            while (chunk := await response.piece()) is not None:
                body.add(chunk)
                if len(body) > limit:
                    raise _too_large(limit)
            return Response(received.status, received.headers, body)

    @asynccontextmanager
    async def exchange(
        self, grant: HttpGrant, usage: Usage, observer: Observer | None, request: Request
    ) -> AsyncIterator[Incoming]:
        """Send one request that ``grant`` lets out, without redirects. Only the head of the answer has been read."""
        attempt = Attempt(request.method, request.url, 0)
        with _observed(observer, attempt) as extra:
            async with self._open(grant, request, extra) as response:
                attempt.status = response.status
                yield _Counted(response, usage, self._max_response_bytes)

    @asynccontextmanager
    async def _open(self, grant: HttpGrant, request: Request, extra: Mapping[str, str]) -> AsyncIterator[Incoming]:
        url = request.url
        addresses = await addresses_of(url.host, url.port, self._resolver, grant.tenant)
        grant.check_addresses(url, addresses)
        headers = h.to_send(
            request.headers, host=url.authority, method=request.method, length=request.length, extra=extra
        )
        async with self._get_client().send(grant, request, addresses, headers) as exchange:
            yield _Received(exchange)

    def _get_client(self) -> Client:
        if self._client is None:
            try:
                from .client import Client
            except ImportError as error:
                raise CapabilityError(
                    Code.UNAVAILABLE, "http.fetch is not available on this host", detail=str(error)
                ) from None
            self._client = Client(self._ssl_context)
        return self._client


def check_method(method: str) -> str:
    """Check that a method may be sent. Raises CapabilityError."""
    if not _METHOD.fullmatch(method) or method in _FORBIDDEN_METHODS:
        raise bad_field("method", "is none that may be sent")
    return method


class _Received:
    """An answer of an upstream, with the headers that a guest may see."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.status = exchange.status
        self.headers = h.of_response(exchange.headers)
        self.trailers: h.Headers = []

    async def piece(self) -> bytes | None:
        piece = await self._exchange.piece()
        if piece is None:
            self.trailers = h.of_response(self._exchange.trailers)
        return piece


class _Counted:
    """An answer whose body counts in what an invocation may move, and has a bound."""

    def __init__(self, response: Incoming, usage: Usage, most: int) -> None:
        self._response = response
        self._usage = usage
        self._most = most
        self._size = 0
        self.status = response.status
        self.headers = response.headers
        self.trailers: h.Headers = []

    async def piece(self) -> bytes | None:
        piece = await self._response.piece()
        if piece is None:
            self.trailers = self._response.trailers
            return None
        self._size += len(piece)
        if self._size > self._most:
            raise _too_large(self._most)
        self._usage.move(len(piece))
        return piece


def _too_large(limit: int) -> CapabilityError:
    return CapabilityError(Code.TOO_LARGE, f"response too large: more than {limit} bytes")


@contextmanager
def _observed(observer: Observer | None, attempt: Attempt) -> Iterator[Mapping[str, str]]:
    """Let an observer see an attempt, and how it fails; what it wants sent comes back."""
    with nullcontext({}) if observer is None else observer(attempt) as extra:
        try:
            yield extra
        except CapabilityError as error:
            attempt.error = error.code
            raise
        except asyncio.CancelledError:
            attempt.error = Code.TIMEOUT
            raise
