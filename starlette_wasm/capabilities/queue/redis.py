"""A queue as a Redis stream: ``starlette-wasm:queue:NAME``, entries with ``body`` and ``attributes`` (JSON).

Consumers read it with ``XREADGROUP``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..redis import RedisClient


class RedisStreams:
    def __init__(self, url: str, *, prefix: str, max_length: int) -> None:
        self._client = RedisClient(url, what="queue")
        self._prefix = f"{prefix}:queue:"
        self._max_length = max_length

    async def open(self) -> None:
        """Do nothing: connections are made at first use, and Redis may come up later than the app."""

    async def close(self) -> None:
        await self._client.close()

    async def publish(self, queue: str, body: bytes, attributes: Mapping[str, str]) -> str:
        fields = ("body", body, "attributes", json.dumps(dict(attributes)))
        name = self._prefix + queue
        id: bytes = await self._client.command("XADD", name, "MAXLEN", "~", self._max_length, "*", *fields)
        return id.decode()
