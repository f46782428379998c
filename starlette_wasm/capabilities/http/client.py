"""Connections to addresses that were checked.

On httpcore, the part of httpx below its own URLs, redirects, cookies, proxies and decoding: none of that is wanted
here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import httpcore
import httpx

from ...sync.per_loop import PerLoop
from ..errors import CapabilityError, Code
from .url import Url

_MAX_ADDRESSES = 4
_NEXT_ADDRESS_SECONDS = 1.0
_IDLE_CONNECTIONS = 20
_IDLE_SECONDS = 5.0


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the address in ``"name address"``, which stands where httpcore has the host.

    It keys its pool by that: a connection is used again only for the same scheme, name, address and port, so
    neither for another name at the same address, nor where the name is at an address that was not checked.
    """

    def __init__(self) -> None:
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        _, address = host.split(" ")
        stream = await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
        return _Stream(stream)


class _Stream(httpcore.AsyncNetworkStream):
    """Closed where the handshake is cancelled: httpcore would leave the socket with the loop for ever."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self._stream.aclose()
            raise


class Client:
    """One pool for each event loop."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        self._ssl_context = ssl_context
        self._pools = PerLoop(self._pool, httpcore.AsyncConnectionPool.aclose)

    def _pool(self) -> httpcore.AsyncConnectionPool:
        return httpcore.AsyncConnectionPool(
            ssl_context=self._ssl_context,
            max_connections=None,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=PinnedBackend(),
        )

    async def close(self) -> None:
        await self._pools.close()

    @asynccontextmanager
    async def send(
        self, method: str, url: Url, addresses: list[str], headers: list[tuple[bytes, bytes]], body: bytes
    ) -> AsyncIterator[httpcore.Response]:
        """The response, its body not read yet. Raises CapabilityError, in the body of the context, too."""
        if self._ssl_context is None:  # reads a few hundred certificates
            self._ssl_context = await asyncio.to_thread(httpx.create_ssl_context)
        pool = await self._pools.get()
        try:
            response = await self._first(pool, method, url, addresses[:_MAX_ADDRESSES], headers, body)
            try:
                yield response
            finally:
                await response.aclose()
        except httpcore.TimeoutException:
            raise CapabilityError(Code.CONNECT_FAILED, f"cannot connect to {url.host}") from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise _failure(url, error) from None

    async def _first(
        self,
        pool: httpcore.AsyncConnectionPool,
        method: str,
        url: Url,
        addresses: list[str],
        headers: list[tuple[bytes, bytes]],
        body: bytes,
    ) -> httpcore.Response:
        """From the first address that takes the connection; nothing is sent before."""
        for address in addresses:
            last = address is addresses[-1]
            request = httpcore.Request(
                method,
                httpcore.URL(
                    scheme=url.scheme.encode(),
                    host=f"{url.host} {address}".encode(),
                    port=url.port,
                    target=url.target.encode(),
                ),
                headers=headers,
                content=body,
                extensions={
                    "sni_hostname": url.host,
                    "timeout": {"connect": None if last else _NEXT_ADDRESS_SECONDS},
                },
            )
            try:
                return await pool.handle_async_request(request)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                if last or _tls_error(error):
                    raise
        raise AssertionError("no address")


def _failure(url: Url, error: Exception) -> CapabilityError:
    if tls := _tls_error(error):
        reason = getattr(tls, "verify_message", None) or tls.reason or "handshake failed"
        return CapabilityError(Code.TLS_FAILED, f"no TLS with {url.host}: {reason}", detail=str(tls))
    if isinstance(error, httpcore.ConnectError):
        return CapabilityError(Code.CONNECT_FAILED, f"cannot connect to {url.host}", detail=str(error))
    return CapabilityError(Code.UPSTREAM_FAILED, f"no valid response from {url.host}", detail=str(error))


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error
