"""A queue as an outbox: a table of a SQLite file, which consumers claim from and acknowledge."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zlib import crc32

from ..space import ROW_BYTES, Space
from ..sqlite import Database
from .publisher import MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES, MAX_MESSAGE_BYTES

logger = logging.getLogger("starlette_wasm")

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
_CLOCK_BITS = 42
"""Bits of ``claimed_until`` that hold milliseconds of the machine's monotonic clock, which no clock that is set moves.
Those above are of this start of the machine: claims from before another one are over."""
_SIZE = f"length({{row}}.body) + length(CAST({{row}}.attributes AS BLOB)) + {ROW_BYTES}"
# An attribute of text takes six bytes for one, escaped, and some between them.
_FREE = f"""
SELECT id, queue, body, attributes, created, attempts + 1 FROM outbox
WHERE queue = ? AND (claimed_until >> {_CLOCK_BITS} <> ? OR claimed_until <= ?)
  AND typeof(body) = 'blob' AND length(body) <= {MAX_MESSAGE_BYTES}
  AND typeof(attributes) = 'text' AND length(attributes) <= {MAX_ATTRIBUTES * (6 * MAX_ATTRIBUTE_BYTES + 16)}
  AND typeof(created) = 'integer' AND typeof(attempts) = 'integer' AND typeof(claimed_until) = 'integer'
ORDER BY id LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Message:
    """A claimed message. ``created`` is in seconds since the epoch; ``attempts`` counts its claims, with this one."""

    id: int
    queue: str
    body: bytes
    attributes: dict[str, str]
    created: float
    attempts: int


class SqliteOutbox:
    """Guests publish; a consumer of the app, in this process or another, claims messages and acknowledges them.

    At least once: what is not acknowledged within its lease is handed out again, in order. Rows that this class cannot
    have written are passed over.
    """

    def __init__(self, path: Path | None, *, max_bytes: int = 1 << 30, max_queue_bytes: int = 64 << 20) -> None:
        self._space = Space("outbox", "queue", "queue, body, attributes", _SIZE, "queue", max_queue_bytes)
        schema = _SCHEMA + self._space.schema
        self._database = Database(path, schema, max_bytes=max_bytes, durable=True, key="queue_url", what="queue")

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def publish(self, queue: str, body: bytes, attributes: Mapping[str, str]) -> str:
        text = json.dumps(dict(attributes))
        row = (queue, body, text, _now())

        def job(connection: sqlite3.Connection) -> int | None:
            self._space.check(connection, queue, len(body) + len(text) + ROW_BYTES)
            query = "INSERT INTO outbox (queue, body, attributes, created) VALUES (?, ?, ?, ?)"
            return connection.execute(query, row).lastrowid

        return str(await self._database.run(job))

    async def claim(self, queue: str, *, limit: int = 10, lease: float = 30.0) -> list[Message]:
        """Claim the oldest messages that nobody has, for ``lease`` seconds."""

        def job(connection: sqlite3.Connection) -> list[tuple[int, str, bytes, str, int, int]]:
            boot, now = _boot(), time.monotonic_ns() // 1_000_000
            rows = connection.execute(_FREE, (queue, boot, boot << _CLOCK_BITS | now, limit)).fetchall()
            until = boot << _CLOCK_BITS | now + round(lease * 1000)
            connection.executemany(
                "UPDATE outbox SET claimed_until = ?, attempts = attempts + 1 WHERE id = ?",
                [(until, row[0]) for row in rows],
            )
            return rows

        rows = await self._database.run(job)
        return [message for row in rows if (message := _message(*row)) is not None]

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


def _message(id: int, queue: str, body: bytes, attributes: str, created: int, attempts: int) -> Message | None:
    try:
        fields = json.loads(attributes)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not all(isinstance(each, str) for each in fields.values()):
        logger.warning("message %d of queue %s has attributes that are none, and is passed over", id, queue)
        return None
    return Message(id, queue, body, fields, created / 1000, attempts)


@cache
def _boot() -> int:
    """Return a number of this start of the machine, from 1 to a million; always 1 if the system has no id of it."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as stream:
            return 1 + crc32(stream.read()) % 1_000_000
    except OSError:
        return 1


def _now() -> int:
    return time.time_ns() // 1_000_000
