"""One tenant beside another in a SQLite file, and what others write into one."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from capability_guest import Guest, capabilities

from starlette_wasm.capabilities import Capabilities
from starlette_wasm.capabilities.errors import CapabilityError
from starlette_wasm.capabilities.queue import SqliteOutbox
from starlette_wasm.capabilities.sqlite import Database
from starlette_wasm.capabilities.tenant import MAX_WAITING, tenant
from starlette_wasm.config.policy import SandboxPolicy

A = SandboxPolicy(kv_namespaces=["a"], queues=["a"])
B = SandboxPolicy(kv_namespaces=["b"], queues=["b"])
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

pytestmark = pytest.mark.anyio


def database(path: Path | None = None) -> Database:
    return Database(path, "", max_bytes=1 << 20, durable=False, key="kv_url", what="store")


async def as_tenant(name: str, store: Database, work: Callable[[sqlite3.Connection], object]) -> None:
    tenant.set(name)
    await store.read(work)


async def test_tenants_take_turns() -> None:
    store, order = database(), list[str]()

    def note(name: str, connection: sqlite3.Connection) -> None:
        order.append(name)
        time.sleep(0.002)

    await store.open()
    names = ["a"] * 50 + ["b"] * 3
    await asyncio.gather(*(as_tenant(name, store, partial(note, name)) for name in names))
    assert order.count("a") == 50
    assert max(place for place, name in enumerate(order) if name == "b") <= 8
    await store.close()


async def test_a_tenant_with_too_many_waiting_is_told() -> None:
    store = database()
    await store.open()
    running, release = threading.Event(), threading.Event()
    hold = asyncio.create_task(as_tenant("a", store, lambda connection: (running.set(), release.wait(30))))
    while not running.is_set():
        await asyncio.sleep(0.01)
    more = [asyncio.ensure_future(as_tenant("a", store, lambda connection: None)) for _ in range(MAX_WAITING + 5)]
    others = asyncio.ensure_future(as_tenant("b", store, lambda connection: None))
    while sum(each.done() for each in more) < 5:  # the refused ones are at once
        await asyncio.sleep(0.01)
    release.set()
    *results, other = await asyncio.gather(*more, others, return_exceptions=True)
    refused = [each for each in results if isinstance(each, CapabilityError)]
    assert other is None
    assert {each.message for each in refused} == {f"store is busy: {MAX_WAITING} calls of this function wait for it"}
    assert len(refused) == 5
    await hold
    await store.close()


async def test_a_query_ends_with_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starlette_wasm.capabilities.sqlite._LONGEST_SECONDS", 600)
    store = database()
    await store.open()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await store.read(lambda connection: connection.execute(ENDLESS).fetchone())
    assert await store.read(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    assert time.monotonic() - began < 60
    await store.close()


async def test_a_query_that_nobody_ends_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starlette_wasm.capabilities.sqlite._LONGEST_SECONDS", 0.1)
    store = database()
    with pytest.raises(CapabilityError, match="store is not available") as caught:
        await store.run(lambda connection: connection.execute(ENDLESS).fetchone())
    assert "a query took more than 2 s" in str(caught.value.detail)
    await store.close()


def held(file: Path, table: str) -> dict[str, int]:
    with closing(sqlite3.connect(file)) as connection, connection:
        return dict(connection.execute(f"SELECT name, bytes FROM {table}_space").fetchall())


def counted(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection, connection:
        query = "SELECT COALESCE(SUM(2 * length(key) + length(value) + 128), 0) FROM kv WHERE namespace = 'a'"
        return int(connection.execute(query).fetchone()[0])


async def fill(there: Capabilities, policy: SandboxPolicy, name: str) -> int:
    for i in range(30):
        header, _ = await Guest(there, policy)("kv.set", bytes(10_000), namespace=name, key=f"{i}")
        if not header["ok"]:
            assert header["error"] == {
                "code": "store-full",
                "message": f"kv namespace {name} is full: it may have 100000 bytes",
            }
            return i
    raise AssertionError("it is never full")


async def test_a_namespace_has_a_quota(tmp_path: Path) -> None:
    file = tmp_path / "kv.db"
    async with capabilities(kv_url=f"sqlite:///{file}", max_namespace_bytes=100_000) as there:
        assert await fill(there, A, "a") == 9
        assert await fill(there, B, "b") == 9
        guest = Guest(there, A)
        await guest.fields("kv.set", bytes(9_000), namespace="a", key="0")
        assert (await guest.error("kv.cas", bytes(20_000), namespace="a", key="n"))[0] == "store-full"
        await guest.fields("kv.set", b"5", namespace="a", key="1")
        await guest.fields("kv.delete", namespace="a", key="2")
        await guest.fields("kv.increment", namespace="a", key="n")
        await guest.fields("kv.set", bytes(10_000), namespace="a", key="2")
        assert held(file, "kv")["a"] == counted(file) > 70_000


async def test_what_is_expired_in_a_full_namespace_goes(tmp_path: Path) -> None:
    file = tmp_path / "kv.db"
    async with capabilities(kv_url=f"sqlite:///{file}", max_namespace_bytes=100_000) as there:
        guest = Guest(there, A)
        for i in range(300):
            await guest.fields("kv.set", bytes(150), namespace="a", key=f"{i}", ttlMs=300)
        await asyncio.sleep(0.35)
        await guest.fields("kv.set", bytes(90_000), namespace="a", key="big")
        assert held(file, "kv")["a"] == counted(file)


async def test_space_is_counted_in_an_older_file(tmp_path: Path) -> None:
    file = tmp_path / "kv.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE kv (namespace TEXT, key BLOB, value BLOB, expires, UNIQUE (namespace, key))")
        connection.execute("INSERT INTO kv VALUES ('a', x'00', zeroblob(95000), NULL)")
    async with capabilities(kv_url=f"sqlite:///{file}", max_namespace_bytes=100_000) as there:
        assert await fill(there, A, "a") == 0
        assert held(file, "kv") == {"a": counted(file)}


async def test_a_list_passes_over_many_expired_keys(tmp_path: Path) -> None:
    file = tmp_path / "kv.db"
    async with capabilities(kv_url=f"sqlite:///{file}") as there:
        guest = Guest(there, A)
        await guest.fields("kv.set", b"", namespace="a", key="z")
        with closing(sqlite3.connect(file)) as connection, connection:
            rows = [("a", b"k%04d" % i, 1) for i in range(3000)]
            connection.executemany("INSERT INTO kv (namespace, key, value, expires) VALUES (?, ?, x'', ?)", rows)
        assert await guest.fields("kv.list", namespace="a", limit=1) == {"keys": ["z"], "cursor": None}


async def test_expired_keys_of_others_go_in_time(tmp_path: Path) -> None:
    file = tmp_path / "kv.db"
    async with capabilities(kv_url=f"sqlite:///{file}") as there:
        guest = Guest(there, A)
        for i in range(500):
            await guest.fields("kv.set", b"", namespace="a", key=f"{i}", ttlMs=60_000)
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE kv SET expires = 1")
        for _ in range(100):
            await asyncio.sleep(0.05)
            await Guest(there, B).fields("kv.set", b"", namespace="b", key="k")
            if not counted(file):
                break
        assert counted(file) == 0


@pytest.mark.parametrize("value", ["500000000", "'text'", "zeroblob(1048577)", "zeroblob(9000000)", "1.5"])
async def test_a_value_of_others_is_an_error_of_its_key(tmp_path: Path, value: str) -> None:
    """An integer would become as many zeros."""
    file = tmp_path / "kv.db"
    async with capabilities(kv_url=f"sqlite:///{file}") as there:
        guest = Guest(there, A)
        await guest.fields("kv.set", b"1", namespace="a", key="k")
        await guest.fields("kv.set", b"1", namespace="a", key="good")
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(f"UPDATE kv SET value = {value} WHERE key = CAST('k' AS BLOB)")
        assert (await guest.error("kv.get", namespace="a", key="k"))[0] == "capability-unavailable"
        assert (await guest.error("kv.increment", namespace="a", key="k"))[0] == "not-a-number"
        assert (await guest("kv.get", namespace="a", key="good"))[1] == b"1"
        assert (await guest.fields("kv.list", namespace="a"))["keys"] == ["good", "k"]
        if "9000000" in value:  # not even SQLite reads it: who wrote it must delete it
            assert (await guest.error("kv.set", b"2", namespace="a", key="k"))[0] == "capability-unavailable"
            return
        await guest.fields("kv.set", b"2", namespace="a", key="k")
        assert (await guest("kv.get", namespace="a", key="k"))[1] == b"2"


async def test_an_endless_view_ends_with_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starlette_wasm.capabilities.sqlite._LONGEST_SECONDS", 600)
    file = tmp_path / "kv.db"
    async with capabilities(kv_url=f"sqlite:///{file}") as there:
        await Guest(there, A).fields("kv.set", b"1", namespace="a", key="k")
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.executescript("""
                DROP TABLE kv;
                CREATE VIEW kv AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                SELECT 'a' AS namespace, CAST(i AS BLOB) AS key, x'' AS value, NULL AS expires FROM n;
            """)
        for operation in ("kv.get", "kv.list"):
            began = time.monotonic()
            assert (await Guest(there, A, seconds=0.2).error(operation, namespace="a", **key_of(operation)))[
                0
            ] == "timeout"
            assert time.monotonic() - began < 60


def key_of(operation: str) -> dict[str, object]:
    return {"key": "k"} if operation == "kv.get" else {}


async def test_a_queue_has_a_quota(tmp_path: Path) -> None:
    file = tmp_path / "queue.db"
    async with capabilities(queue_url=f"sqlite:///{file}", max_queue_bytes=100_000) as there:
        guest, other = Guest(there, A), Guest(there, B)
        for _ in range(9):
            await guest.fields("queue.publish", bytes(10_000), queue="a", attributes={"é": "1"})
        refused = await guest.error("queue.publish", bytes(10_000), queue="a")
        assert refused == ("store-full", "queue a is full: it may have 100000 bytes")
        await other.fields("queue.publish", bytes(10_000), queue="b")
        outbox = SqliteOutbox(file)
        await outbox.ack(await outbox.claim("a", limit=5))
        assert held(file, "outbox")["a"] == 4 * (10_000 + len('{"\\u00e9": "1"}') + 128)
        await guest.fields("queue.publish", bytes(10_000), queue="a")
        await outbox.close()


@pytest.mark.parametrize(
    "change", ["body = 500000000", "body = zeroblob(2000000)", "attributes = '[1'", "created = 'x'"]
)
async def test_the_outbox_passes_over_rows_of_others(tmp_path: Path, change: str) -> None:
    outbox = SqliteOutbox(tmp_path / "queue.db")
    await outbox.publish("a", b"1", {})
    await outbox.publish("a", b"2", {"n": "2"})
    with closing(sqlite3.connect(tmp_path / "queue.db")) as connection, connection:
        connection.execute(f"UPDATE outbox SET {change} WHERE id = 1")
    assert [each.body for each in await outbox.claim("a")] == [b"2"]
    await outbox.close()


async def test_a_deleted_or_replaced_file_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "kv.db"
    async with capabilities(kv_url=f"sqlite:///{file}") as there:
        guest = Guest(there, A)
        for how in (Path.unlink, lambda path: path.rename(path.with_suffix(".old"))):
            await guest.fields("kv.set", b"1", namespace="a", key="k")
            how(file)
            for rest in ("-wal", "-shm"):
                Path(f"{file}{rest}").unlink(missing_ok=True)
            assert await guest.fields("kv.get", namespace="a", key="k") == {"found": False}
            assert file.exists()
