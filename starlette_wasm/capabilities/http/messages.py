"""Requests of guests, the responses to them, and what an observer sees of both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ...config.notation import IDEMPOTENT_METHODS
from ..errors import CapabilityError, Code
from ..pieces import Pieces
from . import headers as h
from .url import Url, UrlError

_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(slots=True)
class Attempt:
    """One outbound request, for its observers. ``status`` or ``error`` (a code) are known when it is over."""

    method: str
    url: Url
    resend_count: int
    status: int | None = None
    error: str | None = None


Observer = Callable[[Attempt], AbstractContextManager[Mapping[str, str]]]
"""Entered before an attempt and left after it; gives headers to send, such as ``traceparent``."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that comes piece by piece, the end as None. ``length`` is None if it is not known.

    ``trailers`` is asked at the end.
    """

    piece: Callable[[], Awaitable[bytes | None]]
    length: int | None
    trailers: Callable[[], h.Headers]


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a guest's. ``upload`` is sent instead of ``body``, if it is there."""

    method: str
    url: Url
    headers: h.Headers
    body: bytes = b""
    upload: Upload | None = None
    connect_seconds: float | None = None
    answer_seconds: float | None = None
    """How long the head of the answer may take, once there is a connection."""

    @property
    def repeatable(self) -> bool:
        """Whether the upstream may receive it twice (RFC 9110, section 9.2.2), and it can be sent twice."""
        return self.upload is None and self.method in IDEMPOTENT_METHODS

    @property
    def length(self) -> int | None:
        """Bytes of the body, None if that is not known."""
        return len(self.body) if self.upload is None else self.upload.length

    def redirected(self, status: int, location: str) -> Request:
        """Follow RFC 9110, section 15.4, and the Fetch standard, HTTP-redirect fetch. Raises CapabilityError."""
        url = checked(self.url.join, location)
        method, headers, body = self.method, self.headers, self.body
        if (status in (301, 302) and method == "POST") or (status == 303 and method not in ("GET", "HEAD")):
            method, headers, body = "GET", h.without_content(headers), b""
        if not url.same_origin(self.url):
            headers = h.for_other_origin(headers)
        return Request(method, url, headers, body)


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: h.Headers
    body: bytes | Pieces = b""

    @property
    def location(self) -> str | None:
        """Where it redirects to, if it does."""
        if self.status not in _REDIRECTS:
            return None
        return next((value for name, value in self.headers if name == "location"), None)


class Incoming(Protocol):
    """The answer to a request, its body not read yet."""

    status: int
    headers: h.Headers
    trailers: h.Headers

    async def piece(self) -> bytes | None:
        """Return what comes next of the body, None at its end: then ``trailers`` are there. Raises CapabilityError."""


def checked(parse: Callable[[str], Url], text: str) -> Url:
    """Return ``parse(text)``; raises CapabilityError for UrlError."""
    try:
        return parse(text)
    except UrlError as error:
        raise CapabilityError(Code.INVALID_URL, f"invalid URL: it {error}") from None
