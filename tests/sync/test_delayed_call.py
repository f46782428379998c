"""A call that many ask for is made once, a moment later, or at once if nobody can make it later."""

from __future__ import annotations

import asyncio

import pytest
from apps import eventually, run

from starlette_wasm.sync import delayed_call as module
from starlette_wasm.sync.delayed_call import DelayedCall


def test_many_who_ask_get_one_call() -> None:
    async def main() -> None:
        calls: list[None] = []
        later = DelayedCall(0.001, lambda: calls.append(None))
        for _ in range(9):
            later.schedule()
        assert not calls
        await eventually(lambda: calls)
        assert len(calls) == 1
        later.schedule()
        await eventually(lambda: len(calls) == 2)

    run(main())


def test_without_a_loop_it_is_called_at_once() -> None:
    calls: list[None] = []
    later = DelayedCall(3600, lambda: calls.append(None))
    later.schedule()
    assert len(calls) == 1


def test_a_loop_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = 0.0, []
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    later = DelayedCall(5, lambda: calls.append(now))

    async def ask() -> None:
        later.schedule()

    asyncio.run(ask())
    now = 5.5
    later.schedule()
    assert not calls
    now = 6.5
    asyncio.run(ask())
    assert calls == [6.5]


def test_nothing_waits_without_patience_or_after_a_fork() -> None:
    async def main() -> None:
        calls: list[None] = []
        later = DelayedCall(3600, lambda: calls.append(None))
        later.schedule()
        later.delays = False
        later.schedule()
        assert len(calls) == 1
        later.delays = True
        later.schedule()
        later.forget()
        later._seconds = 0.001
        later.schedule()
        await eventually(lambda: len(calls) == 2)

    run(main())
