"""``SharedQuotas``: the accounts of a tenant's minute, kept in Redis for all processes that share it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import MutableMapping, Sequence
from typing import Any

from ..capabilities.errors import CapabilityError, Code
from ..capabilities.redis import RedisClient, Script
from ..config.settings import WasmSettings
from .tenancy import Account, Tenancy

logger = logging.getLogger("starlette_wasm")

EVERY = 1.0
"""Seconds between two looks: by how much the processes may lag behind each other."""
TOPIC = "tenants"
"""The topic of the note in ``/ready``."""
_BATCH = 100
"""Tenants in one script: Redis does nothing else while it runs, nor does the event loop while it is made."""
_LONGEST = 86_400
"""Seconds after which an account is forgotten, whatever it owes."""
_MOST_OWED = 1e15
"""What no account can owe."""

# For each account: what it may hold, and what this process has taken from it since the last look.
_EXCHANGE = Script("""
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local answer = {}
for at, key in ipairs(KEYS) do
  local most, used = tonumber(ARGV[2 * at]), tonumber(ARGV[2 * at + 1])
  if redis.call('TYPE', key).ok ~= 'hash' then redis.call('UNLINK', key) end
  local state = redis.call('HMGET', key, 'left', 'at')
  local left, since = tonumber(state[1] or ''), tonumber(state[2] or '')
  if not (left and since and left > -1e12 and left <= most and since > 0 and since < 1e12) then
    left, since = most, now
  end
  left = math.min(most, left + math.max(0, now - since) * most / 60) - used
  redis.call('HSET', key, 'left', string.format('%.6f', left), 'at', string.format('%.6f', now))
  redis.call('EXPIRE', key, math.min(tonumber(ARGV[1]), math.ceil(60 + math.max(0, -left) * 60 / most)))
  answer[at] = string.format('%.6f', left)
end
return answer
""")


class SharedQuotas:
    """Takes what was used here to Redis once a second, and brings back what is left for all.

    Requests never wait for it. Without Redis each process counts for itself, as it does between two looks.
    """

    def __init__(self, tenancy: Tenancy, settings: WasmSettings, notes: MutableMapping[str, str]) -> None:
        """Use the Redis of canaries: processes share quotas if they share rollouts."""
        self._tenancy = tenancy
        self._client = RedisClient(settings.canary_url, what="the count of quotas")
        self._prefix = f"starlette-wasm:{{quota:{settings.canary_prefix}}}:".encode()
        self._notes = notes

    async def run(self) -> None:
        """Exchange usage for ever."""
        while True:
            await asyncio.sleep(EVERY)
            if self._tenancy.active:
                await self.exchange()

    async def exchange(self) -> None:
        """Look once."""
        try:
            usages = self._tenancy.usages()
            for at in range(0, len(usages), _BATCH):
                accounts = [account for each in usages[at : at + _BATCH] for account in each.accounts()]
                if accounts:
                    await self._exchange(accounts)
                else:
                    await asyncio.sleep(0)  # there may be thousands
        except CapabilityError as error:
            self._note(error)
        else:
            self._note(None)

    async def _exchange(self, accounts: Sequence[Account]) -> None:
        used = [(each, each.allowance.spent()) for each in accounts]
        keys: list[str | bytes] = [self._prefix + each.key for each, _ in used]
        given = [text for each, spent in used for text in (str(each.allowance.most), str(spent))]
        answer = await self._client.script(_EXCHANGE, keys, _LONGEST, *given)
        for (account, _), left in zip(used, _numbers(answer, len(used)), strict=True):
            account.allowance.adopt(left)

    def _note(self, error: CapabilityError | None) -> None:
        if error is None:
            if self._notes.pop(TOPIC, None) is not None:
                logger.info("tenants: quotas are shared again")
        elif TOPIC not in self._notes:
            self._notes[TOPIC] = "Redis cannot be asked: each process counts for itself"
            logger.warning("tenants: each process counts quotas for itself: %s", error.detail or error)

    async def close(self) -> None:
        await self._client.close()


def _numbers(answer: Any, count: int) -> list[float]:
    """Return what is left in each account. Raises CapabilityError if a server answers anything else."""
    try:
        found = [float(each) for each in answer]
    except (TypeError, ValueError):
        found = []
    if len(found) != count or not all(-_MOST_OWED <= each < math.inf for each in found):
        raise CapabilityError(Code.UNAVAILABLE, "the count of quotas is not available", detail="no numbers came back")
    return found
