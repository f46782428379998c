from __future__ import annotations

import asyncio
import time

from starlette_wasm.sync.pace import SLICE, Pace


def test_work_on_many_things_leaves_the_loop_its_turns() -> None:
    order: list[str] = []

    async def rounds() -> None:
        for _ in range(200):
            order.append("round")
            await asyncio.sleep(0)

    async def main() -> None:
        pace = Pace()

        async def go_through(tenant: str) -> None:
            async for _ in pace.in_turns(tenant, range(4)):
                end = time.perf_counter() + 1.1 * SLICE
                while time.perf_counter() < end:
                    pass
                order.append(tenant)

        await asyncio.gather(go_through("a"), go_through("b"), rounds())

    asyncio.run(main())
    text = " ".join(order)
    assert all(two not in text for two in ("a a", "a b", "b a", "b b"))
    assert (order.count("a"), order.count("b")) == (4, 4)


def test_time_is_booked_without_a_loop() -> None:
    """As that of a coroutine which is closed after its loop; who then comes in a loop has a turn all the same."""
    pace = Pace()
    pace.book(10 * SLICE)
    assert not pace.is_free

    async def main() -> float:
        async with asyncio.timeout(60):
            return await pace.turn("a")

    assert asyncio.run(main()) == SLICE
