"""What ends a wait early, and what it must not end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from starlette_wasm.sync.cancel_scope import CancelScope, CancelScopes, Interrupted, Why


def test_a_client_that_leaves_in_the_very_turn_in_which_the_body_ends_cancels_nothing_later() -> None:
    async def main() -> str:
        on_disconnect: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def leaves() -> None:
            await on_disconnect

        async with CancelScope(CancelScopes(), leaves):
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(on_disconnect.set_result, None)
            asyncio.get_running_loop().call_soon(done.set_result, None)
            await done
        for _ in range(5):
            await asyncio.sleep(0)
        return "not cancelled"

    assert asyncio.run(main()) == "not cancelled"


def test_all_blocks_of_a_group_end_when_it_is_interrupted() -> None:
    async def main() -> list[Why]:
        group = CancelScopes()

        async def block() -> Why:
            with pytest.raises(Interrupted) as caught:
                async with CancelScope(group, None):
                    await asyncio.sleep(60)
            return caught.value.why

        tasks = [asyncio.create_task(block()) for _ in range(3)]
        await asyncio.sleep(0)
        group.interrupt(Why.CLOSING)
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [Why.CLOSING] * 3


def test_a_block_that_fails_while_it_is_interrupted_leaves_no_cancellation_behind() -> None:
    async def main() -> None:
        group = CancelScopes()

        async def fails() -> None:
            async with CancelScope(group, None):
                group.interrupt(Why.CLOSING)
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    raise ZeroDivisionError from None

        with pytest.raises(ZeroDivisionError):
            await fails()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(main())


def test_an_interruption_that_comes_too_late_hides_no_other_cancellation() -> None:
    async def main() -> bool:
        group = CancelScopes()

        async def block() -> None:
            async with CancelScope(group, None):
                await asyncio.sleep(60)

        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        task.cancel()  # the task's turn comes before what the other thread asks for
        other = threading.Thread(target=group.interrupt, args=(Why.CLOSING,))
        other.start()
        other.join(30)
        await asyncio.wait([task], timeout=30)
        return task.cancelled()

    assert asyncio.run(main())
