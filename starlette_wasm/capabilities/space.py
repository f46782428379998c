"""``Space``: how many bytes each namespace or queue takes in a SQLite file, counted by the file itself."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from .errors import CapabilityError, Code

ROW_BYTES = 128
"""What a row counts beside its values: its headers, and its places in the indexes."""


class QuotaFull(CapabilityError):
    def __init__(self, what: str, name: str, quota: int) -> None:
        super().__init__(Code.STORE_FULL, f"{what} {name} is full: it may have {quota} bytes")


@dataclass(frozen=True, slots=True)
class Space:
    """Counts the bytes of rows. ``size`` is the SQL for one row, with ``{row}`` before its columns, ``columns``.

    Triggers count, within the transaction that changes a row: the count is right whatever process writes or dies.
    """

    table: str
    name: str
    columns: str
    size: str
    what: str
    quota: int

    @property
    def schema(self) -> str:
        new, old, each = (self.size.format(row=row) for row in ("new", "old", "each"))
        add = f"INSERT INTO {self.table}_space VALUES (new.{self.name}, {new}) ON CONFLICT DO UPDATE SET bytes = bytes"
        add += " + excluded.bytes;"
        take = f"UPDATE {self.table}_space SET bytes = bytes - ({old}) WHERE name = old.{self.name};"
        trigger = f"CREATE TRIGGER IF NOT EXISTS {self.table}_space"
        return f"""
CREATE TABLE IF NOT EXISTS {self.table}_space (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
{trigger}_insert AFTER INSERT ON {self.table} BEGIN {add} END;
{trigger}_delete AFTER DELETE ON {self.table} BEGIN {take} END;
{trigger}_update AFTER UPDATE OF {self.columns} ON {self.table} BEGIN {take} {add} END;
INSERT INTO {self.table}_space SELECT {self.name}, SUM({each}) FROM {self.table} AS each
WHERE NOT EXISTS (SELECT 1 FROM {self.table}_space) GROUP BY {self.name};
"""

    def check(self, connection: sqlite3.Connection, name: str, growth: int) -> None:
        """Raise QuotaFull; what does not grow is always allowed."""
        if growth <= 0:
            return
        query = f"SELECT bytes FROM {self.table}_space WHERE name = ? AND typeof(bytes) = 'integer'"
        row = connection.execute(query, (name,)).fetchone()
        if (row[0] if row else 0) + growth > self.quota:
            raise QuotaFull(self.what, name, self.quota)
