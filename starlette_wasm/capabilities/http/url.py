"""URLs that guests may ask for: a grammar so narrow that no two parsers disagree about it.

A subset of RFC 3986, and of what the WHATWG standard takes unchanged but for the case of scheme and host::

    ("http" | "https") "://" (name | IPv4 | "[" IPv6 "]") [":" port] [("/" | "?") printable ASCII but "\\"] ["#" ...]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ...config.host_patterns import DEFAULT_PORTS

MAX_URL_BYTES = 8192

_PLAIN = re.compile(r"[!-\[\]-~]+", re.ASCII)
_SPLIT = re.compile(r"(https?)://([^/?#]*)([^#]*)", re.ASCII | re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([1-9][0-9]{0,4}))?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


class UrlError(ValueError):
    """The text describes the fault, and holds nothing of the URL."""


@dataclass(frozen=True, slots=True)
class Url:
    """A parsed URL. ``host`` is in lower case or an address without brackets; ``target`` goes into the request line."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> Url:
        """Raise UrlError."""
        if len(text) > MAX_URL_BYTES:
            raise UrlError(f"has more than {MAX_URL_BYTES} characters")
        if not text.isascii():
            raise UrlError("is not ASCII: write the host in its xn-- form, the rest percent-encoded")
        if not _PLAIN.fullmatch(text):
            raise UrlError("is empty, or has white space, a control character or a backslash")
        if not (parts := _SPLIT.match(text)):
            raise UrlError("does not start with http:// or https://")
        scheme, authority, target = parts[1].lower(), parts[2], parts[3]
        if not (found := _AUTHORITY.fullmatch(authority)):
            raise UrlError("has no plain host and port: no user information, percent or other signs belong there")
        port = int(found[3]) if found[3] else DEFAULT_PORTS[scheme]
        if port > 65535:
            raise UrlError("has a port above 65535")
        host = _ipv6(found[1]) if found[1] else _name(found[2].lower())
        return cls(scheme, host, port, target if target.startswith("/") else f"/{target}")

    @property
    def authority(self) -> str:
        """As in the header ``Host``: without a default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    def same_origin(self, other: Url) -> bool:
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)

    def join(self, location: str) -> Url:
        """Resolve the target of a redirect (RFC 3986, section 5.2). Raises UrlError.

        ``location`` is latin-1, as in a header; what is not ASCII in it is percent-encoded, as browsers do.
        """
        location = "".join(each if each.isascii() else f"%{ord(each) & 0xFF:02X}" for each in location.strip(" \t"))
        location = location.partition("#")[0]
        if location and not _PLAIN.fullmatch(location):  # also in a segment that a later ".." takes out
            raise UrlError("has white space, a control character or a backslash")
        if _SPLIT.match(location):
            return self.parse(location)
        origin = f"{self.scheme}://{self.authority}"
        path, _, query = self.target.partition("?")
        if not location:
            return self
        if location.startswith("//"):
            return self.parse(f"{self.scheme}:{location}")
        if location.startswith("?"):
            return self.parse(f"{origin}{path}{location}")
        target, mark, query = location.partition("?")
        if ":" in target.partition("/")[0]:
            raise UrlError("has another scheme than http and https")
        if not target.startswith("/"):
            target = f"{path.rpartition('/')[0]}/{target}"
        return self.parse(f"{origin}{_without_dots(target)}{mark}{query}")


def _ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        raise UrlError("has brackets that are not around an IPv6 address") from None


def _name(name: str) -> str:
    name = name.removesuffix(".")  # the same host, written from the root
    labels = name.split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(name))
        except ValueError:
            raise UrlError(
                "has a host that ends in a number, but is not a valid IPv4 address of four decimals"
            ) from None
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise UrlError("has a host that is not a name of letters, digits and hyphens between single dots")
    return name


def _without_dots(path: str) -> str:
    """Remove dot segments (RFC 3986, section 5.2.4) from a path that starts with a slash."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
