"""``http.fetch`` as a whole: grants, names that change their addresses, redirects; the client, on a network of its own.

Nothing leaves the process: connections end in prepared bytes. What counts is which addresses were asked for. A guest
must reach none that the policy or the public internet does not have, and every one that both have.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import ssl
import struct
from collections.abc import Hashable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from starlette_wasm.capabilities import Capabilities, CapabilitySettings, Session, frame
from starlette_wasm.capabilities.http.client import Client
from starlette_wasm.capabilities.http.pool import Pool
from starlette_wasm.capabilities.http.url import Url
from starlette_wasm.capabilities.http.wire import Wire
from starlette_wasm.config.policy import SandboxPolicy

from .source import Source

TOKENS = (
    b"http://a.example/", b"//10.0.0.1/", b"/x", b"http://127.1/", b"\\", b"@", b"HTTP/1.1 302 Found\r\nLocation: ",
    b"\r\n\r\n", b"Content-Length: 0\r\n", b"[::1]", b"http://[::ffff:169.254.169.254]/",
)  # fmt: skip

# Entries, each with a plain reading of it: scheme, host and port, the port not the default one.
_ENTRIES = {
    "*": lambda scheme, host, port: True,
    "a.example": lambda scheme, host, port: host == "a.example" and port is None,
    "*.b.example": lambda scheme, host, port: host == "c.b.example" and port is None,
    "https://a.example:8443": lambda scheme, host, port: (scheme, host, port) == ("https", "a.example", 8443),
    "8.8.8.0/24": lambda scheme, host, port: host == "8.8.8.8" and port is None,
    "[2606:4700::1111]:8443": lambda scheme, host, port: host == "[2606:4700::1111]" and port == 8443,
    "http://10.0.0.1": lambda scheme, host, port: scheme == "http" and host == "10.0.0.1" and port is None,
    "c.b.example:8443": lambda scheme, host, port: host == "c.b.example" and port == 8443,
}
_PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8")
_PRIVATE = (
    "10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::",
    "fd00:ec2::254", "100.64.0.1", "192.168.1.1", "fe80::1%1", "2001:0:7f00:1:0:0:80ff:fffe",
)  # fmt: skip
_NEVER = ("0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1")
_HOSTS = ("a.example", "b.example", "c.b.example", "8.8.8.8", "10.0.0.1", "127.0.0.1", "[2606:4700::1111]", "[::1]")


@dataclass
class Network:
    """Resolver and network. Each name has other addresses each time it is asked for."""

    answers: list[list[str]]
    replies: list[bytes]
    asked: list[list[str]] = field(default_factory=list)
    reached: list[tuple[str, int]] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> list[str]:
        addresses = self.answers.pop(0) if self.answers else []
        self.asked.append(addresses)
        return addresses

    def connect(self, host: str, port: int) -> Wire:
        """Return a connection that gives the next reply, and then ends."""
        self.reached.append((host, port))
        wire = Wire()
        wire.connection_made(_Transport())
        wire.data_received(self.replies.pop(0) if self.replies else b"")
        wire.eof_received()
        return wire


class _Transport(asyncio.Transport):
    """Takes everything, and leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self._closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self._closed

    def abort(self) -> None:
        self._closed = True


class OfflineClient(Client):
    network: Network

    async def _open(self, pool: Pool, tenant: Hashable, url: Url, address: str) -> Wire:
        return self.network.connect(address, url.port)


@dataclass(frozen=True)
class Hop:
    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}{f':{self.port}' if self.port else ''}/"


_runner = asyncio.Runner()
atexit.register(_runner.close)
_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def check(data: bytes) -> None:
    source = Source(data)
    entries = [source.pick(tuple(_ENTRIES)) for _ in range(source.integer(1, 3))]
    policy = SandboxPolicy(
        allowed_hosts=entries, max_network_requests=source.integer(1, 6), allow_private_networks=source.flag()
    )
    names = _PUBLIC + (_PRIVATE if source.flag() else ()) + (_NEVER if source.flag() else ())
    answers = [[source.pick(names) for _ in range(source.integer(1, 2))] for _ in range(6)]
    plain = source.flag()
    hops: list[Hop] = [_hop(source) for _ in range(source.integer(1, 6))]
    if plain:
        texts = list(map(str, hops))
        replies = [_redirect(text.encode()) for text in texts[1:]] + [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"]
    else:
        texts = [source.text()]
        replies = [_redirect(source.bytes()) for _ in range(source.integer(0, 5))] + [source.rest()]
    network = Network([list(each) for each in answers], replies)
    code = _runner.run(_fetch(network, policy, texts[0]))
    for address, port in network.reached:
        assert _may(address, policy), f"reached {address}"
        assert 0 < port < 65536
    literal = {host.strip("[]") for host in _HOSTS}
    handed_out = {str(ip_address(each)) for addresses in network.asked for each in addresses}
    if plain:
        assert {address for address, _ in network.reached} <= literal | handed_out
        wanted, outcome = _expected(policy, entries, answers, hops)
        assert network.reached == wanted, (network.reached, wanted)
        assert code == outcome, (code, outcome)


def _hop(source: Source) -> Hop:
    return Hop(source.pick(["http", "https"]), source.pick(_HOSTS), source.pick([None, 8443]))


def _redirect(to: bytes) -> bytes:
    return b"HTTP/1.1 307 Moved\r\nContent-Length: 0\r\nLocation: " + to + b"\r\n\r\n"


async def _fetch(network: Network, policy: SandboxPolicy, url: str) -> str:
    capabilities = Capabilities(CapabilitySettings(), resolver=network.resolve, ssl_context=_tls)
    client = OfflineClient(_tls)
    client.network = network
    capabilities.http._client = client
    session = Session(capabilities, capabilities.grants(policy), deadline=float("inf"))
    text = json.dumps({"url": url}).encode()
    try:
        header, _ = frame.decode(await session.call("http.fetch", struct.pack("<I", len(text)) + text))
    finally:
        await capabilities.close()
    if header["ok"]:
        return "ok"
    error: Any = header["error"]
    assert error["message"].isprintable()
    assert error["code"] != "internal"
    return str(error["code"])


def _expected(
    policy: SandboxPolicy, entries: list[str], answers: list[list[str]], hops: list[Hop]
) -> tuple[list[tuple[str, int]], str]:
    """Which addresses are reached, one a hop, and how it ends."""
    reached: list[tuple[str, int]] = []
    answers = list(answers)
    for number, hop in enumerate(hops):
        if not any(_ENTRIES[entry](hop.scheme, hop.host, hop.port) for entry in entries):
            return reached, "host-not-allowed"
        if number >= policy.max_network_requests:
            return reached, "network-requests-exceeded"
        is_name = hop.host.endswith("example")
        addresses = answers.pop(0) if is_name else [hop.host.strip("[]")]
        if not all(_may(each, policy) for each in addresses):
            return reached, "host-not-allowed"
        # A redirect's body is not read, so that its connection is not used again.
        reached.append((str(ip_address(addresses[0])), hop.port or (443 if hop.scheme == "https" else 80)))
        if number == 5:
            break
    return reached, "ok"


def _may(address: str, policy: SandboxPolicy) -> bool:
    """By the tables above, and by what Python says of any other address."""
    if address in _PUBLIC or str(ip_address(address)) in map(str, map(ip_address, _PUBLIC)):
        return True
    if policy.allow_private_networks:
        there = ip_address(address)
        return not (there.is_multicast or there.is_unspecified or there in map(ip_address, _NEVER))
    there = ip_address(address)
    return there.is_global and not there.is_multicast and str(there) not in _PRIVATE
