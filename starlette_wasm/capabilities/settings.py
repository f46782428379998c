"""What the operator sets for all guests; what a single guest may do is in its policy."""

from __future__ import annotations

from dataclasses import dataclass

SOCKETS_PART = 4
"""One in so many of the descriptors of the process may be an outbound connection, in use or idle."""


@dataclass(frozen=True, slots=True)
class CapabilitySettings:
    """Sizes are in bytes.

    ``kv_url`` and ``queue_url``: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite://`` (in memory,
    for one process), ``redis://``, ``rediss://`` or ``unix://``; ``queue_url`` also ``nats://`` or ``tls://``.
    """

    kv_url: str = "sqlite:///starlette-wasm-kv.db"
    queue_url: str = "sqlite:///starlette-wasm-queue.db"
    redis_prefix: str = "starlette-wasm"
    """Prefix of names in Redis and NATS."""
    max_calls: int = 1000
    """Calls of one invocation, the refused ones included."""
    max_bytes: int = 64 << 20
    """Bytes that may cross in one invocation, in both directions together."""
    max_fetch_response_bytes: int = 8 << 20
    max_store_bytes: int = 1 << 30
    """Size of each SQLite file, all namespaces or queues together."""
    max_namespace_bytes: int = 64 << 20
    """Quota of each key/value namespace in SQLite: its values, its keys twice, and 128 for each key."""
    max_queue_bytes: int = 64 << 20
    """Quota of each queue in SQLite: its messages, their attributes, and 128 for each message."""
    max_queue_length: int = 100_000
    """Messages that a queue in Redis (roughly) or NATS keeps; the oldest go first."""
