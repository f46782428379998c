"""Names to addresses."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from contextvars import ContextVar
from ipaddress import ip_address

from ...sync.threads import FairThreads
from ..errors import CapabilityError, Code

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Takes a name and a port, gives addresses, the best first; raises OSError."""

MAX_LOOKUPS = 64
MAX_LOOKUPS_OF_TENANT = 8
MAX_ADDRESSES = 64
"""Addresses of a name, each of which is checked: a name server may give thousands."""

_lookups = FairThreads("starlette-wasm-dns", most=MAX_LOOKUPS, each=MAX_LOOKUPS_OF_TENANT)

asking: ContextVar[Hashable] = ContextVar("starlette_wasm_asking", default=None)
"""The tenant for whom a name is looked up."""


async def resolve(host: str, port: int) -> list[str]:
    """Call ``getaddrinfo()`` in a thread; each tenant has a share of those.

    The loop's own would take the threads of its executor, which the app needs, and a lookup that nobody answers
    keeps its thread for seconds, also after the guest is gone. These threads hold up no exit of the process.
    """
    try:
        return await _lookups.run(asking.get(), lambda: _look_up(host, port))
    except RuntimeError as error:  # no thread can be started
        raise OSError(str(error)) from None


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


async def addresses_of(host: str, port: int, resolver: Resolver, tenant: Hashable = None) -> list[str]:
    """Return the host itself if it is an address. Raises CapabilityError."""
    with suppress(ValueError):
        return [str(ip_address(host))]
    token = asking.set(tenant)
    try:
        found = await resolver(host, port)
        if len(found) > MAX_ADDRESSES:
            raise CapabilityError(
                Code.DNS_FAILED, f"cannot resolve {host}", detail=f"it has {len(found)} addresses, not {MAX_ADDRESSES}"
            )
        addresses = [str(ip_address(each)) for each in found]
    except (OSError, ValueError) as error:  # UnicodeError is a ValueError
        raise CapabilityError(Code.DNS_FAILED, f"cannot resolve {host}", detail=str(error)) from None
    finally:
        asking.reset(token)
    if not addresses:
        raise CapabilityError(Code.DNS_FAILED, f"cannot resolve {host}")
    return addresses
