"""What takes the messages of guests, whatever it is built on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..backends import check_redis, is_nats, sqlite_path
from ..settings import CapabilitySettings

MAX_MESSAGE_BYTES = 1 << 20
MAX_ATTRIBUTES = 32
MAX_ATTRIBUTE_BYTES = 1024


class Publisher(Protocol):
    async def open(self) -> None:
        """Raise ConfigError."""

    async def close(self) -> None: ...

    async def publish(self, queue: str, body: bytes, attributes: Mapping[str, str]) -> str:
        """Publish it, and return its id. Raises CapabilityError: STORE_FULL, UNAVAILABLE."""


def open_publisher(settings: CapabilitySettings) -> Publisher:
    """Make the publisher of ``queue_url``, not opened yet. Raises ConfigError."""
    path = sqlite_path(settings.queue_url, "queue_url")
    if path is not False:
        from .sqlite import SqliteOutbox

        return SqliteOutbox(path, max_bytes=settings.max_store_bytes, max_queue_bytes=settings.max_queue_bytes)
    if is_nats(settings.queue_url, "queue_url"):
        from .nats import NatsQueue

        return NatsQueue(settings.queue_url, prefix=settings.redis_prefix, max_length=settings.max_queue_length)
    check_redis(settings.queue_url, "queue_url")
    from .redis import RedisStreams

    return RedisStreams(settings.queue_url, prefix=settings.redis_prefix, max_length=settings.max_queue_length)
