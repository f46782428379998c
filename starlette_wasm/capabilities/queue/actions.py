"""The operation ``queue.publish``: fields in, grant checked, message handed over, id out."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import CapabilityError, Code, printable
from ..fields import Fields, bad_field
from .publisher import MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES, MAX_MESSAGE_BYTES, Publisher


@dataclass(frozen=True, slots=True)
class QueueGrant:
    queues: frozenset[str]

    def check(self, queue: str) -> None:
        if queue not in self.queues:
            raise CapabilityError(Code.QUEUE_NOT_ALLOWED, f"queue not allowed: {printable(queue)}")


class QueueActions:
    """Carries out the operation ``queue.publish``. ``publish()`` raises CapabilityError."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher

    @staticmethod
    def check(grant: QueueGrant, fields: Fields, size: int) -> None:
        """Raise CapabilityError for a queue that is not granted, and a message of that size if it is too large."""
        grant.check(fields.peek("queue"))
        if size > MAX_MESSAGE_BYTES:
            raise CapabilityError(Code.TOO_LARGE, f"message too large: at most {MAX_MESSAGE_BYTES} bytes")

    async def publish(self, grant: QueueGrant, fields: Fields, body: bytes) -> tuple[dict[str, object], bytes]:
        self.check(grant, fields, len(body))
        queue = fields.text("queue")
        attributes = fields.texts("attributes")
        fields.done()
        if len(attributes) > MAX_ATTRIBUTES or len(dict(attributes)) < len(attributes):
            raise bad_field("attributes", f"has more than {MAX_ATTRIBUTES}, or one name twice")
        if any(len(name.encode()) + len(value.encode()) > MAX_ATTRIBUTE_BYTES for name, value in attributes):
            raise bad_field("attributes", f"has one of more than {MAX_ATTRIBUTE_BYTES} bytes")
        return {"id": await self.publisher.publish(queue, body, dict(attributes))}, b""
