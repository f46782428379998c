"""Queues that guests publish to."""

from .actions import QueueActions, QueueGrant
from .publisher import MAX_MESSAGE_BYTES, Publisher, open_publisher
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
