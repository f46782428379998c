"""Hosts of the outside world, stubbed: answers, failures and delays for a guest's requests."""

from __future__ import annotations

import asyncio
import json as json_module
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

from ..capabilities import CapabilityError, Code
from ..capabilities.http import HttpFetch
from ..capabilities.http.grant import HttpGrant
from ..capabilities.http.headers import Headers, of_response
from ..capabilities.http.messages import Incoming, Request, Response
from ..config.loading import read_yaml
from ..exceptions import ConfigError

_FAILURES = {
    code.value: code
    for code in (Code.DNS_FAILED, Code.CONNECT_FAILED, Code.TLS_FAILED, Code.UPSTREAM_FAILED, Code.TIMEOUT)
}
_KEYS = ("status", "headers", "body", "json", "delayMs", "error")
_MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """A request that a guest sent, and the status or the code of the failure that it got."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    status: int | None = None
    error: str | None = None

    def json(self) -> Any:
        """Return the body, read as JSON."""
        return json_module.loads(self.body)


@dataclass(slots=True)
class _Stub:
    method: str | None
    url: str
    answers: list[_Answer]

    def takes(self, method: str, url: str) -> bool:
        if self.method not in (None, method):
            return False
        if self.url.endswith("*"):
            return url.startswith(self.url[:-1])
        return self.url in (url, url.partition("?")[0])

    def next(self) -> _Answer:
        """Return the first answer; the last one stays."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    error: Code | None = None


class Hosts:
    """What the outside world answers. A request that no stub takes fails to connect, and is recorded too."""

    def __init__(self) -> None:
        self.requests: list[OutboundRequest] = []
        self._stubs: list[_Stub] = []

    def answer(
        self,
        url: str,
        *,
        method: str | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        body: str | bytes = b"",
        json: Any = None,
        delay: float = 0.0,
    ) -> None:
        """Answer requests of ``url``: as it is, or with any query; one that ends in ``*`` is a prefix.

        Stubs of the same URL and method answer in turn, and the last of them from then on. ``delay`` is in seconds.
        """
        sent = dict(headers or {})
        content = body.encode() if isinstance(body, str) else body
        if json is not None:
            content = json_module.dumps(json).encode()
            sent.setdefault("content-type", "application/json")
        self._add(url, method, _Answer(status, sent, content, delay))

    def fail(self, url: str, error: str = "connect-failed", *, method: str | None = None, delay: float = 0.0) -> None:
        """Fail requests of ``url``, with the code that the guest gets: ``dns-failed``, ``connect-failed``,
        ``tls-failed``, ``upstream-failed`` or ``timeout``.
        """
        if error not in _FAILURES:
            raise ValueError(f"{error!r} is not a failure of a request; give one of {', '.join(_FAILURES)}")
        self._add(url, method, _Answer(delay=delay, error=_FAILURES[error]))

    def _add(self, url: str, method: str | None, answer: _Answer) -> None:
        for stub in self._stubs:
            if (stub.method, stub.url) == (method, url):
                stub.answers.append(answer)
                return
        self._stubs.append(_Stub(method, url, [answer]))

    def load(self, file: str | PathLike[str]) -> None:
        """Add the stubs in a YAML or JSON file: ``[METHOD ]URL: {status, headers, body, json, delayMs, error}``.

        Raises ConfigError.
        """
        document = read_yaml(file, "stubs, such as https://api.example.com/: {status: 200, json: {}}", _MOST_BYTES)
        for key, values in document.items():
            method, _, url = str(key).rpartition(" ")
            for each in values if isinstance(values, list) else [values]:
                self._load_one(file, str(key), method or None, url, each)

    def _load_one(self, file: str | PathLike[str], key: str, method: str | None, url: str, given: Any) -> None:
        if not url.startswith(("http://", "https://")):
            hint = "write [METHOD ]URL, such as https://api.example.com/rates"
            raise ConfigError(f"{key!r} is not a URL", file=file, hint=hint)
        if not isinstance(given, dict) or (unknown := set(given) - set(_KEYS)):
            what = f"unknown keys: {', '.join(map(str, unknown))}" if isinstance(given, dict) else "is not a mapping"
            raise ConfigError(f"{key}: {what}", file=file, hint=f"known are {', '.join(_KEYS)}")
        delay = given.get("delayMs", 0) / 1000
        if "error" in given:
            try:
                self.fail(url, str(given["error"]), method=method, delay=delay)
            except ValueError as error:
                raise ConfigError(f"{key}: {error}", file=file) from None
            return
        self.answer(
            url,
            method=method,
            status=given.get("status", 200),
            headers={str(name): str(value) for name, value in (given.get("headers") or {}).items()},
            body=str(given.get("body", "")),
            json=given.get("json"),
            delay=delay,
        )

    async def respond(self, request: Request) -> Response:
        """Return what a stub answers. Raises CapabilityError."""
        url = str(request.url)
        # Later ones come first: a test may override what a fixture has set.
        stub = next((stub for stub in reversed(self._stubs) if stub.takes(request.method, url)), None)
        if stub is None:
            self._record(request, None, Code.CONNECT_FAILED)
            detail = f"no stub answers {request.method} {url}"
            raise CapabilityError(Code.CONNECT_FAILED, f"cannot connect to {request.url.host}", detail=detail)
        answer = stub.next()
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.error is not None:
            self._record(request, None, answer.error)
            raise CapabilityError(answer.error, f"{answer.error.value} (stub) of {request.url.host}")
        self._record(request, answer.status, None)
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
        return Response(answer.status, of_response(pairs), answer.body)

    def _record(self, request: Request, status: int | None, error: Code | None) -> None:
        code = None if error is None else error.value
        sent = dict(request.headers)
        self.requests.append(OutboundRequest(request.method, str(request.url), sent, request.body, status, code))


class StubbedFetch(HttpFetch):
    """A ``http.fetch`` that asks stubs, once the policy has let the request out. Needs no HTTP client."""

    def __init__(self, hosts: Hosts, *, max_response_bytes: int) -> None:
        super().__init__(max_response_bytes=max_response_bytes)
        self._hosts = hosts

    @staticmethod
    def available() -> bool:
        return True

    @staticmethod
    def load() -> None:
        """Do nothing: nothing is sent."""

    @asynccontextmanager
    async def _open(self, grant: HttpGrant, request: Request, extra: Mapping[str, str]) -> AsyncIterator[Incoming]:
        if request.upload is not None:
            body = bytearray()
            while (piece := await request.upload.piece()) is not None:
                body += piece
            request = replace(request, body=bytes(body), upload=None)
        yield _Stubbed(await self._hosts.respond(request))


class _Stubbed:
    """The answer of a stub, as a client gives it."""

    def __init__(self, response: Response) -> None:
        body = response.body
        self._pieces = [body] if isinstance(body, bytes) and body else []
        self.status = response.status
        self.headers = response.headers
        self.trailers: Headers = []

    async def piece(self) -> bytes | None:
        return self._pieces.pop() if self._pieces else None
