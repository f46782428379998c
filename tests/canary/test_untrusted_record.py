"""Records and counts that others wrote into a canary store."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from apps import run

from starlette_wasm.canary.backends import open_store
from starlette_wasm.canary.record import Record
from starlette_wasm.canary.status import Status
from starlette_wasm.canary.store import Batch
from starlette_wasm.canary.untrusted_record import MAX_EPOCH, MAX_RECORD_BYTES
from starlette_wasm.capabilities import CapabilityError

RECORD = Record("1", "2", Status.RUNNING, 5, 3, 10.0, 9.0, 10.0, "started", digest="a" * 64)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stable", 1),
        ("stable", "1\n2026 ERROR forged"),
        ("canary", "x" * 1000),
        ("status", "running away"),
        ("status", []),
        ("percent", 101),
        ("percent", True),
        ("percent", "5"),
        ("epoch", MAX_EPOCH + 1),
        ("epoch", 1e300),
        ("epoch", 0),
        ("since", "now"),
        ("since", float("nan")),
        ("started", float("inf")),
        ("changed", None),
        ("reason", {}),
        ("looks", {"count": -1, "samples": 0}),
        ("looks", []),
        ("baseline", [1, 2]),
        ("baseline", 7),
        ("past", [["1"]]),
        ("past", [["1", "2"]] * 1000),
        ("digest", None),
        ("digest", "g" * 64),
        ("replaced", [0]),
        ("surplus", 1),
    ],
)
def test_an_odd_field_is_refused_and_named(field: str, value: Any) -> None:
    text = json.dumps(json.loads(RECORD.dump()) | {field: value})
    with pytest.raises(CapabilityError) as caught:
        Record.load(text)
    where = "" if field == "surplus" else f" ({field})"
    assert caught.value.message == f"the record cannot be read{where}"
    assert field in str(caught.value.detail) or field == "surplus"
    assert "\n" not in str(caught.value.detail)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "[" * 100_000, " " * (MAX_RECORD_BYTES + 1)])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(CapabilityError, match="cannot be read"):
        Record.load(text)


def test_a_reason_forges_no_line_of_the_log() -> None:
    text = json.dumps(json.loads(RECORD.dump()) | {"reason": "good\n2026-01-01 CRITICAL forged\x1b[2J"})
    assert Record.load(text).reason.isprintable()
    assert Record.load(RECORD.dump()) == RECORD


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE canary SET epoch = 1e300",
        "UPDATE canary SET epoch = 0",
        "UPDATE canary SET revision = 'x'",
        "UPDATE canary SET record = x'00ff'",
        "UPDATE canary SET record = zeroblob(64000000)",
        "UPDATE canary SET record = CAST(x'7bff7d' AS TEXT)",
        "UPDATE canary SET record = hex(zeroblob(1000000))",
        "UPDATE canary SET epoch = hex(zeroblob(1000000))",
        "UPDATE counted SET value = 'many'",
        "UPDATE counted SET value = -1",
        "UPDATE counted SET field = 'b99999999'",
        "UPDATE counted SET field = 'other'",
    ],
)
def test_an_odd_row_of_sqlite_harms_its_function_alone(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "canary.db"

    async def main() -> None:
        store = open_store(f"sqlite:///{path}")
        await store.open()
        for function in ("f", "g"):
            assert await store.swap(function, 0, RECORD.dump(), 3)
            await store.add(function, "w", Batch(3, "2", 1, {"ok": 1}))
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"{statement} WHERE function = 'f'")
        connection.close()
        with pytest.raises(CapabilityError):
            await store.read("f")
        assert (await store.read("g")).counts == {(3, "2"): {"ok": 1}}
        await store.close()

    run(main())


def test_an_endless_view_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "canary.db"

    async def main() -> None:
        store = open_store(f"sqlite:///{path}")
        await store.open()
        assert await store.swap("f", 0, RECORD.dump(), 3)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executescript("""
                DROP TABLE counted;
                CREATE VIEW counted AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                SELECT printf('%d', i) AS function, i AS epoch, '2' AS version, 'ok' AS field, 1 AS value FROM n;
            """)
        connection.close()
        async with asyncio.timeout(60):
            with pytest.raises(CapabilityError, match="not available"):
                await store.read("f")
            assert await store.lease("f", "w", 5) == 1
        await store.close()

    run(main())


@pytest.mark.parametrize(
    "command",
    [
        ["HSET", "{f}", "epoch", "inf"],
        ["HSET", "{f}", "epoch", "1e300"],
        ["HSET", "{f}", "epoch", "-1000000000000000"],
        ["HSET", "{f}", "epoch", "99999999999999999999"],
        ["HSET", "{f}", "revision", "x"],
        ["HSET", "{f}", "record", "x" * (MAX_RECORD_BYTES + 1)],
        ["HSET", "{f}", "record", b"\xff"],
        ["HSET", "{f}:3:2", "ok", "many"],
        ["HSET", "{f}:3:2", "b1", "x" * 5_000_000],
        ["SADD", "{f}:3", *[str(each) for each in range(50)]],
        ["SET", "{f}", "plain"],
    ],
)
def test_an_odd_key_of_redis_harms_its_function_alone(flushed_redis: str, command: list[str | bytes]) -> None:
    from redis import Redis

    async def main() -> None:
        store = open_store(flushed_redis)
        for function in ("f", "g"):
            assert await store.swap(function, 0, RECORD.dump(), 3)
            await store.add(function, "w", Batch(3, "2", 1, {"ok": 1}))
        name = str(command[1])
        with Redis.from_url(flushed_redis) as redis:
            redis.execute_command(command[0], f"starlette-wasm:canary:{name}", *command[2:])
        async with asyncio.timeout(60):
            with pytest.raises(CapabilityError):
                await store.read("f")
            assert (await store.read("g")).counts == {(3, "2"): {"ok": 1}}
        await store.close()

    run(main())


@pytest.mark.parametrize("epoch", ["-1000000000000000", "1e300", "-inf", "nan", "x"])
def test_a_foreign_epoch_makes_no_endless_script(flushed_redis: str, epoch: str) -> None:
    from redis import Redis

    async def main() -> None:
        store = open_store(flushed_redis)
        assert await store.swap("f", 0, RECORD.dump(), 3)
        with Redis.from_url(flushed_redis) as redis:
            redis.hset("starlette-wasm:canary:{f}", "epoch", epoch)
        async with asyncio.timeout(60):
            assert await store.swap("f", 1, RECORD.dump(), 4)
        assert (await store.read("f")).record == RECORD.dump()
        await store.close()

    run(main())
