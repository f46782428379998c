from __future__ import annotations

import asyncio
import threading
import time

import pytest

from starlette_wasm.sync.threads import FairThreads


def test_each_tenant_has_its_share_and_one_thread_always() -> None:
    release = threading.Event()
    started: list[str] = []

    def work(tenant: str) -> str:
        started.append(tenant)
        assert release.wait(10)
        return tenant

    async def main() -> None:
        threads = FairThreads("fair", most=4, each=2)
        tasks = [asyncio.create_task(threads.run(name, lambda name=name: work(name))) for name in "aaaabbbbcd"]
        until = time.monotonic() + 5
        while len(started) < 6 and time.monotonic() < until:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert sorted(started) == ["a", "a", "b", "b", "c", "d"]
        tasks[3].cancel()  # waits, and never begins
        await asyncio.sleep(0)
        release.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [each for each in results if isinstance(each, str)] == list("aaabbbbcd")
        assert sorted(started) == list("aaabbbbcd")

    asyncio.run(main())


def test_those_who_wait_take_turns() -> None:
    started: list[str] = []

    async def main() -> None:
        threads = FairThreads("fair", most=1, each=1)
        release = threading.Event()
        names = ["a", *"aaaaa"]
        tasks = [asyncio.create_task(threads.run("a", lambda: release.wait(10) and started.append("a"))) for _ in names]
        await asyncio.sleep(0.05)
        await asyncio.wait_for(threads.run("b", lambda: started.append("b")), 5)
        assert started == ["b"]
        release.set()
        await asyncio.gather(*tasks)
        assert started == ["b", *names]

    asyncio.run(main())


def test_an_error_is_raised_where_it_is_waited_for() -> None:
    def fail() -> None:
        raise KeyError("x")

    async def main() -> None:
        with pytest.raises(KeyError):
            await FairThreads("fair", most=1, each=1).run("a", fail)

    asyncio.run(main())


def test_none_is_a_tenant_like_others() -> None:
    async def main() -> int:
        return await asyncio.wait_for(FairThreads("none", most=1, each=1).run(None, lambda: 1), 30)

    assert asyncio.run(main()) == 1
