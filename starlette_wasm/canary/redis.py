"""Canaries in Redis, for several machines."""

from __future__ import annotations

from typing import Any

from ..capabilities.redis import RedisClient, Script
from .store import KEY, Batch, Reading

_PREFIX = "starlette-wasm:canary:"
_COUNTS_SECONDS = 7 * 86_400
"""After which counts that nobody added to are dropped; those of old observations go at once."""

# The first key of each is the record, and leads to the others: all have one hash tag, and so lie on one node.
_READ = Script("""
local state = redis.call('HMGET', KEYS[1], 'revision', 'record', 'epoch')
local found = {redis.call('TIME'), state[1] or '0', state[2]}
if state[2] then
  for epoch = state[3] - 1, state[3] do
    local versions = redis.call('SMEMBERS', KEYS[1] .. ':' .. epoch)
    for _, version in ipairs(versions) do
      local counts = redis.call('HGETALL', KEYS[1] .. ':' .. epoch .. ':' .. version)
      found[#found + 1] = {tostring(epoch), version, counts}
    end
  end
end
return found
""")
_ADD = Script("""
local counts = KEYS[1] .. ':' .. ARGV[1] .. ':' .. ARGV[2]
local worker = '@' .. ARGV[3]
if tonumber(redis.call('HGET', counts, worker) or '0') >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', counts, worker, ARGV[4])
for at = 6, #ARGV, 2 do redis.call('HINCRBY', counts, ARGV[at], ARGV[at + 1]) end
redis.call('SADD', KEYS[1] .. ':' .. ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1] .. ':' .. ARGV[1], ARGV[5])
redis.call('EXPIRE', counts, ARGV[5])
return 1
""")
_LEASE = Script("""
local lease = KEYS[1] .. ':lease'
local holder = redis.call('GET', lease)
if holder and holder ~= ARGV[1] then return false end
if not holder then redis.call('INCR', KEYS[1] .. ':token') end
redis.call('SET', lease, ARGV[1], 'PX', ARGV[2])
return tonumber(redis.call('GET', KEYS[1] .. ':token'))
""")
_RELEASE = Script("""
if redis.call('GET', KEYS[1] .. ':lease') == ARGV[1] then redis.call('DEL', KEYS[1] .. ':lease') end
return 0
""")
_SWAP = Script("""
if ARGV[4] ~= '' and redis.call('GET', KEYS[1] .. ':token') ~= ARGV[4] then return 0 end
if (redis.call('HGET', KEYS[1], 'revision') or '0') ~= ARGV[1] then return 0 end
local before = tonumber(redis.call('HGET', KEYS[1], 'epoch') or ARGV[3])
redis.call('HSET', KEYS[1], 'revision', ARGV[1] + 1, 'record', ARGV[2], 'epoch', ARGV[3])
for epoch = before - 1, ARGV[3] - 2 do
  local of = KEYS[1] .. ':' .. epoch
  for _, version in ipairs(redis.call('SMEMBERS', of)) do redis.call('DEL', of .. ':' .. version) end
  redis.call('DEL', of)
end
return 1
""")


class RedisStore:
    """Its clock is that of the Redis server."""

    def __init__(self, url: str) -> None:
        self._client = RedisClient(url, what="canary store")

    async def open(self) -> None:
        """Ask whether it lets this client in; Redis may come up later than the app."""
        await self._client.check(KEY)

    async def close(self) -> None:
        await self._client.close()

    async def read(self, function: str) -> Reading:
        now, revision, record, *windows = await self._run(_READ, function)
        counts = {}
        for epoch, version, pairs in windows:
            texts = [each.decode() for each in pairs]
            fields = zip(texts[::2], texts[1::2], strict=True)
            counts[int(epoch), version.decode()] = {field: int(value) for field, value in fields if field[0] != "@"}
        return Reading(
            int(now[0]) + int(now[1]) / 1e6, int(revision), None if record is None else record.decode(), counts
        )

    async def add(self, function: str, worker: str, batch: Batch) -> None:
        pairs = [each for pair in batch.counts.items() for each in pair]
        await self._run(_ADD, function, batch.epoch, batch.version, worker, batch.number, _COUNTS_SECONDS, *pairs)

    async def lease(self, function: str, holder: str, seconds: float) -> int | None:
        token = await self._run(_LEASE, function, holder, max(1, round(seconds * 1000)))
        return None if token is None else int(token)

    async def release(self, function: str, holder: str) -> None:
        await self._run(_RELEASE, function, holder)

    async def swap(self, function: str, revision: int, record: str, epoch: int, token: int | None = None) -> bool:
        fence = "" if token is None else token
        return bool(await self._run(_SWAP, function, revision, record, epoch, fence))

    async def _run(self, script: Script, function: str, *arguments: str | int) -> Any:
        return await self._client.script(script, [f"{_PREFIX}{{{function}}}"], *arguments)
