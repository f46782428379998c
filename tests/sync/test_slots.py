from __future__ import annotations

import asyncio
import threading

import pytest

from starlette_wasm.sync.fair_queue import NoRoom
from starlette_wasm.sync.slots import FairSlots


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_tenant_has_its_share_and_one_slot_always() -> None:
    async def main() -> None:
        slots = FairSlots(most=4, each=3, waiting=100)
        greedy = [asyncio.create_task(slots.take("a")) for _ in range(10)]
        await settled()
        assert slots.taken("a") == 3
        await asyncio.wait_for(slots.take("b"), 30)
        assert len(slots) == 4
        await asyncio.wait_for(slots.take("c"), 30)  # above the most: it has none yet
        assert [slots.taken(each) for each in "abc"] == [3, 1, 1]
        for task in greedy:
            task.cancel()
        await asyncio.gather(*greedy, return_exceptions=True)

    asyncio.run(main())


def test_tenants_take_turns() -> None:
    async def main() -> list[str]:
        slots = FairSlots(most=1, each=1, waiting=100)
        order: list[str] = []

        async def work(tenant: str) -> None:
            async with slots.slot(tenant):
                order.append(tenant)
                await settled()

        await slots.take("a")
        await slots.take("b")
        tasks = [asyncio.create_task(work(tenant)) for tenant in "aaabb"]
        await settled()
        slots.give("a")
        slots.give("b")
        await asyncio.gather(*tasks)
        assert len(slots) == 0
        return order

    order = asyncio.run(main())
    assert sorted(order) == list("aaabb")
    assert set(order[:2]) == {"a", "b"}


def test_who_waits_is_bounded_by_tenant() -> None:
    async def main() -> None:
        slots = FairSlots(most=1, each=1, waiting=2)
        await slots.take("a")
        waiting = [asyncio.create_task(slots.take("a")) for _ in range(2)]
        await settled()
        with pytest.raises(NoRoom, match="2 wait already"):
            await slots.take("a")
        await slots.take("b")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        slots.give("a")
        await asyncio.wait_for(slots.take("a"), 30)

    asyncio.run(main())


def test_a_wait_that_is_cancelled_loses_no_slot() -> None:
    async def main() -> None:
        slots = FairSlots(most=1, each=1, waiting=9)
        await slots.take("a")
        first, second = (asyncio.create_task(slots.take("a")) for _ in range(2))
        await settled()
        slots.give("a")
        first.cancel()  # as the slot is on its way
        await asyncio.wait([first, second], timeout=30)
        assert second.done()
        assert slots.taken("a") == 1

    asyncio.run(main())


def test_a_wait_that_is_cancelled_makes_room_for_another() -> None:
    async def main() -> None:
        slots = FairSlots(most=1, each=1, waiting=1)
        await slots.take("a")
        gone = asyncio.create_task(slots.take("a"))
        await settled()
        gone.cancel()
        await asyncio.wait([gone], timeout=30)
        next_one = asyncio.create_task(slots.take("a"))
        await settled()
        assert not next_one.done()
        slots.give("a")
        await asyncio.wait_for(next_one, 30)

    asyncio.run(main())


def test_slots_are_shared_by_event_loops() -> None:
    slots = FairSlots(most=1, each=1, waiting=9)
    taken, given = threading.Event(), threading.Event()

    async def hold() -> None:
        await slots.take("a")
        taken.set()
        while slots._waiting == {}:
            await asyncio.sleep(0.001)
        slots.give("a")

    async def wait() -> None:
        await asyncio.wait_for(slots.take("a"), 30)
        given.set()

    holder = threading.Thread(target=lambda: asyncio.run(hold()))
    holder.start()
    assert taken.wait(30)
    asyncio.run(wait())
    holder.join()
    assert given.is_set()
