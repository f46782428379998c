"""The bulkhead of a route: bounded, fair, quick to refuse, and never short of a place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from apps import app, client, config, eventually, run, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from starlette_wasm import EdgeRequest, FunctionOverloaded, WasmMiddleware, WasmRoute, WasmRuntime
from starlette_wasm.sync.bulkhead import Bulkhead, Full


def test_places_are_given_in_the_order_of_coming() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(1, 10, 5)
        bulkhead.active = 1
        order: list[int] = []

        async def one(number: int) -> None:
            await bulkhead.wait()
            order.append(number)
            bulkhead.leave()

        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(one(number))
            await asyncio.sleep(0)
            assert (bulkhead.waiting, bulkhead.active < bulkhead.limit) == (10, False)
            with pytest.raises(Full, match="10 wait"):
                await bulkhead.wait()
            bulkhead.leave()
        assert order == list(range(10))
        assert (bulkhead.active, bulkhead.waiting) == (0, 0)

    run(main())


def test_who_comes_later_does_not_overtake_who_waits() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(1, 10, 5)
        bulkhead.active = 1
        waiting = asyncio.create_task(bulkhead.wait())
        await asyncio.sleep(0)
        bulkhead.leave()
        assert bulkhead.active == bulkhead.limit
        await waiting
        bulkhead.leave()
        assert bulkhead.active < bulkhead.limit

    run(main())


def test_a_wait_has_an_end() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(1, 1, 0.02)
        bulkhead.active = 1
        with pytest.raises(Full, match="no place within 20 ms"):
            await bulkhead.wait()
        assert (bulkhead.active, bulkhead.waiting) == (1, 0)

    run(main())


@pytest.mark.parametrize("given", [False, True])
def test_a_wait_that_is_cancelled_loses_no_place(given: bool) -> None:
    """Neither while it waits, nor just as it was given the place."""

    async def main() -> None:
        bulkhead = Bulkhead(1, 2, 5)
        bulkhead.active = 1
        first, second = (asyncio.create_task(bulkhead.wait()) for _ in range(2))
        await asyncio.sleep(0)
        if given:
            bulkhead.leave()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        if not given:
            bulkhead.leave()
        await second
        assert (bulkhead.active, bulkhead.waiting) == (1, 0)

    run(main())


def test_a_place_that_is_left_as_a_wait_is_cancelled_is_counted_once() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(1, 2, 5)
        bulkhead.active = 1
        first, second = (asyncio.create_task(bulkhead.wait()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        bulkhead.leave()
        await asyncio.gather(first, return_exceptions=True)
        await second
        assert (bulkhead.active, bulkhead.waiting) == (1, 0)

    run(main())


def test_a_full_route_answers_503_at_once_and_others_are_not_touched(tmp_path: Path) -> None:
    policies = {
        "narrow": {"maxConcurrency": 2, "maxQueue": 1, "queueTimeoutMs": 59_500, "executionTimeoutMs": 60_000},
    }
    rule = {"functionName": "spin", "policy": "narrow"}
    made = config(tmp_path, {"/a": rule, "/b": rule, "/hello": "hello"}, functions=["spin"], policies=policies)

    async def main() -> None:
        runtime = WasmRuntime(made, settings())
        around = [Middleware(WasmMiddleware, runtime=runtime)]
        starlette = Starlette(routes=[WasmRoute("/route", function="spin", policy="narrow")], middleware=around)
        async with runtime, client(starlette) as http:
            await http.get("/hello")
            for path in ("/a", "/route"):
                running = [asyncio.create_task(http.get(path)) for _ in range(3)]
                await eventually(lambda: runtime.stats()["running"] == 3)
                refused = await http.get(path, headers={"x-request-id": "r-1"})
                assert refused.status_code == 503
                assert refused.headers["retry-after"] == "60"
                assert refused.json() == {
                    "type": "function-overloaded",
                    "title": "function overloaded",
                    "status": 503,
                    "request_id": "r-1",
                }
                assert (await http.get("/hello")).status_code == 200
                assert [task.done() for task in running] == [False] * 3
                for task in running:
                    task.cancel()
                await asyncio.wait(running)

    run(main())


def test_who_waits_too_long_gets_503(tmp_path: Path) -> None:
    policies = {"narrow": {"maxConcurrency": 1, "queueTimeoutMs": 50, "executionTimeoutMs": 60_000}}
    made = config(tmp_path, {"/spin": {"functionName": "spin", "policy": "narrow"}}, policies=policies)

    async def main() -> None:
        runtime = WasmRuntime(made, settings())
        async with runtime, client(WasmMiddleware(Starlette(), runtime=runtime)) as http:
            first = asyncio.create_task(http.get("/spin"))
            await eventually(lambda: runtime.stats()["running"] == 1)
            assert (await http.get("/spin")).status_code == 503
            assert not first.done()
            first.cancel()
            await asyncio.wait([first])

    run(main())


def test_many_more_than_fit_are_all_served_in_turn(tmp_path: Path) -> None:
    policies = {"narrow": {"maxConcurrency": 3, "queueTimeoutMs": 10_000}}
    made = config(tmp_path, functions=["sleep_ms"], policies=policies)

    async def main() -> None:
        async with WasmRuntime(made, settings()) as runtime:
            most = 0

            async def one() -> None:
                nonlocal most
                target = runtime.target("sleep_ms", policy="narrow", where="invoke")
                await runtime.invoke("sleep_ms", EdgeRequest(query={"ms": "10"}), policy="narrow")
                most = max(most, target.bulkhead.active)

            await asyncio.gather(*(one() for _ in range(60)))
            assert 0 < most <= 3
            assert runtime.target("sleep_ms", policy="narrow", where="invoke").bulkhead.active == 0
            assert runtime.stats()["ok"] == 60

    run(main())


def test_more_guests_than_the_engine_has_room_for_are_refused(tmp_path: Path) -> None:
    made = config(tmp_path, functions=["sleep_ms", "hello"])

    async def main() -> None:
        async with WasmRuntime(made, settings(max_instances=2)) as runtime:
            sleeping = [asyncio.create_task(runtime.invoke("sleep_ms", EdgeRequest(query={"ms": "200"}))) for _ in "ab"]
            await eventually(lambda: runtime.stats()["live"] == 2)
            with pytest.raises(FunctionOverloaded, match=r"2 guests are alive \(max_instances\)"):
                await runtime.invoke("hello", EdgeRequest())
            await asyncio.gather(*sleeping)
            assert (await runtime.invoke("hello", EdgeRequest())).body == "hello"

    run(main())


def test_a_bulkhead_works_across_event_loops(tmp_path: Path) -> None:
    """TestClient without lifespan runs each request in a loop of its own."""
    policies = {"one": {"maxConcurrency": 1, "queueTimeoutMs": 5000}}
    made = config(tmp_path, {"/sleep": {"functionName": "sleep_ms", "policy": "one"}}, policies=policies)
    starlette = app(made)

    async def main() -> None:
        await asyncio.to_thread(TestClient(starlette).get, "/sleep")
        responses = await asyncio.gather(
            *(asyncio.to_thread(TestClient(starlette).get, "/sleep?ms=50") for _ in range(4))
        )
        assert [response.status_code for response in responses] == [200] * 4

    run(main())
