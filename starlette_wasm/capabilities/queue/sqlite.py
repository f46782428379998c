"""A queue as an outbox: a table of a SQLite file, which consumers claim from and acknowledge."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..sqlite import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    body BLOB NOT NULL,
    attributes TEXT NOT NULL,
    created INTEGER NOT NULL,
    claimed_until INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS outbox_queue ON outbox (queue, id);
"""
_FREE = """
SELECT id, queue, body, attributes, created, attempts + 1 FROM outbox
WHERE queue = ? AND claimed_until <= ? ORDER BY id LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Message:
    """``created`` is in seconds since the epoch, ``attempts`` how often it was claimed, this time included."""

    id: int
    queue: str
    body: bytes
    attributes: dict[str, str]
    created: float
    attempts: int


class SqliteOutbox:
    """Guests publish; a consumer of the app, in this process or another, claims messages and acknowledges them.

    At least once: what is not acknowledged within its lease is handed out again, in order.
    """

    def __init__(self, path: Path | None, *, max_bytes: int = 1 << 30) -> None:
        self._database = Database(path, _SCHEMA, max_bytes=max_bytes, durable=True, key="queue_url", what="queue")

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def publish(self, queue: str, body: bytes, attributes: Mapping[str, str]) -> str:
        row = (queue, body, json.dumps(dict(attributes)), _now())

        def job(connection: sqlite3.Connection) -> int | None:
            query = "INSERT INTO outbox (queue, body, attributes, created) VALUES (?, ?, ?, ?)"
            return connection.execute(query, row).lastrowid

        return str(await self._database.run(job))

    async def claim(self, queue: str, *, limit: int = 10, lease: float = 30.0) -> list[Message]:
        """The oldest messages that nobody has, for ``lease`` seconds."""

        def job(connection: sqlite3.Connection) -> list[tuple[int, str, bytes, str, int, int]]:
            now = _now()
            rows = connection.execute(_FREE, (queue, now, limit)).fetchall()
            connection.executemany(
                "UPDATE outbox SET claimed_until = ?, attempts = attempts + 1 WHERE id = ?",
                [(now + round(lease * 1000), row[0]) for row in rows],
            )
            return rows

        return [
            Message(id, name, body, json.loads(attributes), created / 1000, attempts)
            for id, name, body, attributes, created, attempts in await self._database.run(job)
        ]

    async def ack(self, messages: Iterable[Message]) -> int:
        """Delete what is done with. How many there were: one whose lease ran out, and that another has, stays."""
        done = [(message.id, message.attempts) for message in messages]
        query = "DELETE FROM outbox WHERE id = ? AND attempts = ?"
        return await self._database.run(lambda connection: connection.executemany(query, done).rowcount)

    async def release(self, messages: Iterable[Message]) -> int:
        """Give back what could not be done, before its lease runs out."""
        back = [(message.id, message.attempts) for message in messages]
        query = "UPDATE outbox SET claimed_until = 0 WHERE id = ? AND attempts = ?"
        return await self._database.run(lambda connection: connection.executemany(query, back).rowcount)


def _now() -> int:
    return time.time_ns() // 1_000_000
