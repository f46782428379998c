"""Which key/value store a URL names."""

from __future__ import annotations

from ..backends import check_redis, sqlite_path
from ..settings import CapabilitySettings
from .store import Store


def open_store(settings: CapabilitySettings) -> Store:
    """Return the store that ``kv_url`` names, not opened yet. Raises ConfigError."""
    path = sqlite_path(settings.kv_url, "kv_url")
    if path is not False:
        from .sqlite import SqliteStore

        quota = settings.max_namespace_bytes
        return SqliteStore(path, max_bytes=settings.max_store_bytes, max_namespace_bytes=quota)
    check_redis(settings.kv_url, "kv_url")
    from .redis import RedisStore

    return RedisStore(settings.kv_url, prefix=settings.redis_prefix)
