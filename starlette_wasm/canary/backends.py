"""Which canary store a URL names."""

from __future__ import annotations

from ..capabilities.backends import check_redis, sqlite_path
from .store import KEY, Store


def open_store(url: str) -> Store:
    """Return the store that a URL names, not opened yet. Raises ConfigError."""
    path = sqlite_path(url, KEY)
    if path is not False:
        from .sqlite import SqliteStore

        return SqliteStore(path)
    check_redis(url, KEY)
    from .redis import RedisStore

    return RedisStore(url)
