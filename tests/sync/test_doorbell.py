"""``Doorbell``: wakes one coroutine, from any thread, and loses no ring."""

from __future__ import annotations

import asyncio
import threading
import time

from starlette_wasm.sync.doorbell import Doorbell


def test_rings_of_threads_wake_the_one_that_waits() -> None:
    async def go() -> None:
        bell = Doorbell()
        seen: list[int] = []
        put: list[int] = []

        def producer() -> None:
            for number in range(2000):
                put.append(number)
                bell.ring()
                if number % 100 == 0:
                    time.sleep(0.001)

        thread = threading.Thread(target=producer)
        thread.start()
        async with asyncio.timeout(60):
            while len(seen) < 2000:
                await bell.until(lambda: len(put) > len(seen))
                seen.extend(put[len(seen) :])
        thread.join()
        assert seen == list(range(2000))

    asyncio.run(go())


def test_what_is_ready_is_not_waited_for() -> None:
    async def go() -> None:
        bell = Doorbell()
        bell.ring()
        await bell.until(lambda: True)

    asyncio.run(go())


def test_rings_after_the_loop_is_closed_are_nobodys() -> None:
    async def go() -> Doorbell:
        bell = Doorbell()
        waiting = asyncio.ensure_future(bell.until(lambda: False))
        await asyncio.sleep(0)
        waiting.cancel()
        return bell

    asyncio.run(go()).ring()
