"""One tenant cannot use up another's share of the calls to a server, or of the descriptors for connections."""

from __future__ import annotations

import asyncio

import pytest
from capability_guest import Guest, capabilities
from capability_servers import Received, Upstream
from test_connections import fetching, until_open
from test_fetch import OPEN

from starlette_wasm.capabilities import Capabilities, CapabilitySettings
from starlette_wasm.capabilities.http import client, pool
from starlette_wasm.capabilities.http.sockets import Sockets
from starlette_wasm.capabilities.tenant import MAX_WAITING, MOST_CALLS_OF_TENANT
from starlette_wasm.config.policy import SandboxPolicy

pytestmark = pytest.mark.anyio

POLICY = SandboxPolicy(kv_namespaces=["a"], queues=["mail"])
MORE = 30


@pytest.fixture(params=["redis", "nats"])
def backend(request: pytest.FixtureRequest) -> tuple[dict[str, str], str, dict[str, str]]:
    if request.param == "redis":
        return {"kv_url": request.getfixturevalue("flushed_redis")}, "kv.get", {"namespace": "a", "key": "k"}
    return {"queue_url": request.getfixturevalue("nats_url")}, "queue.publish", {"queue": "mail"}


async def test_one_tenant_leaves_calls_to_others(backend: tuple[dict[str, str], str, dict[str, str]]) -> None:
    urls, operation, fields = backend
    done: list[str] = []
    async with capabilities(**urls) as there:

        async def call(function: str) -> str:
            header, _ = await Guest(there, POLICY, function=function, seconds=60)(operation, **fields)
            done.append(function)
            return "ok" if header["ok"] else str(header["error"]["message"])

        greedy = [asyncio.create_task(call("greedy")) for _ in range(MOST_CALLS_OF_TENANT + MAX_WAITING + MORE)]
        await asyncio.sleep(0)
        assert await call("modest") == "ok"
        answers = await asyncio.gather(*greedy)
    # Those above the bound were refused at once; of the others no more than their share went first.
    assert answers.count("ok") == MOST_CALLS_OF_TENANT + MAX_WAITING
    busy = {answer for answer in answers if answer != "ok"}
    assert len(busy) == 1
    assert busy.pop().endswith(f"is busy: {MAX_WAITING} calls of this function wait for it")
    assert done.index("modest") < MORE + MAX_WAITING // 2


@pytest.fixture
def few_sockets(monkeypatch: pytest.MonkeyPatch) -> Sockets:
    """As if the process might have 8 connections in all, and a tenant 3 of them."""

    class Few(Sockets):
        def read_limit(self) -> None:
            self.slots.most, self.slots.each = 8, 3

    few = Few()
    for module in (client, pool):
        monkeypatch.setattr(module, "sockets", few)
    return few


async def test_one_tenant_leaves_sockets_to_others(upstream: Upstream, few_sockets: Sockets) -> None:
    async def hang(request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    upstream.answers["/hang"] = hang
    async with fetching() as there:
        greedy = [
            asyncio.create_task(Guest(there, OPEN, function="greedy")("http.fetch", url=f"{upstream.origin}/hang"))
            for _ in range(10)
        ]
        await until_open(upstream, 3)
        for function in "abcdefgh":  # more than 8 in all: each has one
            answer = await Guest(there, OPEN, function=function, seconds=60)("http.fetch", url=upstream.origin)
            assert answer[1] == b"hello"
        assert few_sockets.slots.taken(there.grants(OPEN, "greedy").http) == 3
        for task in greedy:
            task.cancel()
        await asyncio.gather(*greedy, return_exceptions=True)
    assert len(few_sockets.slots) == 0


async def test_idle_connections_make_room(upstream: Upstream, few_sockets: Sockets) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    there = Capabilities(CapabilitySettings(), resolver=resolver)
    try:

        async def fetch(function: str, at: str) -> None:
            answer = await Guest(there, OPEN, function=function, seconds=60)("http.fetch", url=at)
            assert answer[0]["ok"]

        port = upstream.origin.rpartition(":")[2]
        for number in range(5):  # each has another origin, and keeps its connection
            await fetch("a", f"http://host{number}.example:{port}/")
        assert few_sockets.slots.taken(there.grants(OPEN, "a").http) == 3
        await until_open(upstream, 3)
    finally:
        await there.close()
    assert len(few_sockets.slots) == 0


def test_a_loop_that_was_closed_gives_its_sockets_back(few_sockets: Sockets) -> None:
    async def take(tenant: str) -> None:
        await few_sockets.take(tenant)

    for _ in range(20):  # without asyncio.run(), which would end what is left
        loop = asyncio.new_event_loop()
        loop.run_until_complete(take("a"))
        loop.close()
    assert few_sockets.slots.taken("a") == 1
