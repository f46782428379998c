"""URLs and redirects of guests, against ada, an implementation of the WHATWG standard that browsers agree with.

The two need not take the same, but what both take must lead to the same place.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

import ada_url

from starlette_wasm.capabilities.http.url import Url, UrlError
from starlette_wasm.config.host_patterns import DEFAULT_PORTS, HostPattern

TOKENS = (
    b"http://", b"HTTPS://", b"//", b"\\", b"@", b"%2e", b"%00", b"[::1]", b"[::ffff:127.0.0.1]", b":80", b":443",
    b":0", b":65536", b"0x7f.1", b"127.1", b"0177.0.0.1", b"2130706433", b"localhost", b"a.example", b"xn--", b".",
    b"..", b"/../", b"?", b"#", b"\t", b"\n", b"\xe3\x80\x82", b"\xc3\xa9", b"\xef\xbc\x8e", b"\xe2\x91\xa0", b"_",
    b"-", b"example.", b"8.8.8.8",
)  # fmt: skip

_BASES = tuple(
    map(
        Url.parse,
        ["http://a.example/b/c?d", "https://a.example:8443/", "http://[2606:4700::1111]/x", "http://8.8.8.8/"],
    )
)
# As ada writes what a guest may write as well: lower case, nothing to normalise.
_ORDINARY_HOST = re.compile(r"(?!-)(?:(?:[a-z0-9_][a-z0-9_-]{0,61})?[a-z0-9_]\.)*[a-z_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


def check(data: bytes) -> None:
    """The first byte says whether it is a redirect, and from where."""
    if not data:
        return
    text = data[1:].decode("utf-8", "surrogateescape")
    if data[0] % 5:
        base = _BASES[data[0] % 5 - 1]
        location = data[1:].decode("latin-1")
        url = _taken(lambda: base.join(location))
        other = _ada(location, str(base))
    else:
        url = _taken(lambda: Url.parse(text))
        other = _ada(text)
        if other is not None and other.href == text and _is_ordinary(other) and len(text) < 8000:
            assert url is not None, f"refused: {text!r}"
    if url is None:
        return
    assert Url.parse(str(url)) == url
    assert url.host.isascii()
    assert url.host == url.host.lower()
    assert re.fullmatch(r"[!-~]+", str(url))
    assert 0 < url.port < 65536
    if other is None:
        assert "xn--" in url.host, f"refused by WHATWG: {text!r}"  # ada checks the Punycode too
        return
    assert other.protocol == f"{url.scheme}:"
    assert int(other.port or DEFAULT_PORTS[url.scheme]) == url.port
    assert _host(other.hostname.strip("[]")) == _host(url.host), (other.hostname, url.host)
    assert not other.username + other.password
    assert HostPattern.parse("*").matches(url.scheme, url.host, url.port)
    own = f"{url.scheme}://[{url.host}]:{url.port}" if ":" in url.host else f"{url.scheme}://{url.host}:{url.port}"
    assert HostPattern.parse(own).matches(url.scheme, url.host, url.port)
    assert not HostPattern.parse("*.b.invalid").matches(url.scheme, url.host, url.port) or "invalid" in url.host


def _taken(parse):  # type: ignore[no-untyped-def]
    try:
        return parse()
    except UrlError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 200
        return None


def _ada(text: str, base: str | None = None) -> ada_url.URL | None:
    try:
        return ada_url.URL(text, base)
    except ValueError:  # a lone surrogate is one, too
        return None


def _host(text: str) -> object:
    try:
        return ip_address(text)
    except ValueError:
        return text


def _is_ordinary(other: ada_url.URL) -> bool:
    return (
        other.protocol in ("http:", "https:")
        and not other.username + other.password
        and other.port != "0"
        and _ORDINARY_HOST.fullmatch(other.hostname) is not None
        and len(other.hostname) < 254
    )
