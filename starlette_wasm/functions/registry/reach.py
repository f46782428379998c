"""Where a registry may lead a client: by redirects, to a token service, to more tags, to a place for an upload."""

from __future__ import annotations

import socket
from enum import IntEnum
from functools import partial
from ipaddress import ip_address

import httpx

from ...capabilities.http.addresses import is_public
from ...sync.own_thread import in_own_thread
from .errors import RegistryError
from .reference import Reference


class _Reach(IntEnum):
    """How far into a network an address is."""

    PUBLIC = 0
    PRIVATE = 1
    OWN = 2
    """This machine, or its link, on which clouds have the service that gives away credentials."""


async def check_place(reference: Reference, base: str, url: httpx.URL) -> None:
    """Raise RegistryError for an address that a registry, whose own URL is ``base``, may not lead to.

    That is one without TLS if the registry has it, and one deeper in the network than the registry is: else whoever
    runs a public registry could have requests made to what only this machine reaches.
    """
    here = httpx.URL(base)
    if url.netloc == here.netloc and url.scheme == here.scheme:
        return
    if url.scheme != "https" and here.scheme == "https":
        raise RegistryError(f"leads to {url.host} without TLS", source=str(reference))
    if await _reach(url.host, reference) > await _reach(here.host, reference):
        hint = "a registry may lead no deeper into the network than it is itself"
        raise RegistryError(f"leads to {url.host}, an address of the inside", source=str(reference), hint=hint)


async def _reach(host: str, reference: Reference) -> _Reach:
    try:
        found = await in_own_thread(partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        raise RegistryError(f"leads to {host}, which has no address", source=str(reference)) from None
    return max(_reach_of(str(address[0])) for *_, address in found)


def _reach_of(text: str) -> _Reach:
    address = ip_address(text)
    inner = getattr(address, "ipv4_mapped", None) or address
    if inner.is_loopback or inner.is_link_local or inner.is_unspecified:
        return _Reach.OWN
    return _Reach.PUBLIC if is_public(address) else _Reach.PRIVATE
