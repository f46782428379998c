"""Who may do what: bearer tokens with scopes, or a callable of the app's own."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, get_args
from urllib.parse import urlsplit

from starlette.requests import Request

from ...exceptions import ConfigError
from .session import kept_token

Scope = Literal["read", "operate", "deploy"]
SCOPES: tuple[str, ...] = get_args(Scope)
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_MOST_TOKEN = 512
_SAFE = ("GET", "HEAD")
HEADER = "x-wasm-admin"
"""A request that changes something, and is not authenticated by a token, must have this header."""


@dataclass(frozen=True, slots=True)
class AdminIdentity:
    """Somebody who may use the admin API.

    ``scopes`` are of ``read``, ``operate`` and ``deploy``; none implies another. ``functions`` are patterns, such as
    ``shop-*``, of the functions that all this is about.
    """

    name: str
    scopes: Collection[str]
    functions: Sequence[str] = ("*",)

    def __post_init__(self) -> None:
        """Raise ConfigError for scopes or functions that are a text instead of a list."""
        _check_lists(self.scopes, self.functions)

    def may(self, scope: str, function: str | None = None) -> bool:
        """Return whether a scope is granted, for a function or, without one, for the runtime as a whole."""
        patterns = self.functions
        fits = "*" in patterns if function is None else any(fnmatchcase(function, pattern) for pattern in patterns)
        return scope in self.scopes and fits

    def sees(self, function: str) -> bool:
        """Return whether a function is one of this identity's."""
        return any(fnmatchcase(function, pattern) for pattern in self.functions)


@dataclass(frozen=True, slots=True)
class AdminToken:
    """A bearer token, of which only the SHA-256 is kept.

    ``AdminToken.new("ci", ["deploy"])`` gives a new token, to be shown once, and what is kept of it.
    """

    name: str
    sha256: str
    scopes: Collection[str]
    functions: Sequence[str] = ("*",)

    def __post_init__(self) -> None:
        """Raise ConfigError for a hash or a scope that is none."""
        if not _HASH.match(self.sha256):
            hint = "give the SHA-256 of the token as 64 hexadecimal digits, never the token"
            raise ConfigError(f"the sha256 of the token {self.name!r} is not one", key="tokens", hint=hint)
        _check_lists(self.scopes, self.functions)
        unknown = sorted(set(self.scopes) - set(SCOPES))
        if unknown:
            problem = f"the token {self.name!r} has an unknown scope: {unknown}"
            raise ConfigError(problem, key="tokens", hint=f"write a list of {', '.join(SCOPES)}")

    @classmethod
    def new(cls, name: str, scopes: Collection[str], functions: Sequence[str] = ("*",)) -> tuple[str, AdminToken]:
        """Return a new token, and what is kept of it."""
        token = secrets.token_urlsafe(32)
        return token, cls.of(token, name, scopes, functions)

    @classmethod
    def of(cls, token: str, name: str, scopes: Collection[str], functions: Sequence[str] = ("*",)) -> AdminToken:
        """Return what is kept of a token, such as one that a Secret holds. It must be a random one."""
        if len(token) < 16:
            raise ConfigError(f"the token {name!r} is too short", key="tokens", hint="use 32 random characters")
        return cls(name, hashlib.sha256(token.encode()).hexdigest(), scopes, functions)


def _check_lists(scopes: Collection[str], functions: Sequence[str]) -> None:
    """Raise ConfigError for a text: each of its characters would count, such as the ``*`` of ``shop-*`` for all."""
    for key, value in (("scopes", scopes), ("functions", functions)):
        if isinstance(value, str):
            raise ConfigError(f"{key} is a text, not a list", key=key, hint=f"write {key}=[...]")


Authorize = Callable[[Request], "AdminIdentity | Awaitable[AdminIdentity | None] | None"]
"""Says who a request is from, such as by the app's session; None if nobody is known."""


class Refused(Exception):
    """A request that is not served: ``status`` and why, as the caller may read it."""

    def __init__(self, status: int, reason: str, retry_after: int | None = None) -> None:
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(reason)


class Gatekeeper:
    """Finds out who a request is from."""

    def __init__(self, tokens: Sequence[AdminToken], authorize: Authorize | None) -> None:
        self._tokens = list(tokens)
        self._authorize = authorize

    async def identify(self, request: Request) -> AdminIdentity:
        """Raise Refused for an unknown caller, and for what another site may have sent."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._tokens:
            known = self.identity_of(token.strip())
            if known is None:
                raise Refused(401, "unknown token")
            return known
        kept = kept_token(request) if self._tokens else None
        if kept is not None and (identity := self.identity_of(kept)) is not None:
            _refuse_other_sites(request)
            return identity
        if self._authorize is not None:
            answer = self._authorize(request)
            identity = await answer if inspect.isawaitable(answer) else answer
            if identity is not None:
                _refuse_other_sites(request)
                return identity
        raise Refused(401, "a bearer token is needed" if self._tokens else "nobody is logged in")

    @property
    def takes_tokens(self) -> bool:
        """Whether there are tokens to log in with."""
        return bool(self._tokens)

    def identity_of(self, given: str) -> AdminIdentity | None:
        """Compare with every token, whether one has fitted or not, so that the time depends on no secret."""
        digest = hashlib.sha256(given[:_MOST_TOKEN].encode("utf-8", "replace")).hexdigest()
        found = None
        for each in self._tokens:
            if hmac.compare_digest(each.sha256, digest):
                found = each
        return None if found is None else AdminIdentity(found.name, found.scopes, found.functions)


def _refuse_other_sites(request: Request) -> None:
    """Raise Refused for what a page of another site can make a browser send along with a cookie."""
    if request.method in _SAFE:
        _refuse_embedded(request)
        return
    refuse_other_origins(request)
    if HEADER not in request.headers:
        raise Refused(403, f"the header {HEADER} is missing")


def _refuse_embedded(request: Request) -> None:
    """Raise Refused for what a page of another site loads. A link from there to a page that a user sees is let in."""
    headers = request.headers
    if headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document":
        return
    if headers.get("sec-fetch-site") == "none":  # typed in, or a bookmark
        return
    refuse_other_origins(request)


def refuse_other_origins(request: Request) -> None:
    """Raise Refused if the browser names another site as the one that sends the request."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site not in (None, "same-origin"):
        raise Refused(403, "the request comes from another site")
    if origin is not None and _host_of(origin) != request.headers.get("host"):
        raise Refused(403, "the request comes from another site")


def _host_of(origin: str) -> str | None:
    """Return host and port of an origin; None for what is not one."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float = field(default_factory=time.monotonic)


class RateLimit:
    """A bound on requests a minute for each caller; it knows at most 4,096 callers at a time."""

    _MOST = 4096

    def __init__(self, per_minute: int) -> None:
        self._per_second = per_minute / 60
        self._burst = float(max(1, per_minute // 6))
        self._buckets: dict[str, _Bucket] = {}

    def take(self, caller: str) -> None:
        """Raise Refused for a caller who has had enough."""
        now = time.monotonic()
        bucket = self._buckets.pop(caller, None) or _Bucket(self._burst, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._per_second)
        bucket.at = now
        while len(self._buckets) >= self._MOST:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[caller] = bucket
        if bucket.tokens < 1:
            raise Refused(429, "too many requests", retry_after=max(1, round((1 - bucket.tokens) / self._per_second)))
        bucket.tokens -= 1
