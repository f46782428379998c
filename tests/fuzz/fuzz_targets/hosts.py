"""Entries of ``allowedHosts``: the grammar, and what an entry matches, against a naive reading of its text."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from starlette_wasm.config.host_patterns import DEFAULT_PORTS, HostPattern, HostSyntaxError

from .source import Source

TOKENS = (
    b"*", b"*.", b"http://", b"https://", b":80", b":443", b":8443", b"[::1]", b"[", b"]", b"/8", b"/128",
    b"10.0.0.0/8", b"2001:db8::/32", b"a.example", b"A.EXAMPLE", b"127.1", b"0x7f", b"%", b"@", b"\\", b".", b"-",
    b"_", b"xn--a",
)  # fmt: skip
_HOSTS = (
    "a.example", "b.a.example", "example", "aXexample", "10.0.0.1", "8.8.8.8", "::1", "2001:db8::1", "10.0.0.0",
    "a.example.", "", "*", "0x7f.1", "[::1]", "::ffff:10.0.0.1", "A.Example",
)  # fmt: skip


def check(data: bytes) -> None:
    source = Source(data)
    scheme, port = source.pick(["http", "https", "ftp"]), source.pick([80, 443, 8443, 0])
    host = source.text() if source.flag() else source.pick(_HOSTS)
    text = source.rest().decode("utf-8", "surrogateescape")
    try:
        pattern = HostPattern.parse(text)
    except HostSyntaxError as error:
        assert (error.problem + error.hint).isprintable()
        assert len(error.problem) < 2 * len(text) + 200
        return
    assert HostPattern.parse(text.upper()).matches(scheme, host, port) == pattern.matches(scheme, host, port)
    assert pattern.matches(scheme, host, port) == _naive(text.lower(), scheme, host, port), (text, scheme, host, port)


def _naive(text: str, scheme: str, host: str, port: int) -> bool:
    everything = text == "*"
    if "://" in text:
        wanted, _, text = text.partition("://")
        if scheme != wanted:
            return False
    if scheme not in DEFAULT_PORTS:
        return False
    head, colon, number = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        name, wanted_port = text[1:-1], DEFAULT_PORTS[scheme]
    elif colon and (head.count(":") == 0 or head.endswith("]")):
        name, wanted_port = head.strip("[]"), int(number)
    else:
        name, wanted_port = text, DEFAULT_PORTS[scheme]
    if not everything and port != wanted_port:
        return False
    host = host.lower()
    address = _address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    if address is None and not _is_name(host):
        return False
    if name == "*":
        return True
    if "/" in name:
        return address is not None and address in ip_network(name)
    if name.startswith("*."):
        return address is None and host.endswith(name[1:])
    return (address or host) == (_address(name) or name)


def _address(text: str):  # type: ignore[no-untyped-def]
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


def _is_name(host: str) -> bool:
    last = host.rpartition(".")[2]
    if last.isdecimal() or (last.startswith("0x") and all(each in "0123456789abcdef" for each in last[2:])):
        return False
    return len(host) < 254 and all(
        0 < len(label) < 64
        and all(each in "abcdefghijklmnopqrstuvwxyz0123456789_-" for each in label)
        and not label.startswith("-")
        and not label.endswith("-")
        for label in host.split(".")
    )
