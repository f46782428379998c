"""Key/value in a SQLite file."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path

from ..errors import CapabilityError, Code
from ..sqlite import Database
from .store import INT64, etag

_SCHEMA = """
CREATE TABLE IF NOT EXISTS kv (
    namespace TEXT NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    expires INTEGER,
    UNIQUE (namespace, key)
);
CREATE INDEX IF NOT EXISTS kv_expires ON kv (expires) WHERE expires IS NOT NULL;
"""
_PUT = """
INSERT INTO kv (namespace, key, value, expires) VALUES (?, ?, ?, ?)
ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, expires = excluded.expires
"""
_ALIVE = "(expires IS NULL OR expires > ?)"
_REAP = "DELETE FROM kv WHERE rowid IN (SELECT rowid FROM kv WHERE expires <= ? LIMIT ?)"
_REAP_ROWS, _REAP_SECONDS = 500, 1.0
_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


def _now() -> int:
    return time.time_ns() // 1_000_000


class SqliteStore:
    def __init__(self, path: Path | None, *, max_bytes: int) -> None:
        self._database = Database(path, _SCHEMA, max_bytes=max_bytes, durable=False, key="kv_url", what="kv store")
        self._reaped = 0.0

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def get(self, namespace: str, key: bytes) -> bytes | None:
        return await self._database.read(lambda connection: _get(connection, namespace, key))

    async def set(self, namespace: str, key: bytes, value: bytes, ttl_ms: int | None) -> None:
        def job(connection: sqlite3.Connection) -> None:
            self._reap(connection)
            _put(connection, namespace, key, value, ttl_ms)

        await self._database.run(job)

    async def delete(self, namespace: str, key: bytes) -> bool:
        def job(connection: sqlite3.Connection) -> bool:
            there = _get(connection, namespace, key) is not None
            connection.execute("DELETE FROM kv WHERE namespace = ? AND key = ?", (namespace, key))
            return there

        return await self._database.run(job)

    async def keys(self, namespace: str, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        # Keys are UTF-8, which has no byte 0xff: the prefix and it end behind every key with the prefix.
        query = (
            f"SELECT key FROM kv WHERE namespace = ? AND key >= ? AND key < ? AND key > ? AND {_ALIVE} "
            "ORDER BY key LIMIT ?"
        )
        arguments = (namespace, prefix, prefix + b"\xff", after, _now(), limit)
        return await self._database.read(lambda connection: [key for (key,) in connection.execute(query, arguments)])

    async def increment(self, namespace: str, key: bytes, by: int) -> int:
        def job(connection: sqlite3.Connection) -> int:
            self._reap(connection)
            query = f"SELECT value, expires FROM kv WHERE namespace = ? AND key = ? AND {_ALIVE}"
            value, expires = connection.execute(query, (namespace, key, _now())).fetchone() or (b"0", None)
            if not _NUMBER.fullmatch(value):
                raise CapabilityError(Code.NOT_A_NUMBER, "the value is no integer of 64 bits")
            total = int(value) + by
            if int(value) not in INT64 or total not in INT64:
                raise CapabilityError(Code.NOT_A_NUMBER, "the sum is no integer of 64 bits")
            connection.execute(_PUT, (namespace, key, b"%d" % total, expires))
            return total

        return await self._database.run(job)

    async def compare_and_set(
        self, namespace: str, key: bytes, expected: str | None, value: bytes, ttl_ms: int | None
    ) -> bool:
        def job(connection: sqlite3.Connection) -> bool:
            self._reap(connection)
            current = _get(connection, namespace, key)
            if (None if current is None else etag(current)) != expected:
                return False
            _put(connection, namespace, key, value, ttl_ms)
            return True

        return await self._database.run(job)

    def _reap(self, connection: sqlite3.Connection) -> None:
        """Before a write, once a second at most: make room."""
        if time.monotonic() - self._reaped >= _REAP_SECONDS:
            connection.execute(_REAP, (_now(), _REAP_ROWS))
            self._reaped = time.monotonic()


def _get(connection: sqlite3.Connection, namespace: str, key: bytes) -> bytes | None:
    query = f"SELECT value FROM kv WHERE namespace = ? AND key = ? AND {_ALIVE}"
    row = connection.execute(query, (namespace, key, _now())).fetchone()
    return None if row is None else bytes(row[0])


def _put(connection: sqlite3.Connection, namespace: str, key: bytes, value: bytes, ttl_ms: int | None) -> None:
    connection.execute(_PUT, (namespace, key, value, None if ttl_ms is None else _now() + ttl_ms))
