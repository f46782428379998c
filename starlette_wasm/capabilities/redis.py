"""A Redis client for each event loop."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoScriptError, OutOfMemoryError, RedisError

from ..exceptions import ConfigError
from ..sync.fair_queue import NoRoom
from ..sync.per_loop import PerLoop
from .backends import redis_url
from .errors import CapabilityError, Code
from .tenant import MAX_WAITING, busy, store_slots, tenant

logger = logging.getLogger("starlette_wasm")

_CONNECTIONS = 1 << 16
"""No bound: there are as many as slots."""
_SECONDS = 5.0
_CHECK_SECONDS = 2.0


class Script:
    """A Lua script: atomic, and sent once."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class RedisClient:
    """Raises CapabilityError. A command is never sent twice, since the first may have been carried out."""

    def __init__(self, url: str, *, what: str, waiting: int = MAX_WAITING) -> None:
        """Take ``waiting``, how many commands of one tenant may wait."""
        self._url = url
        self._what = what
        self._slots = store_slots(waiting)
        self._clients = PerLoop(self._make, Redis.aclose)

    def _make(self) -> Redis:
        pool = ConnectionPool.from_url(
            redis_url(self._url),
            max_connections=_CONNECTIONS,
            socket_timeout=_SECONDS,
            socket_connect_timeout=_SECONDS,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            decode_responses=False,
        )
        return Redis.from_pool(pool)

    async def check(self, key: str) -> None:
        """Raise ConfigError if the server refuses the user or password; it may be away, and come up later."""
        client = await self._clients.get()
        execute: Callable[..., Awaitable[Any]] = client.execute_command
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await execute("PING")
        except AuthenticationError as error:
            hint = "correct the user and password in the URL: redis://user:password@host:port/0"
            raise ConfigError(f"the server refuses the user or password: {error}", key=key, hint=hint) from None
        except (RedisError, OSError, TimeoutError) as error:
            logger.debug("%s cannot be asked yet: %s", self._what, error)

    async def command(self, *arguments: str | bytes | int) -> Any:
        return await self._execute(*arguments)

    async def script(self, script: Script, keys: list[str | bytes], *arguments: str | bytes | int) -> Any:
        rest = (len(keys), *keys, *arguments)
        try:
            return await self._execute("EVALSHA", script.digest, *rest)
        except NoScriptError:
            return await self._execute("EVAL", script.source, *rest)

    async def close(self) -> None:
        await self._clients.close()

    async def _execute(self, *arguments: str | bytes | int) -> Any:
        client = await self._clients.get()
        execute: Callable[..., Awaitable[Any]] = client.execute_command
        try:
            async with self._slots.slot(tenant.get()):
                return await execute(*arguments)
        except NoRoom as error:
            raise busy(self._what) from error
        except NoScriptError:
            raise
        except OutOfMemoryError as error:
            raise CapabilityError(Code.STORE_FULL, f"{self._what} is full") from error
        except (RedisError, OSError) as error:
            raise CapabilityError(Code.UNAVAILABLE, f"{self._what} is not available", detail=str(error)) from error
