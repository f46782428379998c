"""One at a time, whatever event loop they run on."""

from __future__ import annotations

import asyncio
import threading

import pytest
from apps import eventually, run

from starlette_wasm.sync.fair_lock import FairLock


def test_tasks_of_several_loops_run_one_at_a_time() -> None:
    turns, inside, most, done = FairLock(), 0, 0, 0
    begin = threading.Barrier(3)

    async def worker() -> None:
        nonlocal inside, most, done
        for _ in range(50):
            async with turns:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1
                done += 1

    async def workers() -> None:
        begin.wait(30)
        await asyncio.gather(*(worker() for _ in range(4)))

    threads = [threading.Thread(target=run, args=(workers(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, done) == (1, 600)


def test_they_come_in_their_order_and_who_is_cancelled_takes_no_turn() -> None:
    async def main() -> None:
        turns, came = FairLock(), list[int]()

        async def come(number: int) -> None:
            async with turns:
                came.append(number)

        async with turns:
            tasks = [asyncio.create_task(come(number)) for number in range(4)]
            await eventually(lambda: len(turns._waiting) == 4)
            tasks[1].cancel()
            await asyncio.wait([tasks[1]])
        tasks[0].cancel()  # it has been given the turn, and does not know yet
        await asyncio.gather(*tasks[2:])
        assert came == [2, 3]
        async with turns:
            pass

    run(main())


def test_a_cancelled_waiter_leaves_the_queue() -> None:
    async def main() -> None:
        turns = FairLock()

        async def come() -> None:
            async with turns:
                pass

        async with turns:
            tasks = [asyncio.create_task(come()) for _ in range(100)]
            await eventually(lambda: len(turns._waiting) == 100)
            for task in tasks[:99]:
                task.cancel()
            await asyncio.wait(tasks[:99])
            assert len(turns._waiting) == 1
        await tasks[99]

    run(main())


def test_an_error_ends_a_turn_and_a_loop_that_was_closed_gets_none() -> None:
    turns = FairLock()

    async def fails() -> None:
        async with turns:
            raise KeyError

    with pytest.raises(KeyError):
        run(fails())

    async def holds() -> None:
        async with turns:
            loop = asyncio.new_event_loop()

            async def waits() -> None:
                async with turns:
                    pytest.fail("nobody runs this loop")

            task = loop.create_task(waits())
            loop.call_soon(loop.stop)
            await asyncio.to_thread(loop.run_forever)
            loop.close()
            kept.append(task)

    kept: list[asyncio.Task[None]] = []
    run(holds())
    run(holds())
    for task in kept:
        task.get_coro().close()  # type: ignore[union-attr]
        task._log_destroy_pending = False  # type: ignore[attr-defined]
