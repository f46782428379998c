from __future__ import annotations

import asyncio
import threading

import pytest

from starlette_wasm.sync.shared_work import SharedWork
from starlette_wasm.sync.threads import FairThreads


def shared() -> SharedWork[int]:
    return SharedWork(FairThreads("shared", most=1, each=1))


def test_who_asks_before_it_begins_gets_the_same() -> None:
    begun: list[int] = []
    release = threading.Event()

    def work() -> int:
        begun.append(1)
        assert release.wait(60)
        return len(begun)

    async def main() -> None:
        sharing = shared()
        first = asyncio.create_task(sharing.run("k", work))
        async with asyncio.timeout(60):
            while not begun:
                await asyncio.sleep(0.005)
            later = [asyncio.create_task(sharing.run("k", work)) for _ in range(64)]
            gone = asyncio.create_task(sharing.run("k", work))
            other = asyncio.create_task(sharing.run("other", work))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.sleep(0)
            release.set()
            assert await first == 1  # begun before the others asked: not for them
            assert {await each for each in later} == {2}
            assert await other == 3
        assert not sharing._waiting

    asyncio.run(main())


def test_a_failure_is_that_of_all_and_of_none_that_follow() -> None:
    async def main() -> None:
        sharing = shared()
        failing = [asyncio.create_task(sharing.run("k", lambda: 1 // 0)) for _ in range(3)]
        results = await asyncio.gather(*failing, return_exceptions=True)
        assert {type(each) for each in results} == {ZeroDivisionError}
        assert await sharing.run("k", lambda: 5) == 5

    asyncio.run(main())


def test_without_a_thread_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        sharing = shared()
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", none)
            with pytest.raises(RuntimeError, match="can't start"):
                await sharing.run("k", lambda: 1)
        assert await sharing.run("k", lambda: 2) == 2

    asyncio.run(main())
