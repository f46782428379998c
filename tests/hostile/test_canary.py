"""A server on loopback that no guest reaches, by whatever name it calls it; hosts that are allowed are reached."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile_manifest import frame
from hostile_range import SOURCES, add, settings
from hostile_wat import assemble

from starlette_wasm import EdgeRequest, WasmRuntime
from starlette_wasm.capabilities.http import HttpFetch

REFUSALS = {"host-not-allowed", "invalid-url", "dns-failed"}


class Server:
    """On a loopback port, in a thread; counts connections and answers each with ``answer``."""

    def __init__(
        self, answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nreached"
    ) -> None:
        self.answer = answer
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                connection.settimeout(5)
                try:
                    connection.recv(65536)
                    connection.sendall(self.answer)
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)


@pytest.fixture
def canary() -> Iterator[Server]:
    """Nobody may have reached it, when the test is over."""
    server = Server()
    yield server
    server.close()
    assert server.connections == 0


def notations(port: int) -> list[str]:
    """URLs that some parser, or some resolver, takes for 127.0.0.1 or ::1."""
    hosts = [
        "127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "127.255.255.254", "0.0.0.0", "0", "0.0", "2130706433",
        "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0x7F.0x0.0x0.0x1", "017700000001", "0177.0.0.1", "0177.0.0.01",
        "0177.1", "00000177.0.0.1", "127.0.0.1.", "127.0.0.1..", "127.0.0.01", "127.000.000.001", "127。0。0。1",
        "①②⑦.⓪.⓪.①", "１２７.０.０.１", "127.0.0.1%00", "127.0.0.1%20", "%31%32%37.0.0.1", "127%2e0%2e0%2e1",
        "localhost", "LOCALHOST", "localhost.", "localhost.localdomain", "ip6-localhost", "ip6-loopback",
        "foo.localhost", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:0001]", "[::127.0.0.1]", "[::7f00:1]", "[64:ff9b::127.0.0.1]",
        "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:7f00:0001::1]",
        "[2001:0:7f00:1::80ff:fffe]", "[::1%25lo]", "[::1%lo]", "[fe80::1%25lo]", "[::ffff:0:127.0.0.1]", "[::1]]",
        "[[::1]]", "::1", "[127.0.0.1]", "169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "192.168.0.1", "172.16.0.1",
        "100.100.100.200", "metadata.google.internal", "168.63.129.16", "224.0.0.1", "255.255.255.255", "4294967295",
        "18446744071562067969", "127.0.0.1\\.example.com", "example.com\\@127.0.0.1", "a@127.0.0.1", "a:b@127.0.0.1",
        "127.0.0.1#@example.com", "127.0.0.1?@example.com", "example.com#@127.0.0.1", "127.0.0.1\t", "127.0.0.1\n",
        "127.0.0.1\r\nx: y", "127.0\u00ad.0.1", "loc\u0430lhost", "ⓛocalhost", "ｌｏｃａｌｈｏｓｔ", "local\u200bhost",
        "127.0.0.1\0",
        "example.com\0.127.0.0.1", " 127.0.0.1", "127.0.0.1 ", "127.0.0.1;", "127.0.0.1&", "*", "", ".", "-", "_",
    ]  # fmt: skip
    shapes = [
        "http://{}:PORT/", "http://{}:PORT", "HTTP://{}:PORT/", "https://{}:PORT/", "http:\\\\{}:PORT/",
        "http:/{}:PORT/",
        "http:{}:PORT/", "http:///{}:PORT/", "//{}:PORT/", "{}:PORT", "http://{}:0PORT/", "http://{}:PORT@example.com/",
        "http://example.com@{}:PORT/", "\thttp://{}:PORT/", "ht\ntp://{}:PORT/", "ftp://{}:PORT/", "gopher://{}:PORT/",
        "ws://{}:PORT/", "file://{}:PORT/", "unix://{}:PORT/",
    ]  # fmt: skip
    every = [shape.format(host) for host, shape in itertools.product(hosts, shapes)]
    every += [f"http://{host}:{port + (1 << 16)}/" for host in ("127.0.0.1", "[::1]")]
    return [url.replace("PORT", str(port)) for url in every]


@asynccontextmanager
async def guests(
    folder: Path, resolver: Callable[[str, int], Awaitable[list[str]]] | None = None, **policy: Any
) -> AsyncIterator[Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]]:
    """Gives a function that lets a guest fetch, and the header of the result, its body under ``body``."""
    add(folder, "fetcher", assemble((SOURCES / "tenant.wat").read_text()), "cgi")
    (folder / "policies").mkdir()
    given = {"executionTimeoutMs": 20_000, "allowedHosts": ["*"], "maxNetworkRequests": 20} | policy
    (folder / "policies" / "net.yaml").write_text(yaml.safe_dump(given))
    config = {"functionsDir": str(folder / "functions"), "policiesDir": str(folder / "policies")}
    async with WasmRuntime(config, settings(folder)) as runtime:
        if resolver is not None:
            runtime.capabilities.http = HttpFetch(max_response_bytes=1 << 20, resolver=resolver)

        async def fetch(request: dict[str, Any]) -> dict[str, Any]:
            body = b"o" + frame(json.dumps(request, ensure_ascii=False).encode())
            response = await runtime.invoke("fetcher", EdgeRequest(method="POST", body=body.decode()), policy="net")
            assert response.body is not None
            header, end = json.JSONDecoder().raw_decode(response.body)
            return header | {"body": response.body[end:]}

        yield fetch


async def offline(host: str, port: int) -> list[str]:
    """The names of this machine resolve as they do; nothing asks the network."""
    if "local" in host.lower() or "loopback" in host:
        return ["127.0.0.1", "::1"]
    raise OSError("no such name")


def test_no_notation_of_the_address_reaches_the_canary(tmp_path: Path, canary: Server) -> None:
    urls = notations(canary.port)
    assert len(urls) > 1500

    async def main() -> None:
        async with guests(tmp_path, offline) as fetch:
            for url in urls:
                answer = await fetch({"url": url})
                assert not answer["ok"], (url, answer)
                assert answer["error"]["code"] in REFUSALS, (url, answer)

    asyncio.run(main())


def test_a_list_that_names_the_canary_does_not_open_the_inner_network(tmp_path: Path, canary: Server) -> None:
    hosts = [f"127.0.0.1:{canary.port}", f"localhost:{canary.port}", f"127.0.0.0/8:{canary.port}", "*.local", "*"]

    async def main() -> None:
        async with guests(tmp_path, offline, allowedHosts=hosts) as fetch:
            for host in ("127.0.0.1", "localhost", "x.local", "127.0.0.9"):
                answer = await fetch({"url": f"http://{host}:{canary.port}/"})
                assert answer["error"]["code"] == "host-not-allowed", answer

    asyncio.run(main())


@pytest.mark.parametrize(
    "answers",
    [
        [["3ffe::1"], ["127.0.0.1"]],
        [["127.0.0.1"], ["3ffe::1"]],
        [["3ffe::1", "127.0.0.1"]],
        [["::ffff:127.0.0.1"]],
        [["::1", "3ffe::2"]],
        [["64:ff9b::7f00:1"]],
        [["0.0.0.0"]],
        [["169.254.169.254"]],
        [["not an address"]],
        [["127.0.0.1\0"]],
        [[]],
    ],
)
def test_a_resolver_that_changes_its_mind_leads_nowhere(
    tmp_path: Path, canary: Server, answers: list[list[str]]
) -> None:
    """What was checked is what is connected to; a public address among them does not help, as all are checked.

    3ffe::/16 counts as public, and nobody has it.
    """
    turns = itertools.cycle(answers)

    async def rebinding(host: str, port: int) -> list[str]:
        return next(turns)

    async def main() -> None:
        async with guests(tmp_path, rebinding) as fetch:
            for _ in range(4):
                answer = await fetch({"url": f"http://rebind.example.com:{canary.port}/", "timeoutMs": 200})
                assert not answer["ok"], answer

    asyncio.run(main())


def test_redirects_do_not_lead_to_the_canary(tmp_path: Path, canary: Server) -> None:
    """From a server that the policy allows, on loopback too, to one that it does not name."""
    targets = [f"http://127.0.0.1:{canary.port}/", f"//127.0.0.1:{canary.port}/", f"http://localhost:{canary.port}/",
               f"http://[::ffff:127.0.0.1]:{canary.port}/", f"http://2130706433:{canary.port}/",
               f"http:\\\\127.0.0.1:{canary.port}\\", f"\thttp://127.0.0.1:{canary.port}/", "file:///etc/passwd",
               f"http://a@127.0.0.1:{canary.port}/", f"gopher://127.0.0.1:{canary.port}/"]  # fmt: skip
    allowed = Server()

    async def main() -> None:
        hosts = [f"127.0.0.1:{allowed.port}"]
        async with guests(tmp_path, offline, allowedHosts=hosts, allowPrivateNetworks=True) as fetch:
            for status, target in itertools.product((301, 302, 303, 307, 308), targets):
                head = (
                    f"HTTP/1.1 {status} Moved\r\nlocation: {target}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                )
                allowed.answer = head.encode()
                answer = await fetch({"url": f"http://127.0.0.1:{allowed.port}/", "timeoutMs": 5000})
                assert not answer["ok"], answer
                assert answer["error"]["code"] in {*REFUSALS, "upstream-failed"}, answer

    try:
        asyncio.run(main())
        assert allowed.connections == 5 * len(targets)
    finally:
        allowed.close()


def test_what_is_allowed_is_not_refused(tmp_path: Path) -> None:
    """The same checks let through what the policy names, in each way that a list can name it."""
    there = Server()
    try:
        for number, allowed in enumerate(
            ([f"127.0.0.1:{there.port}"], [f"http://127.0.0.1:{there.port}"], [f"127.0.0.0/8:{there.port}"], ["*"])
        ):

            async def main(folder: Path, allowed: list[str]) -> None:
                async with guests(folder, offline, allowedHosts=allowed, allowPrivateNetworks=True) as fetch:
                    for path in ("", "/", "/a%20b?c=d", "/?url=http://example.com@127.0.0.1"):
                        answer = await fetch({"url": f"http://127.0.0.1:{there.port}{path}"})
                        assert (answer["ok"], answer.get("status"), answer["body"]) == (True, 200, "reached"), answer

            folder = tmp_path / str(number)
            folder.mkdir()
            asyncio.run(main(folder, allowed))
    finally:
        there.close()
