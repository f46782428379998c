"""Queues."""

from __future__ import annotations

from collections.abc import Mapping

from .host import Operation, call


def publish(queue: str, body: bytes | str, attributes: Mapping[str, str] | None = None) -> str:
    """Return the id of the message. Raises EdgeError."""
    result, _ = call(Operation.QUEUE_PUBLISH, body, queue=queue, attributes=dict(attributes or {}))
    return str(result["id"])
