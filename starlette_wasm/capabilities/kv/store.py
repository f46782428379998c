"""What a key/value store does, whatever it is built on."""

from __future__ import annotations

import hashlib
from typing import Protocol

from ..errors import CapabilityError, Code

MAX_KEY_BYTES = 512
MAX_VALUE_BYTES = 1 << 20
MAX_LIST = 1000
MAX_TTL_MS = 10 * 365 * 86_400_000
INT64 = range(-(1 << 63), 1 << 63)


class Store(Protocol):
    """Keys are UTF-8, in the order of their bytes. A key whose time to live is over is not there.

    All raise CapabilityError: STORE_FULL, UNAVAILABLE, and what is named below.
    """

    async def open(self) -> None:
        """Raise ConfigError."""

    async def close(self) -> None: ...

    async def get(self, namespace: str, key: bytes) -> bytes | None: ...

    async def set(self, namespace: str, key: bytes, value: bytes, ttl_ms: int | None) -> None:
        """Set the value. Without ``ttl_ms`` an earlier expiry ends, too."""

    async def delete(self, namespace: str, key: bytes) -> bool:
        """Delete the key, and return whether it was there."""

    async def keys(self, namespace: str, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        """Return at most ``limit`` keys, from the first one behind ``after``."""

    async def increment(self, namespace: str, key: bytes, by: int) -> int:
        """Add to a number in decimal digits of 64 bits, 0 if there is none. Its time to live goes on.

        Raises NOT_A_NUMBER, also if the sum has no place in 64 bits.
        """

    async def compare_and_set(
        self, namespace: str, key: bytes, expected: str | None, value: bytes, ttl_ms: int | None
    ) -> bool:
        """Set it if the value has the etag ``expected``, or if there is none for None."""


def etag(value: bytes) -> str:
    """Stand for a value in compare-and-set; opaque to guests.

    SHA-1 since a Lua script of Redis has no other: who makes two values collide only deceives himself.
    """
    return hashlib.sha1(value, usedforsecurity=False).hexdigest()


def unreadable(what: str) -> CapabilityError:
    """Make an error for what others wrote into the store."""
    return CapabilityError(Code.UNAVAILABLE, f"kv store holds {what}, which was not written by kv.*")
