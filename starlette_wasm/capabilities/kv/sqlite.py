"""Key/value in a SQLite file."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

from ..errors import CapabilityError, Code
from ..space import ROW_BYTES, QuotaFull, Space
from ..sqlite import Database
from .store import INT64, MAX_KEY_BYTES, MAX_VALUE_BYTES, etag, unreadable

T = TypeVar("T")

# The value comes last: what stands behind a large one is costly to read.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS kv (
    namespace TEXT NOT NULL,
    key BLOB NOT NULL,
    expires INTEGER,
    value BLOB NOT NULL,
    UNIQUE (namespace, key)
);
CREATE INDEX IF NOT EXISTS kv_expires ON kv (expires) WHERE expires IS NOT NULL;
CREATE INDEX IF NOT EXISTS kv_expired ON kv (namespace, expires) WHERE expires IS NOT NULL;
"""
_SIZE = f"2 * length({{row}}.key) + length({{row}}.value) + {ROW_BYTES}"
_PUT = """
INSERT INTO kv (namespace, key, value, expires) VALUES (?, ?, ?, ?)
ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, expires = excluded.expires
"""
_ALIVE = "(expires IS NULL OR expires > ?)"
_VALUE = f"""
SELECT CASE WHEN typeof(value) = 'blob' AND length(value) <= {MAX_VALUE_BYTES} THEN value END
FROM kv WHERE namespace = ? AND key = ? AND {_ALIVE} LIMIT 1
"""
_COUNTER = f"""
SELECT CASE WHEN typeof(value) = 'blob' AND length(value) <= 20 THEN value ELSE x'' END, expires
FROM kv WHERE namespace = ? AND key = ? AND {_ALIVE} AND typeof(expires) IN ('integer', 'null') LIMIT 1
"""
_OURS = f"length(value) <= {MAX_VALUE_BYTES}"
_EXPIRED = f"SELECT rowid, length(value) FROM kv WHERE expires <= ? AND {_OURS} LIMIT ?"
_EXPIRED_OF = f"SELECT rowid, length(value) FROM kv WHERE namespace = ? AND expires <= ? AND {_OURS} LIMIT ?"
_REAP_ROWS, _REAP_BYTES = 16, 1 << 20
"""Expired rows that a write removes of its own namespace: more than it may leave."""
_SWEEP_ROWS, _SWEEP_SECONDS = 200, 1.0
_SCAN_ROWS = 100
"""Rows that a list reads in one turn, if fewer are asked for."""
_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


def _now() -> int:
    return time.time_ns() // 1_000_000


class SqliteStore:
    def __init__(self, path: Path | None, *, max_bytes: int, max_namespace_bytes: int) -> None:
        self._space = Space("kv", "namespace", "namespace, key, value", _SIZE, "kv namespace", max_namespace_bytes)
        schema = _SCHEMA + self._space.schema
        self._database = Database(path, schema, max_bytes=max_bytes, durable=False, key="kv_url", what="kv store")
        self._swept = 0.0

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def get(self, namespace: str, key: bytes) -> bytes | None:
        return await self._database.read(lambda connection: _get(connection, namespace, key))

    async def set(self, namespace: str, key: bytes, value: bytes, ttl_ms: int | None) -> None:
        await self._write(namespace, lambda at: self._put(at, namespace, key, value, _end(ttl_ms)))

    async def delete(self, namespace: str, key: bytes) -> bool:
        def job(connection: sqlite3.Connection) -> bool:
            query = f"SELECT 1 FROM kv WHERE namespace = ? AND key = ? AND {_ALIVE} LIMIT 1"
            there = connection.execute(query, (namespace, key, _now())).fetchone() is not None
            connection.execute("DELETE FROM kv WHERE namespace = ? AND key = ?", (namespace, key))
            return there

        return await self._database.run(job)

    async def keys(self, namespace: str, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < limit:
            rows = max(limit - len(found), _SCAN_ROWS)
            batch = await self._scan(namespace, prefix, after, rows)
            found += [key for key, alive in batch if alive]
            if len(batch) < rows:
                break
            after = batch[-1][0]
            self._sweep_soon()
        return found[:limit]

    async def increment(self, namespace: str, key: bytes, by: int) -> int:
        def job(connection: sqlite3.Connection) -> int:
            value, expires = connection.execute(_COUNTER, (namespace, key, _now())).fetchone() or (b"0", None)
            if not _NUMBER.fullmatch(value):
                raise CapabilityError(Code.NOT_A_NUMBER, "the value is not an integer of 64 bits")
            total = int(value) + by
            if int(value) not in INT64 or total not in INT64:
                raise CapabilityError(Code.NOT_A_NUMBER, "the sum is not an integer of 64 bits")
            self._put(connection, namespace, key, b"%d" % total, expires)
            return total

        return await self._write(namespace, job)

    async def compare_and_set(
        self, namespace: str, key: bytes, expected: str | None, value: bytes, ttl_ms: int | None
    ) -> bool:
        def job(connection: sqlite3.Connection) -> bool:
            current = _get(connection, namespace, key)
            if (None if current is None else etag(current)) != expected:
                return False
            self._put(connection, namespace, key, value, _end(ttl_ms))
            return True

        return await self._write(namespace, job)

    async def _scan(self, namespace: str, prefix: bytes, after: bytes, rows: int) -> list[tuple[bytes, bool]]:
        """Return the next keys, expired ones too, each with whether it is alive."""
        first, start = (">", after) if after >= prefix else (">=", prefix)
        # Keys are UTF-8, which has no byte 0xff: the prefix and it end behind every key with the prefix.
        query = (
            f"SELECT key, {_ALIVE} FROM kv WHERE namespace = ? AND key {first} ? AND key < ? "
            f"AND length(key) <= {MAX_KEY_BYTES} ORDER BY key LIMIT ?"
        )
        arguments = (_now(), namespace, start, prefix + b"\xff", rows)
        batch = await self._database.read(lambda at: at.execute(query, arguments).fetchall())
        last = after
        for key, _ in batch:
            if not isinstance(key, bytes) or (key <= last and last):
                raise unreadable("keys that are not in order")
            last = key
        return batch

    async def _write(self, namespace: str, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``job``; if there is no room, what is expired of its namespace makes some, in transactions of its own."""
        self._sweep_soon()

        def work(connection: sqlite3.Connection) -> T:
            _reap(_EXPIRED_OF, (namespace, _now(), _REAP_ROWS), connection)
            return job(connection)

        while True:
            try:
                return await self._database.run(work)
            except QuotaFull:
                if not (await self._database.run(partial(_reap, _EXPIRED_OF, (namespace, _now(), _SWEEP_ROWS))))[0]:
                    raise

    def _sweep_soon(self) -> None:
        """Remove what is expired in all namespaces: once a second, or on and on while there is more."""
        if time.monotonic() - self._swept >= _SWEEP_SECONDS:
            self._swept = time.monotonic()
            self._database.later("sweep", self._sweep)

    def _sweep(self, connection: sqlite3.Connection) -> None:
        if _reap(_EXPIRED, (_now(), _SWEEP_ROWS), connection)[1]:
            self._database.later("sweep", self._sweep)

    def _put(
        self, connection: sqlite3.Connection, namespace: str, key: bytes, value: bytes, expires: int | None
    ) -> None:
        query = f"SELECT {_SIZE.format(row='kv')} FROM kv WHERE namespace = ? AND key = ? LIMIT 1"
        before = connection.execute(query, (namespace, key)).fetchone()
        size = 2 * len(key) + len(value) + ROW_BYTES
        self._space.check(connection, namespace, size - (before[0] if before else 0))
        connection.execute(_PUT, (namespace, key, value, expires))


def _get(connection: sqlite3.Connection, namespace: str, key: bytes) -> bytes | None:
    row = connection.execute(_VALUE, (namespace, key, _now())).fetchone()
    if row is None:
        return None
    if not isinstance(row[0], bytes):
        raise unreadable("a value of another kind or size")
    return row[0]


def _reap(query: str, given: tuple[str | int, ...], connection: sqlite3.Connection) -> tuple[int, bool]:
    """Remove the rows that ``query`` finds, about a mebibyte of them; how many, and whether there may be more."""
    rows = connection.execute(query, given).fetchall()
    if not rows:
        return 0, False
    sizes = accumulate(size for _, size in rows)
    some = [(row,) for (row, _), size in zip(rows, sizes, strict=True) if size <= _REAP_BYTES] or [rows[0][:1]]
    connection.executemany("DELETE FROM kv WHERE rowid = ?", some)
    return len(some), len(some) < len(rows) or len(rows) == given[-1]


def _end(ttl_ms: int | None) -> int | None:
    return None if ttl_ms is None else _now() + ttl_ms
