"""Connections to addresses that were checked, each used by one tenant alone.

Redirects, cookies, proxies and decoding, which a client for browsers has, are not wanted here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection, Hashable
from contextlib import asynccontextmanager

import h11
import httpx

from ...sync.fair_queue import NoRoom
from ...sync.own_thread import in_own_thread
from ...sync.pace import Pace
from ...sync.per_loop import PerLoop
from ..errors import CapabilityError, Code
from .exchange import Exchange
from .messages import Request
from .pool import Origin, Pool
from .sockets import sockets
from .url import Url
from .wire import Wire

_MAX_ADDRESSES = 4
_NEXT_ADDRESS_SECONDS = 1.0


class _Shared:
    """What all requests of an event loop share."""

    def __init__(self) -> None:
        self.pool = Pool()
        self.pace = Pace()

    async def close(self) -> None:
        self.pool.close()


class Client:
    """One pool for each event loop."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        self._ssl_context = ssl_context
        self._shared = PerLoop(_Shared, _Shared.close)

    async def close(self) -> None:
        await self._shared.close()

    def keep(self, tenants: Collection[Hashable]) -> None:
        """Close the idle connections of all but these, on this event loop; those of another end within seconds."""
        if (shared := self._shared.here()) is not None:
            shared.pool.keep(tenants)

    @asynccontextmanager
    async def send(
        self, tenant: Hashable, request: Request, addresses: list[str], headers: list[tuple[bytes, bytes]]
    ) -> AsyncIterator[Exchange]:
        """Give the answer, its body not read yet. Raises CapabilityError, in the body of the context, too."""
        url = request.url
        if self._ssl_context is None and url.scheme == "https":  # reads a few hundred certificates
            self._ssl_context = await in_own_thread(httpx.create_ssl_context)
        shared = await self._shared.get()
        addresses = addresses[:_MAX_ADDRESSES]
        origin, wire = await self._in_time(shared.pool, tenant, request, addresses)
        exchange = Exchange(wire, shared.pace, tenant)
        reusable = False
        try:
            try:
                await exchange.ask(request, headers)
            except (OSError, h11.ProtocolError):
                if not (wire.reused and exchange.unanswered and request.repeatable):
                    raise
                # The upstream closed the idle connection while the request was on its way to it.
                exchange.end()
                wire.close()
                origin, wire = await self._in_time(shared.pool, tenant, request, addresses, reuse=False)
                exchange = Exchange(wire, shared.pace, tenant)
                await exchange.ask(request, headers)
            yield exchange
            reusable = exchange.reusable
        except (OSError, h11.ProtocolError) as error:
            broken = exchange.broken
            raise (broken if isinstance(broken, CapabilityError) else _no_answer(url, error)) from None
        finally:
            exchange.end()
            if reusable:
                shared.pool.put(tenant, origin, wire)
            else:
                wire.close()

    async def _in_time(
        self, pool: Pool, tenant: Hashable, request: Request, addresses: list[str], reuse: bool = True
    ) -> tuple[Origin, Wire]:
        """Do as _connection(), in the time that the request gives for it. Raises CapabilityError."""
        try:
            async with asyncio.timeout(request.connect_seconds):
                return await self._connection(pool, tenant, request.url, addresses, reuse)
        except TimeoutError:
            raise CapabilityError(Code.CONNECT_TIMEOUT, f"cannot connect to {request.url.host} in time") from None

    async def _connection(
        self, pool: Pool, tenant: Hashable, url: Url, addresses: list[str], reuse: bool
    ) -> tuple[Origin, Wire]:
        """Connect to the first address that accepts; nothing is sent before. Take an idle one if ``reuse``."""
        for address in addresses:
            last = address is addresses[-1]
            origin = (url.scheme, url.host, address, url.port)
            if reuse and (wire := pool.take(tenant, origin)) is not None:
                return origin, wire
            try:
                async with asyncio.timeout(None if last else _NEXT_ADDRESS_SECONDS):
                    return origin, await self._open(pool, tenant, url, address)
            except ssl.SSLError as error:
                raise _no_tls(url, error) from None
            except OSError as error:  # TimeoutError is one
                if last:
                    raise _no_connection(url, error) from None
        raise AssertionError("no address")

    async def _open(self, pool: Pool, tenant: Hashable, url: Url, address: str) -> Wire:
        pool.make_room(tenant)
        try:
            release = await sockets.take(tenant)
        except NoRoom as error:
            raise CapabilityError(Code.CONNECT_FAILED, f"cannot connect to {url.host}: {error}") from None
        tls = self._ssl_context if url.scheme == "https" else None
        try:
            wire = await Wire.open(address, url.port, tls, url.host)
        except BaseException:
            release()
            raise
        wire.on_close = release
        return wire


def _no_tls(url: Url, error: ssl.SSLError) -> CapabilityError:
    reason = getattr(error, "verify_message", None) or error.reason or "handshake failed"
    return CapabilityError(Code.TLS_FAILED, f"no TLS with {url.host}: {reason}", detail=str(error))


def _no_connection(url: Url, error: OSError) -> CapabilityError:
    return CapabilityError(Code.CONNECT_FAILED, f"cannot connect to {url.host}", detail=str(error))


def _no_answer(url: Url, error: Exception) -> CapabilityError:
    return CapabilityError(Code.UPSTREAM_FAILED, f"no valid response from {url.host}", detail=str(error))
