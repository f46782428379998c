"""A registry leads no deeper into the network than it is itself, and takes nobody from TLS."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest

from starlette_wasm.functions.registry import client, reach
from starlette_wasm.functions.registry.auth import Authenticator
from starlette_wasm.functions.registry.client import Client
from starlette_wasm.functions.registry.errors import RegistryError
from starlette_wasm.functions.registry.reach import check_place
from starlette_wasm.functions.registry.reference import Reference

NAMES = {
    "registry.example": "93.184.216.34", "cdn.example": "93.184.216.35", "inside.example": "10.0.0.1",
    "registry.inside": "10.0.0.2", "here.example": "127.0.0.1", "metadata.example": "169.254.169.254",
    "mapped.example": "::ffff:127.0.0.1", "six.example": "::1",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        address = NAMES.get(host, host)
        if address.endswith(".nowhere"):
            raise socket.gaierror("no such name")
        return [(0, 0, 0, "", (address, 0))]

    monkeypatch.setattr(reach.socket, "getaddrinfo", resolve)


def refused(registry: str, to: str) -> str:
    try:
        asyncio.run(check_place(Reference(registry, "a"), f"https://{registry}/v2/a/", httpx.URL(to)))
    except RegistryError as error:
        return error.problem
    return ""


@pytest.mark.parametrize(
    ("registry", "to"),
    [
        ("registry.example", "https://cdn.example/x"),
        ("registry.example", "https://registry.example/y"),
        ("registry.inside", "https://inside.example/x"),
        ("registry.inside", "https://cdn.example/x"),
        ("127.0.0.1", "https://six.example/x"),
    ],
)
def test_places_at_the_same_depth_are_taken(registry: str, to: str) -> None:
    assert refused(registry, to) == ""


@pytest.mark.parametrize("registry", ["registry.example", "registry.inside"])
@pytest.mark.parametrize(
    "host", ["here.example", "metadata.example", "mapped.example", "six.example", "169.254.169.254", "0.0.0.0"]
)
def test_this_machine_and_its_link_are_out_of_reach(registry: str, host: str) -> None:
    assert refused(registry, f"https://{host}/x") == f"leads to {host}, an address of the inside"


def test_the_inside_is_out_of_reach_from_outside() -> None:
    assert refused("registry.example", "https://inside.example/") == "leads to inside.example, an address of the inside"


def test_nobody_is_led_away_from_tls() -> None:
    assert refused("registry.example", "http://cdn.example/") == "leads to cdn.example without TLS"
    assert refused("registry.example", "http://registry.example/") == "leads to registry.example without TLS"


def test_names_without_an_address_are_an_error_of_the_registry() -> None:
    assert refused("registry.example", "https://a.nowhere/") == "leads to a.nowhere, which has no address"


class Led(httpx.AsyncBaseTransport):
    """Answers for every host, and leads from the registry to somewhere else."""

    def __init__(self, answer: httpx.Response) -> None:
        self.asked: list[str] = []
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.host)
        return self._answer if request.url.host == "registry.example" else httpx.Response(200, json={"token": "t"})


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(302, headers={"location": "https://metadata.example/latest"}),
        httpx.Response(200, headers={"link": '<https://metadata.example/>; rel="next"'}, json={"tags": ["1"]}),
        httpx.Response(401, headers={"www-authenticate": 'Bearer realm="https://metadata.example/"'}),
        httpx.Response(401, headers={"www-authenticate": 'Bearer realm="http://localhost/admin"'}),
    ],
    ids=["redirect", "link", "realm", "realm without TLS"],
)
def test_nothing_is_asked_of_the_inside(answer: httpx.Response, monkeypatch: pytest.MonkeyPatch) -> None:
    led = Led(answer)
    monkeypatch.setattr(client, "BoundedTransport", lambda verify: led)

    async def main() -> None:
        async with Client() as asking:
            await asking.tags(Reference("registry.example", "a"))

    with pytest.raises(RegistryError):
        asyncio.run(main())
    assert set(led.asked) == {"registry.example"}


def test_a_token_service_on_this_machine_is_for_registries_here() -> None:
    async def main(host: str) -> str:
        async with httpx.AsyncClient(transport=Led(httpx.Response(500))) as http:
            return await Authenticator(http).answer(
                Reference(host, "a"), "pull", 'Bearer realm="http://127.0.0.1:1/token"'
            )

    assert asyncio.run(main("127.0.0.1:5000")) == "Bearer t"
    with pytest.raises(RegistryError, match="without TLS"):
        asyncio.run(main("registry.example"))
