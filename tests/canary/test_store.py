"""Both backends, for real; two stores on one URL stand for two workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from apps import run

from starlette_wasm.canary.backends import open_store
from starlette_wasm.canary.store import Batch, Store
from starlette_wasm.capabilities import CapabilityError
from starlette_wasm.exceptions import ConfigError


@asynccontextmanager
async def opened(*urls: str) -> AsyncIterator[list[Store]]:
    stores = [open_store(url) for url in urls]
    for store in stores:
        await store.open()
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


def test_counts_of_all_workers_add_up_and_each_batch_counts_once(url: str) -> None:
    async def main() -> None:
        async with opened(url, url) as stores:
            assert await stores[0].swap("f", 0, "a record", 1)

            async def work(worker: int) -> None:
                for number in range(1, 21):
                    batch = Batch(1, "2", number, {"ok": 1, "b7": worker})
                    for _ in range(2):  # the answer to the first was lost
                        await stores[worker % 2].add("f", f"worker {worker}", batch)

            await asyncio.gather(*map(work, range(1, 5)))
            for store in stores:
                reading = await store.read("f")
                assert (reading.revision, reading.record) == (1, "a record")
                assert reading.counts == {(1, "2"): {"ok": 80, "b7": 200}}
                assert (await store.read("g")).record is None

    run(main())


def test_of_many_who_swap_one_wins(url: str) -> None:
    async def main() -> None:
        async with opened(url, url) as stores:
            for revision in range(3):
                swaps = [store.swap("f", revision, f"{revision} {at}", 1) for at, store in enumerate(stores * 4)]
                won = await asyncio.gather(*swaps)
                assert sum(won) == 1
                reading = await stores[0].read("f")
                assert (reading.revision, reading.record) == (revision + 1, f"{revision} {won.index(True)}")

    run(main())


def test_counts_of_the_observation_before_stay_and_older_ones_go(url: str) -> None:
    async def main() -> None:
        async with opened(url) as [store]:
            for epoch in (1, 2, 3):
                assert await store.swap("f", epoch - 1, "", epoch)
                for version in ("1", "2"):
                    await store.add("f", "w", Batch(epoch, version, 2 * epoch + int(version), {"ok": epoch}))
            await store.add("f", "late", Batch(1, "1", 1, {"ok": 1}))
            counts = (await store.read("f")).counts
            assert counts == {(epoch, version): {"ok": epoch} for epoch in (2, 3) for version in ("1", "2")}

    run(main())


def test_one_holds_the_lease_until_it_expires_or_is_given_back(url: str) -> None:
    async def main() -> None:
        async with opened(url, url) as [one, other]:
            token = await one.lease("f", "one", 60)
            assert token is not None
            assert await one.lease("f", "one", 60) == token
            assert await other.lease("f", "other", 60) is None
            assert await other.lease("g", "other", 60) is not None
            await other.release("f", "other")
            assert await other.lease("f", "other", 60) is None
            await one.lease("f", "one", 0.001)
            while (after := await other.lease("f", "other", 60)) is None:
                await asyncio.sleep(0.01)
            assert after > token
            await other.release("f", "other")
            assert (await one.lease("f", "one", 60) or 0) > after

    run(main())


def test_who_has_lost_the_lease_decides_nothing(url: str) -> None:
    async def main() -> None:
        async with opened(url) as [store]:
            old = await store.lease("f", "one", 60)
            await store.release("f", "one")
            new = await store.lease("f", "other", 60)
            assert not await store.swap("f", 0, "by the old one", 1, old)
            assert await store.swap("f", 0, "by the new one", 1, new)
            assert await store.swap("f", 1, "by hand", 1)
            assert (await store.read("f")).record == "by hand"

    run(main())


def test_the_clock_goes_on(url: str) -> None:
    async def main() -> None:
        async with opened(url) as [store]:
            before = (await store.read("f")).now
            await asyncio.sleep(0.02)
            assert 0.02 <= (await store.read("f")).now - before < 60

    run(main())


def test_a_lost_backend_is_a_capability_error() -> None:
    async def main() -> None:
        async with opened("redis://127.0.0.1:1/0") as [store]:
            with pytest.raises(CapabilityError, match="canary store is not available"):
                await store.read("f")

    run(main())


@pytest.mark.parametrize("url", ["sqlite:///nowhere/at/all.db", "postgres://x", "redis://x:port"])
def test_a_url_that_cannot_be_used_names_the_setting(url: str) -> None:
    async def main() -> None:
        async with opened(url):
            pass

    with pytest.raises(ConfigError, match="canary_url"):
        run(main())
