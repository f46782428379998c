"""Key/value. A time to live is in milliseconds, None for ever. All raise EdgeError."""

from __future__ import annotations

from dataclasses import dataclass

from .host import Operation, call


@dataclass(frozen=True)
class Entry:
    """A value; ``etag`` stands for it in ``compare_and_set``."""

    value: bytes
    etag: str


@dataclass(frozen=True)
class Page:
    """Some of the keys; ``cursor`` is for the next ones, None behind the last."""

    keys: list[str]
    cursor: str | None


def get(namespace: str, key: str) -> Entry | None:
    result, body = call(Operation.KV_GET, namespace=namespace, key=key)
    return Entry(body, result["etag"]) if result["found"] else None


def set(namespace: str, key: str, value: bytes | str, *, ttl_ms: int | None = None) -> str:
    """Keep a value, and return its etag."""
    result, _ = call(Operation.KV_SET, value, namespace=namespace, key=key, ttlMs=ttl_ms)
    return str(result["etag"])


def delete(namespace: str, key: str) -> bool:
    """Return whether it was there."""
    return bool(call(Operation.KV_DELETE, namespace=namespace, key=key)[0]["deleted"])


def list_keys(namespace: str, prefix: str = "", *, cursor: str | None = None, limit: int | None = None) -> Page:
    result, _ = call(Operation.KV_LIST, namespace=namespace, prefix=prefix, cursor=cursor, limit=limit)
    return Page(result["keys"], result["cursor"])


def increment(namespace: str, key: str, by: int = 1) -> int:
    """Return the sum."""
    return int(call(Operation.KV_INCREMENT, namespace=namespace, key=key, by=by)[0]["value"])


def compare_and_set(
    namespace: str, key: str, etag: str | None, value: bytes | str, *, ttl_ms: int | None = None
) -> str | None:
    """Keep a value if the one before still has the etag, or if there is none for None. Return its etag, else None."""
    result, _ = call(Operation.KV_CAS, value, namespace=namespace, key=key, etag=etag, ttlMs=ttl_ms)
    return str(result["etag"]) if result["swapped"] else None
