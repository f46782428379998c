"""Waiting for a task that was cancelled."""

from __future__ import annotations

import asyncio

import pytest

from starlette_wasm.sync.cancel_and_wait import cancel_and_wait


async def stubborn(release: asyncio.Event) -> None:
    """Ends only when it may, cancelled or not."""
    while not release.is_set():
        try:
            await release.wait()
        except asyncio.CancelledError:
            continue


def test_a_cancelled_task_is_waited_for() -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(600))
        await asyncio.sleep(0)
        await cancel_and_wait(task)
        assert task.cancelled()

    asyncio.run(main())


def test_what_a_task_raised_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("sent to nobody")

    async def main() -> None:
        task = asyncio.create_task(fails())
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="sent to nobody"):
            await cancel_and_wait(task)

    asyncio.run(main())


def test_whoever_waits_can_be_cancelled() -> None:
    async def main() -> None:
        release = asyncio.Event()
        task = asyncio.create_task(stubborn(release))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(cancel_and_wait(task))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        release.set()
        await task

    asyncio.run(main())
