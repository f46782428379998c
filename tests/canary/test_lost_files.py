"""A store's file that is deleted, a clock that was wrong, and URLs of Redis that cannot work."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from starlette_wasm.canary.backends import open_store
from starlette_wasm.canary.sqlite import SqliteStore
from starlette_wasm.capabilities.backends import check_redis
from starlette_wasm.exceptions import ConfigError


@pytest.mark.parametrize("replaced", [False, True])
def test_a_deleted_file_is_noticed_at_the_next_read(tmp_path: Path, replaced: bool) -> None:
    async def main() -> None:
        path = tmp_path / "canary.db"
        one, other = SqliteStore(path), SqliteStore(path)
        assert await one.swap("f", 0, "old", 1)
        for file in tmp_path.glob("canary.db*"):
            file.unlink()
        if replaced:
            assert await other.swap("f", 0, "new", 1)
        assert (await one.read("f")).record == ("new" if replaced else None)
        assert await one.swap("f", 1 if replaced else 0, "newer", 1)
        assert (await other.read("f")).record == "newer"
        await one.close()
        assert (await other.read("f")).record == "newer"
        await other.close()

    asyncio.run(main())


def test_a_lease_from_a_wrong_clock_ends(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "canary.db"
        store = SqliteStore(path)
        await store.open()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO lease VALUES ('f', 'killed', 7, ?)", (time.time() + 3600,))
        assert await store.lease("f", "me", 10) == 8
        assert await store.lease("f", "other", 10) is None
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis+sentinel://h:26379/mymaster", "Redis Sentinel, which is not supported; name one server"),
        ("redis-cluster://h:7000", "Redis Cluster, which is not supported"),
        ("redis://a:7000,b:7001/0", "names several hosts"),
    ],
)
def test_sentinel_and_cluster_are_refused(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match="canary_url") as caught:
        check_redis(url, "canary_url")
    assert problem.split(";")[0] in str(caught.value)


def test_valkey_is_redis(flushed_redis: str) -> None:
    async def main() -> None:
        store = open_store(flushed_redis.replace("redis://", "valkey://"))
        await store.open()
        assert (await store.read("f")).record is None
        await store.close()

    asyncio.run(main())


def test_a_wrong_password_is_said_at_start(flushed_redis: str) -> None:
    async def main() -> None:
        store = open_store(flushed_redis.replace("redis://", "redis://nobody:wrong@"))
        with pytest.raises(ConfigError, match=r"canary_url.*refuses the user or password"):
            await store.open()
        await store.close()

    asyncio.run(main())
