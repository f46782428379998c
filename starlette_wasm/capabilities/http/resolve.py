"""Names to addresses."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_address

from ..errors import CapabilityError, Code

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Takes a name and a port, gives addresses, the best first; raises OSError."""

_MAX_LOOKUPS = 64

_lookups = threading.BoundedSemaphore(_MAX_LOOKUPS)


async def resolve(host: str, port: int) -> list[str]:
    """``getaddrinfo()`` in a thread of its own.

    The loop's own would take the threads of its executor, which the app needs, and a lookup that nobody answers
    keeps its thread for seconds, also after the guest is gone. These threads hold up no exit of the process.
    """
    if not _lookups.acquire(blocking=False):
        raise OSError("too many lookups at once")
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def tell(addresses: list[str] | None, error: Exception | None) -> None:
        if not answer.done():
            if addresses is None:
                answer.set_exception(error or OSError())
            else:
                answer.set_result(addresses)

    def look_up() -> None:
        addresses, failure = None, None
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        except Exception as error:
            failure = error
        finally:
            _lookups.release()
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(tell, addresses, failure)

    try:
        threading.Thread(target=look_up, name="starlette-wasm-dns", daemon=True).start()
    except RuntimeError as error:
        _lookups.release()
        raise OSError(str(error)) from None
    return await answer


async def addresses_of(host: str, port: int, resolver: Resolver) -> list[str]:
    """The host itself where it is an address. Raises CapabilityError."""
    with suppress(ValueError):
        return [str(ip_address(host))]
    try:
        addresses = [str(ip_address(each)) for each in await resolver(host, port)]
    except (OSError, ValueError) as error:  # UnicodeError is a ValueError
        raise CapabilityError(Code.DNS_FAILED, f"cannot resolve {host}", detail=str(error)) from None
    if not addresses:
        raise CapabilityError(Code.DNS_FAILED, f"cannot resolve {host}")
    return addresses
