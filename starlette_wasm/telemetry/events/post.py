"""One POST of a JSON document, by the standard library: redirects are not followed, and no answer is read."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import partial
from typing import Any

from ...sync.own_thread import in_own_thread
from ..bounded_answer import BoundedAnswer

_GRACE_SECONDS = 1.0
_MOST_THREADS = 3
"""Attempts of one endpoint that may hang at once, such as in looking up its name."""


class PostFailed(Exception):
    """The endpoint did not take it. ``again``: it may the next time, after ``pause`` seconds if that is known."""

    def __init__(self, problem: str, *, again: bool = True, pause: float | None = None) -> None:
        super().__init__(problem)
        self.again = again
        self.pause = pause


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *given: Any) -> None:
        """Follow none: the answer is then an error with its status."""


class _Connection(http.client.HTTPConnection):
    response_class = BoundedAnswer


class _SecureConnection(http.client.HTTPSConnection):
    response_class = BoundedAnswer


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req)


class Poster:
    """Sends to one endpoint. The proxies of the environment are used."""

    def __init__(self, url: str, headers: Mapping[str, str], seconds: float) -> None:
        self._url = url
        self._headers = headers
        self._seconds = seconds
        self._places = threading.BoundedSemaphore(_MOST_THREADS)
        self._opener = urllib.request.build_opener(_NoRedirects, _Http, _Https)

    async def post(self, document: Mapping[str, Any], content_type: str) -> None:
        """Raise PostFailed."""
        body = json.dumps(document).encode()
        if not self._places.acquire(blocking=False):  # it sends a byte from time to time, and never ends
            raise PostFailed("does not end its answers")
        headers = {**self._headers, "content-type": content_type, "user-agent": "starlette-wasm"}
        try:
            async with asyncio.timeout(self._seconds + _GRACE_SECONDS):
                await in_own_thread(partial(self._post, body, headers))
        except TimeoutError:
            raise PostFailed("did not answer in time") from None
        except RuntimeError as error:  # no thread can be started, so that nothing else gives the place back
            self._places.release()
            raise PostFailed(f"cannot be sent: {error}") from None

    def _post(self, body: bytes, headers: dict[str, str]) -> None:
        try:
            request = urllib.request.Request(self._url, body, headers, method="POST")
            self._opener.open(request, timeout=self._seconds).close()
        except urllib.error.HTTPError as error:
            error.close()
            again = error.code in (408, 425, 429) or error.code >= 500
            raise PostFailed(f"answered {error.code}", again=again, pause=_pause(error)) from None
        except (OSError, ValueError, RuntimeError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise PostFailed(f"did not answer: {type(reason).__name__}") from None  # its text may have the URL
        finally:
            self._places.release()


def _pause(error: urllib.error.HTTPError) -> float | None:
    given = error.headers.get("retry-after", "")
    return float(given) if given.isascii() and given.isdigit() else None
