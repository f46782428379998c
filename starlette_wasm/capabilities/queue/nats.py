"""A queue as a subject of NATS JetStream: ``starlette-wasm.queue.NAME``, attributes as JSON in a header.

The stream is made if it is missing; consumers make theirs on it. A dot of the name that a subject cannot hold is
written ``%2E``. A server takes 1 MB in a message, header and body together, unless its ``max_payload`` is greater.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping

import nats
from nats.aio.client import Client
from nats.errors import Error
from nats.js.api import PubAck, StreamConfig

from ...sync.fair_queue import NoRoom
from ...sync.per_loop import PerLoop
from ..errors import CapabilityError, Code
from ..tenant import busy, store_slots, tenant

ATTRIBUTES = "Starlette-Wasm-Attributes"
_SECONDS = 5
_HEAD = 64
"""Bytes that a header takes beside its value, and some to spare."""
_EMPTY_TOKEN = re.compile(r"\.(?=\.|\Z)")


class _Connection:
    """A connection to NATS, made at first use, and anew if it was lost: the server may come up later than the app."""

    def __init__(self, url: str, stream: StreamConfig) -> None:
        self._url = url
        self._stream = stream
        self._client: Client | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> Client:
        async with self._lock:
            if self._client is None or not self._client.is_connected:
                await self.close()
                # Nothing is sent twice, so that nothing is kept for later either: no reconnecting in the background.
                client = await nats.connect(
                    self._url,
                    error_cb=_silent,
                    connect_timeout=_SECONDS,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,  # of the first connection; 0 would be for ever
                    reconnect_time_wait=0,
                )
                try:
                    await self._check(client)
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client

    async def _check(self, client: Client) -> None:
        """Make the stream, or raise if the name or the subjects belong to another one."""
        made = await client.jetstream(timeout=_SECONDS).add_stream(self._stream)
        if made.config.subjects != self._stream.subjects:
            detail = f"the stream {self._stream.name} has the subjects {made.config.subjects}"
            raise CapabilityError(Code.UNAVAILABLE, "queue is not available", detail=detail)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


async def _silent(error: Exception) -> None:
    """Ignore an error of the connection: the call that needs the connection raises."""


class NatsQueue:
    """Publishes to JetStream."""

    def __init__(self, url: str, *, prefix: str, max_length: int) -> None:
        self._prefix = f"{prefix}.queue."
        self._stream = f"{prefix}-queue"
        self._slots = store_slots()
        stream = StreamConfig(name=self._stream, subjects=[f"{self._prefix}>"], max_msgs_per_subject=max_length)
        self._connections = PerLoop(lambda: _Connection(url, stream), _Connection.close)

    async def open(self) -> None:
        """Do nothing: the connection is made at first use."""

    async def close(self) -> None:
        await self._connections.close()

    async def publish(self, queue: str, body: bytes, attributes: Mapping[str, str]) -> str:
        subject = self._prefix + _EMPTY_TOKEN.sub("%2E", queue)
        headers = {ATTRIBUTES: json.dumps(dict(attributes))}
        try:
            async with self._slots.slot(tenant.get()):
                acknowledged = await self._send(subject, body, headers)
        except NoRoom as error:
            raise busy("queue") from error
        except (Error, OSError, TimeoutError) as error:
            raise CapabilityError(Code.UNAVAILABLE, "queue is not available", detail=str(error)) from error
        return str(acknowledged.seq)

    async def _send(self, subject: str, body: bytes, headers: dict[str, str]) -> PubAck:
        client = await (await self._connections.get()).get()
        if len(body) + len(headers[ATTRIBUTES]) + _HEAD > client.max_payload:
            raise CapabilityError(Code.TOO_LARGE, "message too large for the queue's server (max_payload)")
        return await client.jetstream(timeout=_SECONDS).publish(subject, body, stream=self._stream, headers=headers)
