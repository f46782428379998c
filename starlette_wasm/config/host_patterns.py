"""Which outbound hosts a policy allows: the grammar of ``allowedHosts``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

DEFAULT_PORTS = {"http": 80, "https": 443}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}\Z", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z", re.ASCII)
_NUMERIC = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z", re.ASCII)
_FORBIDDEN = {
    "@": "user information",
    "\\": "a backslash",
    "%": "a percent sign",
    "?": "a query",
    "#": "a fragment",
}


class HostSyntaxError(ValueError):
    """An entry that is not a host pattern: ``problem`` is its fault, ``hint`` what to write instead."""

    def __init__(self, problem: str, hint: str) -> None:
        self.problem = problem
        self.hint = hint
        super().__init__(f"{problem}; {hint}")


@dataclass(frozen=True, slots=True)
class HostPattern:
    """One entry of ``allowedHosts``.

    ========================= ===========================================================================
    ``host``, an IP           that host on the default ports: http on 80, https on 443
    ``*.domain``              every host below the domain, not the domain itself; default ports
    ``host:port``             http and https on that port; IPv6 in brackets, also for ``*.domain`` and CIDR
    ``scheme://host[:port]``  that scheme alone, on that port or its default port
    ``10.0.0.0/8``            hosts that are written as an IP within; names are not resolved; default ports
    ``*``                     every host and port; ``*:port`` and ``scheme://*`` narrow it
    ========================= ===========================================================================
    """

    text: str
    scheme: str | None = None
    host: str | IPv4Address | IPv6Address | None = None
    suffix: str | None = None
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> HostPattern:
        """Raise ``HostSyntaxError``. Letters may be of either case."""
        _check_characters(text)
        scheme = None
        rest = text.lower()
        if found := _SCHEME.match(rest):
            scheme, rest = found[1], rest[found.end() :]
            if scheme not in DEFAULT_PORTS:
                raise HostSyntaxError(f"has the scheme {scheme}", "use http or https")
        name, port = _split_port(rest)
        if name == "*":
            return cls(text, scheme=scheme, port=port)
        if "/" in name:
            if scheme is not None:
                raise HostSyntaxError("has a path", f"write {scheme}://host:port, and nothing after it")
            return cls(text, network=_network(name), port=port)
        if name.startswith("*."):
            domain = name[2:].removesuffix(".")
            if not isinstance(_host(domain), str):
                raise HostSyntaxError("has a wildcard before an IP address", "write a network, such as 10.0.0.0/8")
            return cls(text, scheme=scheme, suffix=f".{domain}", port=port)
        return cls(text, scheme=scheme, host=_host(name), port=port)

    def matches(self, scheme: str, host: str, port: int) -> bool:
        """Return whether a request to ``scheme://host:port`` may go out; IPv6 with or without brackets.

        ``host`` is compared as it is written: what it resolves to is for the caller to check. A host that
        is not valid matches nothing.
        """
        if scheme not in DEFAULT_PORTS or self.scheme not in (None, scheme):
            return False
        if self.port is not None:
            if port != self.port:
                return False
        elif self.text != "*" and port != DEFAULT_PORTS[scheme]:
            return False
        try:
            name = _host(host[1:-1] if host[:1] + host[-1:] == "[]" and ":" in host else host.lower())
        except HostSyntaxError:
            return False
        if self.network is not None:
            return not isinstance(name, str) and name in self.network
        if self.suffix is not None:
            return isinstance(name, str) and name.endswith(self.suffix)
        return self.host is None or name == self.host


def _check_characters(text: str) -> None:
    if not text:
        raise HostSyntaxError("is empty", "write a host, such as api.example.com")
    if not text.isascii():
        raise HostSyntaxError("is not ASCII", "write the name in its xn-- form")
    if any(character <= " " or character == "\x7f" for character in text):
        raise HostSyntaxError("has white space or a control character", "take it out")
    for character, name in _FORBIDDEN.items():
        if character in text:
            raise HostSyntaxError(f"has {name}", "write the host alone, such as api.example.com:8443")


def _split_port(text: str) -> tuple[str, int | None]:
    """Split ``host``, ``host:port``, ``[v6]``, ``[v6]:port``, bare ``v6``, and the same with a prefix length."""
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in name:
            raise HostSyntaxError("has brackets that are not around an IPv6 address", "write [2001:db8::1]:443")
        return name, _port(rest[1:]) if rest else None
    if text.count(":") != 1:
        return text, None
    name, _, port = text.partition(":")
    return name, _port(port)


def _port(text: str) -> int:
    if not _PORT.match(text) or int(text) > 65535:
        if "/" in text:
            raise HostSyntaxError("has a path", "write the host and port alone")
        raise HostSyntaxError(f"has the port {text!r}", "write a port from 1 to 65535, or none")
    return int(text)


def _network(text: str) -> IPv4Network | IPv6Network:
    address, _, length = text.partition("/")
    try:
        ip_address(address)
    except ValueError:
        raise HostSyntaxError("has a path", f"write {address or 'the host'} alone") from None
    try:
        if not length.isdigit():
            raise ValueError
        return ip_network(text)
    except ValueError:
        pass
    try:
        network = ip_network(text, strict=False) if length.isdigit() else None
    except ValueError:
        network = None
    if network is None:
        raise HostSyntaxError("is not a valid network", "write a prefix length, such as 10.0.0.0/8")
    raise HostSyntaxError("is not a valid network: bits are set after the prefix", f"write {network}")


def _host(name: str) -> str | IPv4Address | IPv6Address:
    """Return the host in lower case, or the IP address that it is. Strict: no parser takes it for another.

    A final dot is taken off: it is the same host, written from the root.
    """
    if ":" in name:
        try:
            if "%" not in name:
                return IPv6Address(name)
        except ValueError:
            pass
        raise HostSyntaxError("is not a valid IPv6 address", "write host:port, [2001:db8::1] or [2001:db8::1]:443")
    name = name.removesuffix(".")
    labels = name.split(".")
    if _NUMERIC.match(labels[-1]):
        try:
            return IPv4Address(name)
        except ValueError:
            raise HostSyntaxError(
                "ends in a number, but is not a valid IPv4 address", "write four decimal numbers, such as 192.0.2.1"
            ) from None
    if "*" in name:
        raise HostSyntaxError("has a wildcard in the middle", "write *.example.com, or * alone")
    if len(name) > 253 or not all(map(_LABEL.match, labels)):
        raise HostSyntaxError("is not a valid host name", "write labels of letters, digits and hyphens, joined by dots")
    return name
