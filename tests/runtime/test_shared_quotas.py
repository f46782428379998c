"""Quotas of a minute that processes share, in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from apps import add_constant, client, config, run, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from test_tenancy import tenancy, usage

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.config.settings import WasmSettings
from starlette_wasm.exceptions import TenantLimited
from starlette_wasm.runtime.shared_quotas import SharedQuotas
from starlette_wasm.runtime.tenancy import Tenancy, TenantUsage

ACME = {"name": "acme", "requestsPerMinute": 10, "cpuSecondsPerMinute": 30}
OTHERS = {"name": "*", "requestsPerMinute": 10}


class Node:
    """A process, as far as quotas go."""

    def __init__(self, url: str, *tenants: dict[str, object], prefix: str = "") -> None:
        self.tenancy: Tenancy = tenancy(*tenants)
        self.notes: dict[str, str] = {}
        given = WasmSettings(canary_url=url, canary_prefix=prefix)
        self.quotas = SharedQuotas(self.tenancy, given, self.notes)

    def take(self, requests: int, name: str = "acme") -> None:
        for _ in range(requests):
            usage(self.tenancy, name).take_request("f")

    def cpu_left(self) -> float:
        [found] = [each for each in map(TenantUsage.describe, self.tenancy.listed()) if each["name"] == "acme"]
        return float(found["cpu_seconds_left"])

    def left(self, name: str = "acme") -> int:
        [found] = [each for each in map(TenantUsage.describe, self.tenancy.listed()) if each["name"] == name]
        return int(found["requests_left"])


def with_nodes(test: Callable[..., Any], *nodes: Node) -> None:
    async def main() -> None:
        try:
            await test(*nodes)
        finally:
            for node in nodes:
                await node.quotas.close()

    asyncio.run(main())


def test_processes_take_from_one_account(flushed_redis: str) -> None:
    """By amounts that take hours to come back, however slow this machine is."""

    async def test(a: Node, b: Node) -> None:
        usage(a.tenancy).pay(3000.0)
        usage(b.tenancy).pay(0.001)
        for node in (a, b):
            await node.quotas.exchange()
        with pytest.raises(TenantLimited, match="cpuSecondsPerMinute") as caught:
            b.take(1)
        assert caught.value.retry_after > 3000
        usage(b.tenancy).pay(5000.0)
        usage(a.tenancy).pay(500.0)  # not exchanged yet: it counts here alone
        for node, wanted in ((b, 30 - 8000), (a, 30 - 8500), (b, 30 - 8500)):
            await node.quotas.exchange()
            assert wanted - 1 <= node.cpu_left() <= wanted + 400

    with_nodes(test, Node(flushed_redis, ACME), Node(flushed_redis, ACME))


def test_requests_are_shared(flushed_redis: str) -> None:
    async def test(a: Node, b: Node) -> None:
        a.take(1)
        b.take(1)  # before they have looked: so much more than the quota is possible, once
        for node in (a, b, a):
            await node.quotas.exchange()
        for node in (a, b):
            with pytest.raises(TenantLimited) as caught:
                node.take(1)
            assert 1 < caught.value.retry_after <= 121

    one = {"name": "acme", "requestsPerMinute": 1}
    with_nodes(test, Node(flushed_redis, one), Node(flushed_redis, one))


def test_tenants_prefixes_and_quotas_have_accounts_of_their_own(flushed_redis: str) -> None:
    async def test(*nodes: Node) -> None:
        usage(nodes[0].tenancy).pay(9000.0)
        usage(nodes[0].tenancy, "x \ud800\n{}").take_request("f")
        for node in nodes[1:]:
            usage(node.tenancy).pay(0.001)
        for node in nodes:
            await node.quotas.exchange()
        assert [node.cpu_left() > 0 for node in nodes] == [False, True, True]
        with redis.Redis.from_url(flushed_redis) as server:
            assert server.dbsize() == 4

    other = {**ACME, "cpuSecondsPerMinute": 31}
    nodes = (Node(flushed_redis, ACME, OTHERS), Node(flushed_redis, ACME, prefix="b"), Node(flushed_redis, other))
    with_nodes(test, *nodes)


def test_many_tenants_take_few_calls(flushed_redis: str) -> None:
    async def test(a: Node) -> None:
        for number in range(450):
            a.take(1, f"tenant-{number}")
        with redis.Redis.from_url(flushed_redis) as server:
            await a.quotas.exchange()
            before = server.info("commandstats")["cmdstat_evalsha"]["calls"]
            assert server.dbsize() == 450
            assert all(0 < server.ttl(key) <= 86_400 for key in list(server.scan_iter(count=1000))[:20])
            await a.quotas.exchange()
            assert server.info("commandstats")["cmdstat_evalsha"]["calls"] - before == 5
            assert server.config_get("maxmemory")

    with_nodes(test, Node(flushed_redis, {"name": "*", "requestsPerMinute": 1}))


def test_what_another_has_written_is_no_account(flushed_redis: str) -> None:
    async def test(a: Node) -> None:
        a.take(1)
        await a.quotas.exchange()
        with redis.Redis.from_url(flushed_redis) as server:
            [key] = list(server.scan_iter())
            for left, at in (("nan", "1"), ("x", "y"), ("inf", "inf"), ("-inf", "0"), ("1e300", "-1e300")):
                server.hset(key, mapping={"left": left, "at": at})
                await a.quotas.exchange()
                assert 9 <= a.left() <= 10, left
                a.take(1)
            server.delete(key)
            server.set(key, "a text")
            await a.quotas.exchange()
            assert server.type(key) == b"hash"
        assert 8 <= a.left() <= 10
        assert not a.notes

    with_nodes(test, Node(flushed_redis, {"name": "acme", "requestsPerMinute": 10}))


@pytest.mark.parametrize(
    "answer", [b":1\r\n", b"*0\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$4\r\n-inf\r\n", b"*1\r\n$1\r\nx\r\n"]
)
def test_answers_that_are_no_numbers_change_nothing(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(answer if b"EVALSHA" in data else b"+OK\r\n" * data.count(b"*"))
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            a = Node(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", ACME)
            usage(a.tenancy).pay(4000.0)
            await a.quotas.exchange()
            await a.quotas.close()
        assert a.cpu_left() < -3000
        assert a.notes

    asyncio.run(main())


def test_without_redis_each_process_counts_for_itself(flushed_redis: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test(away: Node) -> None:
        usage(away.tenancy).pay(4000.0)
        for _ in range(2):
            await away.quotas.exchange()
        assert away.cpu_left() < -3000
        assert away.notes == {"tenants": "Redis cannot be asked: each process counts for itself"}
        assert caplog.text.count("each process counts quotas for itself") == 1
        there = SharedQuotas(away.tenancy, WasmSettings(canary_url=flushed_redis), away.notes)
        usage(away.tenancy).pay(1.0)
        await there.exchange()
        await there.close()
        assert away.cpu_left() > 0  # what was used while Redis was away counts for nobody else
        assert not away.notes

    with_nodes(test, Node("redis://127.0.0.1:1/0", ACME))


def test_servers_share_what_their_canaries_redis_counts(tmp_path: Path, flushed_redis: str) -> None:
    rules = [{"pathPattern": "/x", "functionName": "quick"}]
    add_constant(tmp_path, "quick", b'{"status_code": 200, "body": "quick"}')
    made = config(tmp_path, tenants=[{"name": "acme", "requestsPerMinute": 4}]) | {"rules": rules}

    async def main() -> None:
        given = settings(reload_interval_ms=0, canary_url=flushed_redis)
        runtimes = [WasmRuntime(made, given) for _ in range(2)]
        apps = [
            Starlette(middleware=[Middleware(WasmMiddleware, runtime=each, tenant=lambda _: "acme")])
            for each in runtimes
        ]
        async with runtimes[0], runtimes[1], client(apps[0]) as first, client(apps[1]) as second:
            assert [(await first.get("/x")).status_code for _ in range(4)] == [200] * 4
            async with asyncio.timeout(60):
                while (await second.get("/x")).status_code != 429:
                    await asyncio.sleep(0.1)
            served = [
                each["served"] for runtime in runtimes for each in map(TenantUsage.describe, runtime.tenancy.listed())
            ]
            assert served[0] == 4
            assert served[1] <= 4 + 60 / 15  # its own quota, and what a minute brings

    run(main())
