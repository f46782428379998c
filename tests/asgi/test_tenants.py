"""Rules by host and tenant, and quotas, over real guests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import add_constant, client, config, eventually, run, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection

from starlette_wasm import WasmMiddleware, WasmRoute, WasmRuntime, wasm_route
from starlette_wasm.asgi.tenants import host_of
from starlette_wasm.runtime.tenancy import TenantUsage


async def claim(connection: HTTPConnection) -> str | None:
    return connection.headers.get("x-tenant")


@asynccontextmanager
async def serving(
    folder: Path, rules: list[dict[str, Any]], tenant: Any = claim, routes: Any = (), **keys: Any
) -> AsyncIterator[tuple[WasmRuntime, httpx.AsyncClient]]:
    for name in {rule["functionName"] for rule in rules} | {"routed"}:
        if name not in ("spin", "sleep60"):
            add_constant(folder, name, b'{"status_code": 200, "body": "%s"}' % name.encode())
    made = config(folder, **{"functions": ["spin", "sleep60"], **keys})
    runtime = WasmRuntime(made | {"rules": rules}, settings(reload_interval_ms=0))
    wasm = Middleware(WasmMiddleware, runtime=runtime, tenant=tenant)
    app = Starlette(routes=list(routes), middleware=[wasm])
    async with runtime, client(app) as http:
        yield runtime, http


def of(tenant: str) -> dict[str, str]:
    return {"x-tenant": tenant}


def test_rules_are_chosen_by_host_and_claim(tmp_path: Path) -> None:
    rules: list[dict[str, Any]] = [
        {"pathPattern": "/x", "functionName": "everybody"},
        {"pathPattern": "/x", "functionName": "host", "hosts": ["A.example", "*.b.example"]},
        {"pathPattern": "/x", "functionName": "acme", "tenants": ["acme"]},
        {"pathPattern": "/mine", "functionName": "acme", "tenants": ["acme"]},
    ]

    async def main() -> None:
        async with serving(tmp_path, rules) as (_, http):

            async def text(path: str, **headers: str) -> str:
                answer = await http.get(path, headers={key.replace("_", "-"): each for key, each in headers.items()})
                return answer.text if answer.status_code == 200 else str(answer.status_code)

            assert await text("/x") == "everybody"
            assert await text("/x", host="a.EXAMPLE:8443") == "host"
            assert await text("/x", host="www.b.example.") == "host"
            assert await text("/x", host="b.example") == "everybody"
            assert await text("/x", host="a.example", x_tenant="acme") == "acme"
            assert await text("/mine", x_tenant="acme") == "acme"
            assert await text("/mine", x_tenant="globex") == "404"
            assert await text("/mine") == "404"

    run(main())


def test_hosts_of_tenants_stand_in_for_a_claim(tmp_path: Path) -> None:
    rules = [{"pathPattern": "/mine", "functionName": "acme", "tenants": ["acme"]}]
    tenants = [{"name": "acme", "hosts": ["acme.example", "*.acme.example"], "requestsPerMinute": 2}]

    async def main() -> None:
        async with serving(tmp_path, rules, None, tenants=tenants) as (_, http):
            asked = [await http.get("/mine", headers={"host": host}) for host in ("acme.example", "a.acme.example")]
            assert [each.text for each in asked] == ["acme", "acme"]
            assert (await http.get("/mine", headers={"host": "acme.example"})).status_code == 429
            assert (await http.get("/mine", headers={"host": "globex.example"})).status_code == 404

    run(main())


def test_a_quota_bounds_rules_routes_and_pipelines(tmp_path: Path) -> None:
    @wasm_route("/handled", function="routed")
    async def handled(request: Any, call: Any) -> Any:
        return await call(request)

    rules = [{"pathPattern": "/x", "functionName": "everybody"}]
    routes = [WasmRoute("/routed", function="routed"), handled]
    pipelines = [{"path": "/piped", "steps": [{"function": "everybody"}]}]
    tenants = [{"name": "*", "requestsPerMinute": 1}]

    async def main() -> None:
        async with serving(tmp_path, rules, routes=routes, pipelines=pipelines, tenants=tenants) as (runtime, http):
            for path in ("/x", "/routed", "/handled", "/piped"):
                assert (await http.get(path, headers=of(path))).status_code == 200, path
                refused = await http.get(path, headers=of(path))
                assert refused.status_code == 429
                assert 0 < int(refused.headers["retry-after"]) <= 60
                assert refused.json()["type"] == "tenant-limited"
                assert refused.json()["detail"] == "requestsPerMinute is used up"
                assert (await http.get(path)).status_code == 200  # nobody's
            assert {
                each["name"]: (each["served"], each["limited"])
                for each in map(TenantUsage.describe, runtime.tenancy.listed())
            } == {path: (1, {"requestsPerMinute": 1}) for path in ("/x", "/routed", "/handled", "/piped")}
            assert (await runtime.invoke("everybody", _request())).status_code == 200

    run(main())


def _request() -> Any:
    from starlette_wasm import EdgeRequest

    return EdgeRequest()


def test_tenants_pay_for_what_they_give_up(tmp_path: Path) -> None:
    rules = [{"pathPattern": "/spin", "functionName": "spin", "policy": "long"}]
    tenants, policies = [{"name": "acme"}], {"long": {"executionTimeoutMs": 600_000}}

    async def main() -> None:
        async with serving(tmp_path, rules, tenants=tenants, policies=policies) as (runtime, http):
            acme = runtime.tenancy.usage("acme")
            assert acme is not None
            for _ in range(100):
                with suppress(TimeoutError):
                    await asyncio.wait_for(http.get("/spin", headers=of("acme")), 0.2)
                if acme.cpu:
                    return
            pytest.fail("a tenant whose clients go away in time uses CPUs without a bound")

    run(main())


def test_what_runs_takes_places_and_cpu_time(tmp_path: Path) -> None:
    rules = [
        {"pathPattern": "/sleep", "functionName": "sleep60", "policy": "long"},
        {"pathPattern": "/spin", "functionName": "spin", "policy": "short"},
        {"pathPattern": "/x", "functionName": "quick"},
    ]
    tenants = [
        {"name": "acme", "maxConcurrency": 1},
        {"name": "globex", "cpuSecondsPerMinute": 0.0001},
        {"name": "small", "maxMemoryMb": 1},
    ]
    policies = {"short": {"executionTimeoutMs": 500}, "long": {"executionTimeoutMs": 600_000}}

    async def main() -> None:
        async with serving(tmp_path, rules, tenants=tenants, policies=policies) as (runtime, http):
            asleep = asyncio.create_task(http.get("/sleep", headers=of("acme")))
            acme = runtime.tenancy.usage("acme")
            assert acme is not None
            await eventually(lambda: acme.running == 1)
            busy = await http.get("/x", headers=of("acme"))
            assert (busy.status_code, busy.json()["detail"]) == (429, "maxConcurrency is used up")
            asleep.cancel()
            await eventually(lambda: acme.running == 0)
            assert (await http.get("/x", headers=of("acme"))).status_code == 200
            assert (await http.get("/spin", headers=of("globex"))).status_code == 504
            spent = await http.get("/x", headers=of("globex"))
            assert (spent.status_code, spent.json()["detail"]) == (429, "cpuSecondsPerMinute is used up")
            assert int(spent.headers["retry-after"]) > 60
            small = await http.get("/x", headers=of("small"))  # 256 pages are 16 MiB
            assert (small.status_code, small.json()["detail"]) == (429, "maxMemoryMb is used up")

    run(main())


@pytest.mark.parametrize("given", [7, "x" * 200, "*"])
def test_a_callable_that_names_nobody_known_is_an_error(tmp_path: Path, given: object) -> None:
    rules = [{"pathPattern": "/x", "functionName": "everybody"}]

    async def main() -> None:
        async with serving(tmp_path, rules, lambda _: given, tenants=[{"name": "*"}]) as (_, http):
            with pytest.raises(TypeError, match="callable tenant"):
                await http.get("/x")

    run(main())


@pytest.mark.parametrize(
    ("host", "found"),
    [(b"A.b:80", "a.b"), (b"a.", "a"), (b"[::1]:80", "[::1]"), (b"[::1]", "[::1]"), (b"", ""), (b"\xff", "\xff")],
)
def test_a_host_is_read_without_its_port(host: bytes, found: str) -> None:
    assert host_of({"type": "http", "headers": [(b"host", host)]}) == found
    assert host_of({"type": "http", "headers": []}) == ""
