"""What is waited for no longer than it may take."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from apps import config, run, settings
from starlette.applications import Starlette
from starlette.types import Message

from starlette_wasm import WasmMiddleware, WasmRuntime
from starlette_wasm.sync.timeout import within


class Late(Exception):
    pass


async def pause(seconds: float, *more: float) -> str:
    for each in (seconds, *more):
        await asyncio.sleep(each)
    return "done"


def test_what_ends_in_time_is_given_whether_it_waits_or_not() -> None:
    async def at_once() -> int:
        return 7

    async def main() -> None:
        assert await within(at_once(), 1, Late) == 7
        assert await within(pause(0, 0.01, 0, 0.01), 60_000, Late) == "done"
        assert await within(pause(0.02), 0, Late) == "done"

    run(main())


def test_its_own_errors_are_raised() -> None:
    async def fails(*waits: float) -> None:
        await pause(0, *waits)
        raise TimeoutError("its own")

    async def main() -> None:
        for waits in ((), (0.01,)):
            with pytest.raises(TimeoutError, match="its own"):
                await within(fails(*waits), 60_000, Late)

    run(main())


def test_what_takes_longer_is_cancelled_though_it_goes_on_and_on() -> None:
    seen = []

    async def drips() -> None:
        try:
            await pause(*[0.005] * 10_000)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main() -> None:
        with pytest.raises(Late, match="50"):
            await within(drips(), 50, Late)
        assert seen == ["cancelled"]

    run(main())


def test_a_cancellation_from_outside_is_one() -> None:
    async def main() -> None:
        async def waits() -> None:
            await within(pause(60), 60_000, Late)

        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_a_body_that_does_not_come_holds_up_no_shutdown(tmp_path: Path) -> None:
    async def main() -> None:
        async def receive() -> Message:
            await asyncio.sleep(60)
            raise AssertionError

        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async with WasmRuntime(config(tmp_path, {"/hello": "hello"}), settings(drain_timeout_ms=100)) as runtime:
            served = WasmMiddleware(Starlette(), runtime=runtime)
            scope = {"type": "http", "method": "POST", "path": "/hello", "headers": [(b"content-length", b"2")]}
            request = asyncio.create_task(served(scope, receive, send))
            await asyncio.sleep(0.05)
            runtime.drain()
            await asyncio.wait_for(request, 30)
        assert sent[0]["status"] == 503

    run(main())
