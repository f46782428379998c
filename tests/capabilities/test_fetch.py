from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from capability_guest import Guest
from capability_servers import Received, Upstream, ok, redirect

from starlette_wasm.capabilities import Attempt, Capabilities, CapabilitySettings
from starlette_wasm.capabilities.http import addresses, resolve
from starlette_wasm.config.policy import SandboxPolicy
from starlette_wasm.exceptions import ConfigError

pytestmark = pytest.mark.anyio

OPEN = SandboxPolicy(allowed_hosts=["*"], max_network_requests=10, allow_private_networks=True)
PUBLIC = SandboxPolicy(allowed_hosts=["*"], max_network_requests=1000)


class Names:
    """A resolver; a name has the answers that are left, and keeps the last. Notes what it was asked."""

    def __init__(self, **answers: str) -> None:
        self.answers = {
            name.replace("_", "."): [each.split(",") for each in answer.split(";")] for name, answer in answers.items()
        }
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        await asyncio.sleep(0)
        answers = self.answers.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]


system_certificates = cache(httpx.create_ssl_context)  # takes a while, and is as it would be made anyway


@asynccontextmanager
async def fetching(
    resolver: Any = resolve, ssl_context: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[Capabilities]:
    context = ssl_context or system_certificates()
    there = Capabilities(CapabilitySettings(**settings), resolver=resolver, ssl_context=context)
    try:
        yield there
    finally:
        await there.close()


@pytest.fixture
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 as if of the public internet, so that a test has a server there; nothing else of loopback."""

    def is_public(address: addresses.Address) -> bool:
        return address == ip_address("127.0.0.1") or addresses.is_public(address)

    monkeypatch.setattr("starlette_wasm.capabilities.http.grant.is_public", is_public)


@pytest.fixture
def inner() -> Iterator[Upstream]:
    """A server that nobody may reach, where 127.0.0.1 counts as public."""
    with Upstream(host="127.0.0.2") as canary:
        yield canary
        assert canary.connections == 0


async def test_a_request_and_its_response(upstream: Upstream) -> None:
    upstream.answers["/x"] = ok(b"\0\xff", "X-A: 1", "x-a: 2", "Set-Cookie: a=\xe9", "Connection: x-b", "X-B: 1")
    async with fetching() as there:
        guest = Guest(there, OPEN)
        header, body = await guest(
            "http.fetch",
            b"in\0",
            method="POST",
            url=f"{upstream.origin}/x?a=%20b#c",
            headers={"X-Y": "é", "z": ["1", "2"]},
        )
        assert body == b"\0\xff"
        assert header == {
            "ok": True,
            "status": 200,
            "url": f"{upstream.origin}/x?a=%20b",
            "headers": {"content-length": ["2"], "x-a": ["1", "2"], "set-cookie": ["a=é"]},
        }
        (received,) = upstream.received
        assert (received.method, received.target, received.body) == ("POST", "/x?a=%20b", b"in\0")
        assert received.headers == [
            ("host", f"127.0.0.1:{upstream.port}"),
            ("x-y", "é"),
            ("z", "1"),
            ("z", "2"),
            ("accept", "*/*"),
            ("accept-encoding", "identity"),
            ("user-agent", "starlette-wasm"),
            ("content-length", "3"),
        ]
        assert guest.session.usage.requests == 1


@pytest.mark.parametrize(
    ("method", "length"),
    [
        ("GET", None),
        ("HEAD", None),
        ("DELETE", None),
        ("OPTIONS", None),
        ("POST", "0"),
        ("PUT", "0"),
        ("PROPFIND", None),
    ],
)
async def test_methods(method: str, length: str | None, upstream: Upstream) -> None:
    upstream.answers["/"] = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with fetching() as there:
        header, body = await Guest(there, OPEN)("http.fetch", method=method, url=upstream.origin)
        assert (header["status"], body) == (204, b"")
        assert (upstream.received[0].method, upstream.received[0].header("content-length")) == (method, length)


async def test_headers_that_are_the_hosts_are_dropped(upstream: Upstream) -> None:
    ours = ["Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade"]
    ours += ["Proxy-Authorization", "Proxy-Connection", "Proxy-Anything", "Expect", "HTTP2-Settings", "Baggage"]
    headers = dict.fromkeys(ours, "evil.net") | {"connection": "close, X-Hop", "x-hop": "1", "X-End": "1"}
    headers |= {"user-agent": "mine", "ACCEPT-ENCODING": "gzip", "authorization": "Bearer x"}
    async with fetching() as there:
        assert (await Guest(there, OPEN)("http.fetch", url=upstream.origin, headers=headers))[0]["ok"]
    (received,) = upstream.received
    assert dict(received.headers) == {
        "host": f"127.0.0.1:{upstream.port}",
        "x-end": "1",
        "user-agent": "mine",
        "accept-encoding": "gzip",
        "authorization": "Bearer x",
        "accept": "*/*",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": {"a": "b\r\nx: y"}},
        {"headers": {"a": "b\nc"}},
        {"headers": {"a": "b\0"}},
        {"headers": {"a": "\x7f"}},
        {"headers": {"a": "\u20ac"}},
        {"headers": {"a\r\nb": "c"}},
        {"headers": {"a b": "c"}},
        {"headers": {"a:": "c"}},
        {"headers": {"": "c"}},
        {"headers": {"é": "c"}},
        {"headers": {"a": 1}},
        {"headers": {"a": [["b"]]}},
        {"headers": {"a": ["b"] * 101}},
        {"headers": {"a": "b" * 33_000}},
        {"headers": ["a"]},
        {"method": "GET / HTTP/1.1\r\nHost: evil.net\r\n\r\n"},
        {"method": "get"},
        {"method": ""},
        {"method": "CONNECT"},
        {"method": "TRACE"},
        {"timeoutMs": 0},
        {"maxRedirects": 6},
        {"proxy": "http://evil.net"},
        {"url": None},
        {"url": 1},
    ],
)
async def test_a_bad_field_is_refused_before_anything_is_sent(fields: dict[str, Any], canary: Upstream) -> None:
    async with fetching() as there:
        assert (await Guest(there, OPEN).error("http.fetch", **({"url": canary.origin} | fields)))[0] == "bad-request"


@pytest.mark.parametrize("path", ["/\r\nX-Evil: 1", "/ HTTP/1.1\r\nHost: evil.net\r\n\r\nGET /", "/\x00", "/é", "/a b"])
async def test_nothing_is_smuggled_through_the_url(path: str, canary: Upstream) -> None:
    async with fetching() as there:
        assert (await Guest(there, OPEN).error("http.fetch", url=canary.origin + path))[0] == "invalid-url"


async def test_a_host_off_the_list_is_refused_and_noted(canary: Upstream) -> None:
    policy = SandboxPolicy(
        allowed_hosts=["api.example.com", f"http://127.0.0.9:{canary.port}"],
        max_network_requests=5,
        allow_private_networks=True,
    )
    names = Names()
    async with fetching(names) as there:
        guest = Guest(there, policy)
        for url in (canary.origin, f"https://127.0.0.9:{canary.port}/", "http://127.0.0.9/"):
            code, message = await guest.error("http.fetch", url=url)
            assert (code, message[:25]) == ("host-not-allowed", "host not allowed: 127.0.0")
        for url in ("http://evil.net/", "http://api.example.com.evil.net/", "https://api.example.com:8443/"):
            assert (await guest.error("http.fetch", url=url))[0] == "host-not-allowed"
        assert names.asked == []
        assert guest.session.usage.requests == 0
        assert len(guest.session.violations) == 6
        assert await guest.error("http.fetch", url="http://evil.net/") == (
            "host-not-allowed",
            "host not allowed: evil.net",
        )


async def test_a_policy_without_hosts_refuses_all(canary: Upstream) -> None:
    async with fetching() as there:
        assert (await Guest(there, SandboxPolicy()).error("http.fetch", url=canary.origin))[0] == "host-not-allowed"


INNER = ["127.0.0.1", "127.0.0.2", "10.0.0.1", "169.254.169.254", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "fe80::1"]
INNER += ["64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1", "fd00:ec2::254", "100.100.100.200", "224.0.0.1"]


@pytest.mark.parametrize("address", INNER)
async def test_inner_addresses_are_refused_by_name_and_by_number(address: str, canary: Upstream) -> None:
    literal = f"[{address}]" if ":" in address else address
    for answer in (address, f"8.8.8.8,{address}"):
        async with fetching(Names(inner_example=answer)) as there:
            guest = Guest(there, PUBLIC)
            for host in (literal, "inner.example"):
                code, message = await guest.error("http.fetch", url=f"http://{host}:{canary.port}/")
                assert code == "host-not-allowed"
                assert message == f"host not allowed: {ip_address(address) if host == literal else host}"
            assert str(ip_address(address)) in str(guest.session.violations[1].detail)


async def test_what_no_policy_can_grant_is_refused_with_private_networks_too(canary: Upstream) -> None:
    async with fetching() as there:
        for host in ("0.0.0.0", "[::]", "224.0.0.1", "255.255.255.255", "[ff02::1]"):
            code, _ = await Guest(there, OPEN).error("http.fetch", url=f"http://{host}:{canary.port}/")
            assert code == "host-not-allowed"


@pytest.mark.usefixtures("loopback_is_public")
async def test_a_name_is_resolved_once_and_that_address_is_used(upstream: Upstream, inner: Upstream) -> None:
    """Rebinding: the second answer would lead inside."""
    names = Names(rebind_example="127.0.0.1;127.0.0.2")
    async with fetching(names) as there:
        guest = Guest(there, PUBLIC)
        url = f"http://rebind.example:{upstream.port}/"
        header, body = await guest("http.fetch", url=url)
        assert (header["status"], body) == (200, b"hello")
        assert names.asked == ["rebind.example"]
        assert upstream.received[0].header("host") == f"rebind.example:{upstream.port}"
        # The open connection is not used again for a name that is elsewhere now.
        assert (await guest.error("http.fetch", url=url))[0] == "host-not-allowed"
        assert (await guest.error("http.fetch", url=f"http://rebind.example:{inner.port}/"))[0] == "host-not-allowed"
        assert len(upstream.received) == 1


async def test_a_connection_is_kept_for_its_name_and_address_alone(upstream: Upstream) -> None:
    async with fetching(Names(a_example="127.0.0.1", b_example="127.0.0.1")) as there:
        guest = Guest(there, OPEN)
        for name in ("a", "a", "b", "a", "b"):
            assert (await guest("http.fetch", url=f"http://{name}.example:{upstream.port}/"))[0]["status"] == 200
        assert upstream.connections == 2
        assert [each.header("host") for each in upstream.received] == [
            f"{name}.example:{upstream.port}" for name in "aabab"
        ]
        strict = Guest(there, PUBLIC)  # the pool knows the way, the policy does not
        refused = await strict.error("http.fetch", url=f"http://a.example:{upstream.port}/")
        assert refused[0] == "host-not-allowed"


async def test_the_next_address_is_tried_where_one_does_not_answer(upstream: Upstream) -> None:
    async with fetching(Names(two_example="127.0.0.3,127.0.0.1", none_example="127.0.0.3,127.0.0.4")) as there:
        guest = Guest(there, OPEN)
        assert (await guest("http.fetch", url=f"http://two.example:{upstream.port}/"))[0]["status"] == 200
        refused = await guest.error("http.fetch", url=f"http://none.example:{upstream.port}/")
        assert refused == ("connect-failed", "cannot connect to none.example")
        assert guest.session.usage.requests == 2


async def test_a_name_that_is_none() -> None:
    for resolver in (Names(), resolve):
        async with fetching(resolver) as there:
            refused = await Guest(there, OPEN).error("http.fetch", url="http://nowhere.invalid/")
            assert refused == ("dns-failed", "cannot resolve nowhere.invalid")


async def test_a_name_with_too_many_addresses_is_not_resolved(upstream: Upstream) -> None:
    """Each is looked at on the event loop, and a name server chooses how many there are."""
    few, many = (",".join(f"192.0.2.{number % 250}" for number in range(count)) for count in (64, 65))
    async with fetching(Names(few_test=few, many_test=many)) as there:
        guest = Guest(there, PUBLIC)
        assert (await guest.error("http.fetch", url="http://few.test/"))[0] == "host-not-allowed"
        assert await guest.error("http.fetch", url="http://many.test/") == ("dns-failed", "cannot resolve many.test")


async def test_the_systems_resolver_is_checked_too(canary: Upstream) -> None:
    async with fetching() as there:
        refused = await Guest(there, PUBLIC).error("http.fetch", url=f"http://localhost:{canary.port}/")
        assert refused == ("host-not-allowed", "host not allowed: localhost")


@pytest.fixture
def silent_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A name server that does not answer for ``slow.example``. Gives the names that were asked."""
    release, asked, system = threading.Event(), list[str](), socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        asked.append(host)
        return release.wait(120) and [] if host == "slow.example" else system(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield asked
    release.set()
    for each in threading.enumerate():
        if each.name == "starlette-wasm-dns":
            each.join(60)


async def test_a_lookup_that_hangs_ends_with_the_deadline(silent_names: list[str]) -> None:
    async with fetching() as there:
        started = time.monotonic()
        results = await asyncio.gather(
            *(Guest(there, OPEN, seconds=0.5).error("http.fetch", url="http://slow.example/") for _ in range(80))
        )
        assert time.monotonic() - started < 60
        assert [each[0] for each in results] == ["timeout"] * 80
        assert silent_names == ["slow.example"] * 8


async def test_lookups_of_one_tenant_leave_others_theirs(silent_names: list[str], upstream: Upstream) -> None:
    """Many tenants whose names are never answered: together they would take all threads."""
    hostile = [OPEN.model_copy(update={"name": f"hostile-{i}"}) for i in range(9)]
    async with fetching() as there:
        slow = [
            asyncio.create_task(Guest(there, policy, seconds=60).error("http.fetch", url="http://slow.example/"))
            for policy in hostile
            for _ in range(16)
        ]
        while len(silent_names) < 65:
            await asyncio.sleep(0.01)
        header, _ = await Guest(there, OPEN, seconds=60)("http.fetch", url=f"http://localhost:{upstream.port}/")
        assert header["status"] == 200
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        assert silent_names.count("slow.example") < 73


async def test_redirects_are_followed(upstream: Upstream) -> None:
    for i in range(5):
        upstream.answers[f"/{i}"] = redirect(f"{i + 1}?x#y")
    async with fetching() as there:
        guest = Guest(there, OPEN)
        header, body = await guest("http.fetch", url=f"{upstream.origin}/0")
        assert (header["status"], header["url"], body) == (200, f"{upstream.origin}/5?x", b"hello")
        assert guest.session.usage.requests == 6
        refused = await guest.error("http.fetch", url=f"{upstream.origin}/0", maxRedirects=2)
        assert refused == ("too-many-redirects", "more than 2 redirects")
        header, body = await guest("http.fetch", url=f"{upstream.origin}/0", maxRedirects=0)
        assert (header["status"], header["headers"]["location"], body) == (302, ["1?x#y"], b"moved")


async def test_every_hop_counts_as_a_request(upstream: Upstream) -> None:
    upstream.answers["/loop"] = redirect("/loop")
    policy = OPEN.model_copy(update={"max_network_requests": 3})
    async with fetching() as there:
        guest = Guest(there, policy)
        refused = await guest.error("http.fetch", url=f"{upstream.origin}/loop")
        assert refused == (
            "network-requests-exceeded",
            "too many network requests: at most 3 in an invocation",
        )
        assert len(upstream.received) == 3
        assert (await guest.error("http.fetch", url=upstream.origin))[0] == "network-requests-exceeded"
        assert len(upstream.received) == 3
        assert [each.code for each in guest.session.violations] == ["network-requests-exceeded"] * 2


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        (301, "POST", "GET", b""),
        (302, "POST", "GET", b""),
        (303, "POST", "GET", b""),
        (303, "PUT", "GET", b""),
        (303, "HEAD", "HEAD", b""),
        (301, "PUT", "PUT", b"x"),
        (307, "POST", "POST", b"x"),
        (308, "POST", "POST", b"x"),
        (308, "PATCH", "PATCH", b"x"),
    ],
)
async def test_the_method_after_a_redirect(
    status: int, method: str, then: str, body: bytes, upstream: Upstream
) -> None:
    upstream.answers["/a"] = redirect("/b", status) if method != "HEAD" else redirect("/b", status)[: -len(b"moved")]
    upstream.answers["/b"] = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with fetching() as there:
        headers = {"content-type": "text/plain", "content-language": "en", "x-a": "1"}
        sent = b"" if method == "HEAD" else b"x"
        await Guest(there, OPEN)("http.fetch", sent, method=method, url=f"{upstream.origin}/a", headers=headers)
    last = upstream.received[-1]
    assert (last.method, last.target, last.body) == (then, "/b", body)
    assert last.header("content-type") == ("text/plain" if body or (method == "HEAD" and status != 303) else None) or (
        then == "HEAD"
    )
    assert last.header("x-a") == "1"


async def test_credentials_stay_with_their_origin(upstream: Upstream) -> None:
    secret = {"Authorization": "Bearer x", "Cookie": "a=b", "X-Other": "1"}
    async with fetching(Names(a_example="127.0.0.1", b_example="127.0.0.1")) as there:
        for target, kept in (("/b", True), (f"//b.example:{upstream.port}/b", False), (f"{upstream.origin}/b", False)):
            upstream.reset()
            upstream.answers["/a"] = redirect(target)
            url = f"http://a.example:{upstream.port}/a"
            assert (await Guest(there, OPEN)("http.fetch", url=url, headers=secret))[0]["status"] == 200
            last = upstream.received[-1]
            assert last.header("authorization") == ("Bearer x" if kept else None)
            assert last.header("cookie") == ("a=b" if kept else None)
            assert last.header("x-other") == "1"


@pytest.mark.usefixtures("loopback_is_public")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_leads_inside(status: int, upstream: Upstream, inner: Upstream) -> None:
    names = Names(hop_example="127.0.0.1", inner_example="127.0.0.2", rebind_example="127.0.0.1;127.0.0.2")
    port = inner.port
    targets = [f"http://127.0.0.2:{port}/", f"//127.0.0.2:{port}", f"http://[::ffff:127.0.0.2]:{port}/"]
    targets += [f"http://inner.example:{port}/", f"http://2130706434:{port}/", f"http://0x7f.2:{port}/"]
    targets += [f"http://hop.example@127.0.0.2:{port}/", f"http:\\\\127.0.0.2:{port}", f"\t//127.0.0.2:{port}/"]
    targets += [
        f"https://127.0.0.2:{port}/",
        "file:///etc/passwd",
        f"gopher://127.0.0.2:{port}/_x",
        f"///127.0.0.2:{port}",
    ]
    async with fetching(names) as there:
        guest = Guest(there, PUBLIC)
        for i, target in enumerate(targets):
            upstream.answers["/1"], upstream.answers["/2"] = redirect("/2", status), redirect(target, status)
            code, _ = await guest.error("http.fetch", url=f"http://hop.example:{upstream.port}/1")
            assert code in ("host-not-allowed", "invalid-url"), target
            assert len(upstream.received) == 2 * (i + 1)


async def test_a_redirect_to_a_host_off_the_list_is_refused(upstream: Upstream, inner: Upstream) -> None:
    policy = SandboxPolicy(
        allowed_hosts=[f"a.example:{upstream.port}"], max_network_requests=5, allow_private_networks=True
    )
    async with fetching(Names(a_example="127.0.0.1", b_example="127.0.0.2")) as there:
        for target, name in ((f"http://b.example:{inner.port}/", "b.example"), (inner.origin, "127.0.0.2")):
            upstream.answers["/"] = redirect(target)
            guest = Guest(there, policy)
            refused = await guest.error("http.fetch", url=f"http://a.example:{upstream.port}/")
            assert refused == ("host-not-allowed", f"host not allowed: {name}")


async def test_proxies_of_the_environment_are_not_used(
    upstream: Upstream, canary: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, canary.origin)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with fetching() as there:
        assert (await Guest(there, OPEN)("http.fetch", url=upstream.origin))[0]["status"] == 200
        assert upstream.received[0].header("authorization") is None


async def endless(request: Received, writer: Any, head: bytes = b"", chunk: bytes = b"") -> None:
    with suppress(ConnectionError):
        writer.write(head)
        while not writer.is_closing() and not request.reader.at_eof():
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0 if chunk else 0.01)


def forever(head: bytes, chunk: bytes = b"") -> Callable[[Received, Any], Any]:
    return lambda request, writer: endless(request, writer, head, chunk)


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"x" * 100_001),
        forever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000),
        forever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n"),
        ok(b"", *(f"x-{i}: y" for i in range(101))),
        ok(b"", "x: " + "y" * 33_000),
    ],
    ids=["length", "until close", "chunked", "many headers", "long headers"],
)
async def test_a_response_that_is_too_large(answer: Any, upstream: Upstream) -> None:
    upstream.answers["/"] = answer
    async with fetching(max_fetch_response_bytes=100_000) as there:
        assert (await Guest(there, OPEN).error("http.fetch", url=upstream.origin))[0] == "too-large"
    await nothing_open(upstream)


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        forever(b"HTTP/1.1 200 OK\r\nx: ", b"y" * 10_000),
        forever(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 1000),
        forever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 10_000),
        forever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 1000),
        forever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: ", b"y" * 10_000),
        forever(b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 1000),
        forever(b"HTTP/1.1 200 OK\r\nx: y\r\n", b" z\r\n" * 1000),
    ],
)
async def test_a_response_that_is_none(answer: Any, upstream: Upstream) -> None:
    upstream.answers["/"] = answer
    async with fetching() as there:
        code, message = await Guest(there, OPEN).error("http.fetch", url=upstream.origin)
        assert (code, message) == ("upstream-failed", "no valid response from 127.0.0.1")
    await nothing_open(upstream)


async def test_a_response_that_breaks_off(upstream: Upstream) -> None:
    async def cut(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhell")
        writer.close()

    upstream.answers["/"] = cut
    async with fetching() as there:
        assert (await Guest(there, OPEN).error("http.fetch", url=upstream.origin))[0] == "upstream-failed"


async def test_a_decompression_bomb_stays_packed(upstream: Upstream) -> None:
    bomb = gzip.compress(bytes(50 << 20))
    upstream.answers["/"] = ok(bomb, "Content-Encoding: gzip")
    async with fetching(max_fetch_response_bytes=100_000) as there:
        header, body = await Guest(there, OPEN)("http.fetch", url=upstream.origin)
        assert header["headers"]["content-encoding"] == ["gzip"]
        assert body == bomb
        assert upstream.received[0].header("accept-encoding") == "identity"


SLOW = {
    "silent": forever(b""),
    "head": forever(b"HTTP/1.1 200 OK\r\n"),
    "body": forever(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhell"),
    "informational": forever(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5),
    "chunks": forever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"),
}


@pytest.mark.parametrize("kind", SLOW)
async def test_a_slow_response_ends_with_the_deadline(kind: str, upstream: Upstream) -> None:
    upstream.answers["/"] = SLOW[kind]
    async with fetching() as there:
        limits: list[tuple[float, dict[str, Any]]] = [(0.1, {}), (120, {"timeoutMs": 100})]
        for seconds, fields in limits:
            started = time.monotonic()
            guest = Guest(there, OPEN, seconds=seconds)
            assert await guest.error("http.fetch", url=upstream.origin, **fields) == ("timeout", "timed out")
            assert 0.09 < time.monotonic() - started < 60
        await nothing_open(upstream)


async def test_a_server_that_does_not_read_ends_with_the_deadline() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        async with fetching() as there:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            started = time.monotonic()
            guest = Guest(there, OPEN, seconds=0.2)
            assert (await guest.error("http.fetch", bytes(8 << 20), method="PUT", url=url))[0] == "timeout"
            assert time.monotonic() - started < 60


@pytest.mark.parametrize("kind", SLOW)
async def test_cancelling_closes_the_connection(kind: str, upstream: Upstream) -> None:
    for wait in (0, 0.001, 0.02, 0.05):
        upstream.answers["/"] = SLOW[kind]
        async with fetching() as there:
            task = asyncio.create_task(Guest(there, OPEN)("http.fetch", url=upstream.origin))
            await asyncio.sleep(wait)
            sent = bool(upstream.received)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            if sent:  # a connection that carried nothing yet may stay for the next request
                await nothing_open(upstream)
            upstream.answers.clear()
            assert (await Guest(there, OPEN)("http.fetch", url=upstream.origin))[1] == b"hello"
        await nothing_open(upstream)
        upstream.reset()


async def nothing_open(upstream: Upstream) -> None:
    until = time.monotonic() + 60
    while upstream.open:
        assert time.monotonic() < until, "a connection was left open"
        await asyncio.sleep(0.005)


async def test_no_response_reaches_another_guest(upstream: Upstream) -> None:
    """Requests are cancelled at random points while others share the pool."""

    async def echo(request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.002)
        writer.write(ok(request.target.encode()))
        await writer.drain()

    class Echo(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            return echo

    upstream.answers, kept = Echo(), upstream.answers
    try:
        async with fetching() as there:

            async def one(i: int) -> None:
                header, body = await Guest(there, OPEN)("http.fetch", url=f"{upstream.origin}/{i}")
                assert (header["ok"], body) == (True, f"/{i}".encode())

            for turn in range(30):
                tasks = [asyncio.create_task(one(turn * 100 + i)) for i in range(20)]
                await asyncio.sleep(turn * 0.0003)
                for task in tasks[::2]:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert results[1::2] == [None] * 10
                assert {type(each) for each in results} <= {type(None), asyncio.CancelledError}
    finally:
        upstream.answers = kept


async def test_tls_is_verified_against_the_name(certificate: Callable[[str], tuple[Path, Path]]) -> None:
    cert, key = certificate("api.example")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(cert, key)
    seen: list[str | None] = []
    served.sni_callback = lambda _, name, __: seen.append(name)
    trusted = ssl.create_default_context(cafile=cert)
    names = Names(api_example="127.0.0.1", other_example="127.0.0.1")
    with Upstream(tls=served) as upstream:
        async with fetching(names, trusted) as there:
            guest = Guest(there, OPEN)
            header, body = await guest("http.fetch", url=f"https://api.example:{upstream.port}/")
            assert (header["status"], body, seen) == (200, b"hello", ["api.example"])
            assert upstream.received[0].header("host") == f"api.example:{upstream.port}"
            for host in ("other.example", "127.0.0.1"):
                code, message = await guest.error("http.fetch", url=f"https://{host}:{upstream.port}/")
                assert code == "tls-failed"
                assert message.startswith(f"no TLS with {host}: ")
            assert len(upstream.received) == 1
        async with fetching(names) as there:  # the certificates of this system
            code, _ = await Guest(there, OPEN).error("http.fetch", url=f"https://api.example:{upstream.port}/")
            assert code == "tls-failed"


async def test_a_handshake_that_nobody_answers_leaves_no_connection(upstream: Upstream) -> None:
    async with fetching(ssl_context=ssl.create_default_context()) as there:
        url = f"https://127.0.0.1:{upstream.port}/"
        for _ in range(5):
            assert (await Guest(there, OPEN, seconds=0.05).error("http.fetch", url=url))[0] == "timeout"
        await nothing_open(upstream)
        assert upstream.connections == 5


async def test_an_observer_sees_every_attempt_and_adds_headers(upstream: Upstream) -> None:
    upstream.answers["/a"] = redirect("/b")
    attempts: list[Attempt] = []

    @contextmanager
    def observe(attempt: Attempt) -> Iterator[Mapping[str, str]]:
        attempts.append(attempt)
        assert attempt.status is None
        yield {"traceparent": f"ours-{attempt.resend_count}"}

    async with fetching() as there:
        guest = Guest(there, OPEN, observer=observe)
        headers = {"Traceparent": "guests", "tracestate": "guests"}
        await guest("http.fetch", url=f"{upstream.origin}/a", headers=headers)
        upstream.answers["/c"] = b"garbage\r\n\r\n"
        await guest("http.fetch", url=f"{upstream.origin}/c")
        guest = Guest(there, OPEN, seconds=0.5, observer=observe)
        upstream.answers["/d"] = SLOW["silent"]
        await guest("http.fetch", url=f"{upstream.origin}/d")
    assert [(each.url.target, each.resend_count, each.status, each.error) for each in attempts] == [
        ("/a", 0, 302, None),
        ("/b", 1, 200, None),
        ("/c", 0, None, "upstream-failed"),
        ("/d", 0, None, "timeout"),
    ]
    assert [each.header("traceparent") for each in upstream.received] == ["ours-0", "ours-1", "ours-0", "ours-0"]


def test_one_host_serves_one_loop_after_another_without_a_leak(upstream: Upstream) -> None:
    there = Capabilities()

    async def fetch() -> object:
        guest = Guest(there, OPEN)
        await guest("http.fetch", url=upstream.origin)
        return (await guest("http.fetch", url=upstream.origin))[0]["status"]

    assert [asyncio.run(fetch()) for _ in range(4)] == [200] * 4
    assert upstream.connections == 4
    asyncio.run(nothing_open(upstream))


def test_loops_in_several_threads_do_not_meet(upstream: Upstream) -> None:
    there, results = Capabilities(), []

    async def fetch() -> None:
        for _ in range(10):
            results.append((await Guest(there, OPEN)("http.fetch", url=upstream.origin))[1])

    threads = [threading.Thread(target=lambda: asyncio.run(fetch())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [b"hello"] * 60
    asyncio.run(nothing_open(upstream))


async def test_without_httpx_a_grant_of_hosts_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starlette_wasm.capabilities.http.fetch.find_spec", lambda name: None)
    there = Capabilities()
    there.grants(SandboxPolicy())
    there.grants(SandboxPolicy(allowed_hosts=["*"]))  # no request may be made
    with pytest.raises(ConfigError, match=r"allowedHosts: policy edge-open grants hosts.*starlette-wasm\[fetch\]"):
        there.grants(OPEN.model_copy(update={"name": "edge-open"}))


async def test_without_httpx_a_fetch_is_an_error_value(monkeypatch: pytest.MonkeyPatch, canary: Upstream) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "h11", None)
    monkeypatch.delitem(sys.modules, "starlette_wasm.capabilities.http.client", raising=False)
    async with fetching() as there:
        refused = await Guest(there, OPEN).error("http.fetch", url=canary.origin)
        assert refused == ("capability-unavailable", "http.fetch is not available on this host")


def test_what_sends_is_imported_with_the_grant() -> None:
    """It takes a tenth of a second, for which the event loop would wait at the first request."""
    code = """
import sys
from starlette_wasm.capabilities import Capabilities
from starlette_wasm.config.policy import SandboxPolicy
there = Capabilities()
there.grants(SandboxPolicy())
assert "httpx" not in sys.modules
there.grants(SandboxPolicy(allowed_hosts=["a.example"], max_network_requests=1))
assert "httpx" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
