"""Key/value stores and queues in memory, whose content a test can set and look at."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from ..capabilities import CapabilityError, Code
from ..capabilities.kv.store import INT64, etag


@dataclass(frozen=True, slots=True)
class Message:
    """A message that a guest published."""

    body: bytes
    attributes: dict[str, str]

    def json(self) -> Any:
        """Return the body, read as JSON."""
        import json

        return json.loads(self.body)


class KvSpace(MutableMapping[str, bytes]):
    """One namespace: what is in it now, by key. Strings that are set become UTF-8."""

    def __init__(self) -> None:
        self._entries: dict[bytes, tuple[bytes, float | None]] = {}

    def __getitem__(self, key: str) -> bytes:
        found = self.find(key.encode())
        if found is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key: str, value: bytes | str) -> None:
        self.put(key.encode(), value.encode() if isinstance(value, str) else value, None)

    def __delitem__(self, key: str) -> None:
        if self.find(key.encode()) is None:
            raise KeyError(key)
        del self._entries[key.encode()]

    def __iter__(self) -> Iterator[str]:
        return iter([key.decode() for key in self.alive()])

    def __len__(self) -> int:
        return len(self.alive())

    def __repr__(self) -> str:
        return repr(dict(self))

    def find(self, key: bytes) -> bytes | None:
        """Return the value, if there is one whose time is not over."""
        value, ends = self._entries.get(key, (None, None))
        return None if ends is not None and ends <= time.monotonic() else value

    def put(self, key: bytes, value: bytes, ends: float | None) -> None:
        """Set a value; ``ends`` is on time.monotonic()."""
        self._entries[key] = (value, ends)

    def ends(self, key: bytes) -> float | None:
        """Return when the time of a key is over, on time.monotonic(); None: never."""
        return self._entries.get(key, (b"", None))[1]

    def drop(self, key: bytes) -> bool:
        """Remove a key. Return whether it was there."""
        there = self.find(key) is not None
        self._entries.pop(key, None)
        return there

    def alive(self) -> list[bytes]:
        """Return the keys in the order of their bytes."""
        return sorted(key for key in self._entries if self.find(key) is not None)


class MemoryKv:
    """A key/value store of guests, over namespaces in memory."""

    def __init__(self, spaces: MutableMapping[str, KvSpace]) -> None:
        self._spaces = spaces

    async def open(self) -> None:
        """Do nothing: there is nothing to open."""

    async def close(self) -> None:
        """Do nothing: a test looks at it afterwards."""

    async def get(self, namespace: str, key: bytes) -> bytes | None:
        return self._spaces[namespace].find(key)

    async def set(self, namespace: str, key: bytes, value: bytes, ttl_ms: int | None) -> None:
        self._spaces[namespace].put(key, value, _end(ttl_ms))

    async def delete(self, namespace: str, key: bytes) -> bool:
        return self._spaces[namespace].drop(key)

    async def keys(self, namespace: str, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        found = self._spaces[namespace].alive()
        return [key for key in found if key.startswith(prefix) and key > after][:limit]

    async def increment(self, namespace: str, key: bytes, by: int) -> int:
        space = self._spaces[namespace]
        value = space.find(key)
        try:
            total = int(value or b"0") + by
        except ValueError:
            raise CapabilityError(Code.NOT_A_NUMBER, "the value is not an integer of 64 bits") from None
        if total not in INT64:
            raise CapabilityError(Code.NOT_A_NUMBER, "the sum is not an integer of 64 bits")
        space.put(key, b"%d" % total, None if value is None else space.ends(key))
        return total

    async def compare_and_set(
        self, namespace: str, key: bytes, expected: str | None, value: bytes, ttl_ms: int | None
    ) -> bool:
        space = self._spaces[namespace]
        current = space.find(key)
        if (None if current is None else etag(current)) != expected:
            return False
        space.put(key, value, _end(ttl_ms))
        return True


def _end(ttl_ms: int | None) -> float | None:
    return None if ttl_ms is None else time.monotonic() + ttl_ms / 1000


class MemoryQueues:
    """Takes the messages of guests, and keeps them by queue."""

    def __init__(self, queues: MutableMapping[str, list[Message]]) -> None:
        self._queues = queues

    async def open(self) -> None:
        """Do nothing: there is nothing to open."""

    async def close(self) -> None:
        """Do nothing: a test looks at it afterwards."""

    async def publish(self, queue: str, body: bytes, attributes: Mapping[str, str]) -> str:
        messages = self._queues[queue]
        messages.append(Message(body, dict(attributes)))
        return str(len(messages))
