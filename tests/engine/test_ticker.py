"""The ticker, and who looks after it."""

from __future__ import annotations

import asyncio

from starlette_wasm.engine import ticker
from starlette_wasm.engine.engine import Engine, EngineConfig


def test_one_chain_of_looks_is_left(monkeypatch) -> None:
    """However often a busy loop begins another before the first has looked."""
    monkeypatch.setattr(ticker, "REST_AFTER", 0.001)
    engine = Engine(EngineConfig(max_instances=10))
    looks: list[object] = []
    look = ticker.Ticker._look

    def counted(self: ticker.Ticker, loop: asyncio.AbstractEventLoop, *chain: object) -> None:
        looks.append(None)
        look(self, loop, *chain)

    monkeypatch.setattr(ticker.Ticker, "_look", counted)

    async def main() -> None:
        engine.state.live += 1  # so that it does not rest
        for _ in range(5):
            engine.state.starts_until_check = 0
            engine.ticker.ensure_armed()
        monkeypatch.setattr(ticker, "REST_AFTER", 3600)
        while len(looks) < 5:
            await asyncio.sleep(0.01)
        timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert sum(each.when() > 1800 + asyncio.get_running_loop().time() for each in timers) == 1
        engine.state.live -= 1

    asyncio.run(main())
    engine.ticker.rest()
