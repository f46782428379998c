"""A transport that bounds what a registry sends: in bytes, in pieces, and in what each costs the event loop."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator

import httpx

from .errors import RegistryError

MAX_ANSWER = 256 << 10
"""Bytes of an answer whose request has no other bound: a manifest, a page of tags, a token, an error."""
MOST = "starlette_wasm.most"
"""The key of a request's extensions for another bound."""
_FREE_PIECES = 4096
_LEAST_PIECE = 256
"""Bytes that a piece has to have, beyond the first ones."""
_FREE_SECONDS, _LEAST_PACE = 60.0, 1024
"""Bytes a second that there have to be on average, beyond the first minute."""
_TURN = 16
"""Pieces after which the event loop has its turn."""


class BoundedTransport(httpx.AsyncBaseTransport):
    """A transport of httpx's with bounds. Reading an answer raises RegistryError if one is passed.

    An answer that is compressed although nobody asked for that stays so: nothing is decompressed.
    """

    def __init__(self, verify: ssl.SSLContext) -> None:
        self._transport = httpx.AsyncHTTPTransport(verify=verify, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._transport.handle_async_request(request)
        answer.headers.pop("content-encoding", None)
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        most = request.extensions.get(MOST, MAX_ANSWER) if answer.is_success else MAX_ANSWER
        answer.stream = BoundedStream(answer.stream, most, str(request.url))
        return answer

    async def aclose(self) -> None:
        await self._transport.aclose()


class BoundedStream(httpx.AsyncByteStream):
    """The body of one answer."""

    def __init__(self, stream: httpx.AsyncByteStream, most: int, source: str) -> None:
        self._stream = stream
        self._most = most
        self._source = source

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = pieces = 0
        begin = time.monotonic()
        async for piece in self._stream:
            size += len(piece)
            pieces += 1
            if size > self._most:
                raise RegistryError(f"sends more than {self._most} bytes", source=self._source)
            if pieces > _FREE_PIECES + size // _LEAST_PIECE:
                raise RegistryError("sends its answer in too small pieces", source=self._source)
            seconds = time.monotonic() - begin - _FREE_SECONDS
            if seconds > 0 and size < seconds * _LEAST_PACE:
                raise RegistryError(f"sends less than {_LEAST_PACE} bytes a second", source=self._source)
            if pieces % _TURN == 0:
                await asyncio.sleep(0)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
