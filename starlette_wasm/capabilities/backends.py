"""Which backend a URL names."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from ..exceptions import ConfigError

_REDIS = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")
_PRIMARY = "name one server, such as redis://host:6379/0: the primary, or a proxy that leads to it"
_NATS = ("nats://", "tls://")


def _hint(key: str) -> str:
    urls = "sqlite:///file.db, sqlite:////absolute/file.db, sqlite:// (in memory) or redis://host:port/0"
    return f"set STARLETTE_WASM_{key.upper()}, or {key}=, to {urls}"


def without_secrets(url: str) -> str:
    """Return a URL that can be shown: without who logs in, and without options."""
    return re.sub(r"//[^/]*@", "//", url.partition("?")[0])


def sqlite_path(url: str, key: str) -> Path | Literal[False] | None:
    """Return the file of a ``sqlite:`` URL, None for memory, False for another URL. Raises ConfigError."""
    if not url.startswith("sqlite:"):
        return False
    if url in ("sqlite://", "sqlite:///:memory:"):
        return None
    path = url.removeprefix("sqlite:///")
    if path == url or not path or any(each in path for each in "?#\0"):
        raise ConfigError(f"{url!r} names no file", key=key, hint=_hint(key))
    return Path(path)


def without_making(url: str, key: str) -> str:
    """Return the URL; one in memory instead if it is of a file that would be made. Raises ConfigError."""
    file = sqlite_path(url, key)
    return "sqlite://" if file and not file.exists() and os.access(file.parent, os.W_OK | os.X_OK) else url


def is_nats(url: str, key: str) -> bool:
    """Raise ConfigError if its client is missing, and for a URL without a host."""
    if not url.startswith(_NATS):
        return False
    if find_spec("nats") is None:
        raise ConfigError("needs the NATS client", key=key, hint="run pip install 'starlette-wasm[nats]'")
    if not urlsplit(url).hostname:
        raise ConfigError(f"{url!r} names no host", key=key, hint="use for example nats://host:4222")
    return True


def has_redis(url: str) -> bool:
    """Return whether it is a URL of Redis, and its client is there."""
    return url.startswith(_REDIS) and find_spec("redis") is not None


def redis_url(url: str) -> str:
    """Return the URL as Redis' client knows it: ``valkey://`` is the same protocol."""
    return re.sub(r"\Avalkey(s?)://", r"redis\1://", url)


def check_redis(url: str, key: str) -> None:
    """Raise ConfigError for what is not a URL of Redis, and if its client is missing."""
    scheme = url.partition(":")[0]
    for kind in ("sentinel", "cluster"):
        if kind in scheme:
            raise ConfigError(f"is of a Redis {kind.title()}, which is not supported", key=key, hint=_PRIMARY)
    if url.startswith(_REDIS) and "," in urlsplit(url).netloc:
        raise ConfigError("names several hosts; Redis Sentinel and Cluster are not supported", key=key, hint=_PRIMARY)
    if not url.startswith(_REDIS):
        raise ConfigError(f"has the unknown scheme {url.partition(':')[0]!r}", key=key, hint=_hint(key))
    if find_spec("redis") is None:
        raise ConfigError("needs the Redis client", key=key, hint="run pip install 'starlette-wasm[redis]'")
    from redis.asyncio.connection import parse_url

    try:
        parse_url(redis_url(url))
    except ValueError as error:
        raise ConfigError(f"is not a URL of Redis: {error}", key=key, hint=_hint(key)) from None
