"""Canaries in a SQLite file, for the workers of one machine."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from ..capabilities.sqlite import Database
from .store import KEY, Batch, Reading
from .untrusted_record import MAX_RECORD_BYTES, MAX_ROWS, read_count, read_epoch, read_revision, unreadable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS canary (
    function TEXT PRIMARY KEY, revision INTEGER NOT NULL, record TEXT NOT NULL, epoch INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (
    function TEXT PRIMARY KEY, holder TEXT NOT NULL, token INTEGER NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counted (
    function TEXT NOT NULL, epoch INTEGER NOT NULL, version TEXT NOT NULL, field TEXT NOT NULL, value INTEGER NOT NULL,
    PRIMARY KEY (function, epoch, version, field)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch (
    function TEXT NOT NULL, epoch INTEGER NOT NULL, version TEXT NOT NULL, worker TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (function, epoch, version, worker)
) WITHOUT ROWID;
"""


def _number(column: str) -> str:
    return f"CASE typeof({column}) WHEN 'integer' THEN {column} END"


def _text(column: str, most: str) -> str:
    """Select bytes, so that text which is not UTF-8 comes out, too; NULL for what is longer or of another type."""
    octets = f"CAST({column} AS BLOB)"
    return f"CASE WHEN typeof({column}) = 'text' AND length({octets}) <= {most} THEN {octets} END"


_READ = f"""
SELECT 0, {_number("revision")}, {_text("record", ":bytes")}, NULL, {_number("epoch")}
FROM canary WHERE function = :function
UNION ALL
SELECT 1, {_number("counted.epoch")}, {_text("version", "256")}, {_text("field", "256")}, {_number("value")}
FROM counted
WHERE function = :function
  AND counted.epoch >= (SELECT epoch - 1 FROM canary WHERE function = :function)
LIMIT :rows
"""
_NUMBER = """
INSERT INTO batch VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET number = excluded.number WHERE excluded.number > batch.number
"""
_ADD = """
INSERT INTO counted VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value
"""
_LEASE = """
INSERT INTO lease VALUES (:function, :holder, 1, :expires)
ON CONFLICT DO UPDATE
SET token = token + (holder <> excluded.holder), holder = excluded.holder, expires = excluded.expires
WHERE holder = excluded.holder OR lease.expires < :now OR lease.expires > :most
RETURNING token
"""
_MAX_LEASE = 60.0
"""Seconds: a lease that is to last longer is one of before the machine was started."""
_MAX_BYTES = 256 << 20


class SqliteStore:
    """A canary store in a SQLite file. Its clock is that of the machine."""

    def __init__(self, path: Path | None) -> None:
        self._database = Database(path, _SCHEMA, max_bytes=_MAX_BYTES, durable=True, key=KEY, what="canary store")

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def read(self, function: str) -> Reading:
        given = {"function": function, "rows": MAX_ROWS, "bytes": MAX_RECORD_BYTES}
        rows = await self._database.read(lambda at: at.execute(_READ, given).fetchall())
        if len(rows) == MAX_ROWS:
            raise unreadable(f"there are {MAX_ROWS} counts or more")
        revision, record = 0, None
        counts: dict[tuple[int, str], dict[str, int]] = {}
        for kind, number, text, field, value in rows:
            if kind == 0:
                read_epoch(value)
                revision, record = read_revision(number), _decode("record", text)
            else:
                name, count = read_count(_decode("count", field), value)
                counts.setdefault((read_epoch(number), _decode("version", text)), {})[name] = count
        return Reading(time.time(), revision, record, counts)

    async def add(self, function: str, worker: str, batch: Batch) -> None:
        key = (function, batch.epoch, batch.version)

        def job(connection: sqlite3.Connection) -> None:
            if connection.execute(_NUMBER, (*key, worker, batch.number)).rowcount:
                connection.executemany(_ADD, [(*key, field, value) for field, value in batch.counts.items()])

        await self._database.run(job)

    async def lease(self, function: str, holder: str, seconds: float) -> int | None:
        def job(connection: sqlite3.Connection) -> int | None:
            now = time.monotonic()  # of the machine, for all of its processes; no clock that is set moves it
            given = {
                "function": function,
                "holder": holder,
                "now": now,
                "expires": now + seconds,
                "most": now + _MAX_LEASE,
            }
            row = connection.execute(_LEASE, given).fetchone()
            return None if row is None else int(row[0])

        return await self._database.run(job)

    async def release(self, function: str, holder: str) -> None:
        def job(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE lease SET expires = 0 WHERE function = ? AND holder = ?", (function, holder))

        await self._database.run(job)

    async def swap(self, function: str, revision: int, record: str, epoch: int, token: int | None = None) -> bool:
        def job(connection: sqlite3.Connection) -> bool:
            if token is not None:
                current = connection.execute("SELECT token FROM lease WHERE function = ?", (function,)).fetchone()
                if current is None or current[0] != token:
                    return False
            if revision:
                query = "UPDATE canary SET revision = revision + 1, record = ?, epoch = ? WHERE function = ?"
                done = connection.execute(f"{query} AND revision = ?", (record, epoch, function, revision)).rowcount
            else:
                query = "INSERT INTO canary VALUES (?, 1, ?, ?) ON CONFLICT DO NOTHING"
                done = connection.execute(query, (function, record, epoch)).rowcount
            if done:
                for table in ("counted", "batch"):
                    connection.execute(f"DELETE FROM {table} WHERE function = ? AND epoch < ?", (function, epoch - 1))
            return bool(done)

        return await self._database.run(job)


def _decode(name: str, octets: bytes | None) -> str:
    if octets is None:
        raise unreadable(f"its {name} is too long, or not text", name)
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise unreadable(f"its {name} is not UTF-8", name) from None
