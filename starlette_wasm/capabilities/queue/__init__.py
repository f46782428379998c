"""Queues that guests publish to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .actions import QueueActions, QueueGrant
from .publisher import MAX_MESSAGE_BYTES, Publisher, open_publisher

if TYPE_CHECKING:
    from .sqlite import Message, SqliteOutbox

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Message",
    "Publisher",
    "QueueActions",
    "QueueGrant",
    "SqliteOutbox",
    "open_publisher",
]


def __getattr__(name: str) -> object:
    """Import the outbox's names late, as they bring sqlite3 with them: most apps grant no queue."""
    if name in ("Message", "SqliteOutbox"):
        from . import sqlite

        return getattr(sqlite, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
