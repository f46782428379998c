from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from starlette_wasm.sync.threads import FairThreads


def test_each_tenant_has_its_share_and_one_thread_always() -> None:
    release = threading.Event()
    started: list[str] = []

    def work(tenant: str) -> str:
        started.append(tenant)
        assert release.wait(60)
        return tenant

    async def main() -> None:
        threads = FairThreads("fair", most=4, each=2)
        tasks = [asyncio.create_task(threads.run(name, lambda name=name: work(name))) for name in "aaaabbbbcd"]
        until = time.monotonic() + 60
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
        tasks = [asyncio.create_task(threads.run("a", lambda: release.wait(60) and started.append("a"))) for _ in names]
        await asyncio.sleep(0.05)
        await asyncio.wait_for(threads.run("b", lambda: started.append("b")), 60)
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


def test_jobs_of_other_loops_end_if_no_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = FairThreads("fair", most=4, each=1)
    others: list[threading.Thread] = []
    ends: list[object] = []

    def wait_elsewhere() -> None:
        try:
            ends.append(asyncio.run(asyncio.wait_for(threads.run("a", lambda: "done"), 60)))
        except RuntimeError as error:
            ends.append(str(error))

    plain = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name != "fair":
            return plain(thread)
        other = threading.Thread(target=wait_elsewhere, name="other")
        others.append(other)
        other.start()
        until = time.monotonic() + 60
        while not (waiting := threads._waiting.get("a")) or len(waiting) < 2:  # it waits for this very thread
            assert time.monotonic() < until
            time.sleep(0.001)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        asyncio.run(threads.run("a", lambda: None))
    others[0].join(60)
    assert ends == ["can't start new thread"]
    monkeypatch.undo()
    assert asyncio.run(threads.run("a", lambda: "done")) == "done"


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    """What runs at the fork is the parent's: the child must not wait for its end."""
    release, began = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        assert release.wait(60)

    async def main() -> int:
        threads = FairThreads("fair", most=1, each=1)
        busy = asyncio.create_task(threads.run("a", work))
        while not began.is_set():
            await asyncio.sleep(0.005)
        child = os.fork()
        if not child:
            done = threading.Event()
            threading.Thread(target=lambda: asyncio.run(threads.run("a", done.set)), daemon=True).start()
            os._exit(0 if done.wait(60) else 1)
        _, status = await asyncio.get_running_loop().run_in_executor(None, os.waitpid, child, 0)
        release.set()
        await busy
        return status

    assert asyncio.run(main()) == 0
