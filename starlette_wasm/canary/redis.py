"""Canaries in Redis, for several machines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..capabilities.redis import RedisClient, Script
from .store import KEY, Batch, Reading
from .untrusted_record import MAX_RECORD_BYTES, MAX_ROWS, read_count, read_epoch, read_revision, unreadable

_DIGITS = re.compile(rb"[0-9]{1,18}")

_PREFIX = "starlette-wasm:canary:"
_COUNTS_SECONDS = 7 * 86_400
"""After which counts that nobody added to are dropped; those of old observations go at once."""

# The first key of each is the record, and leads to the others: all have one hash tag, and so lie on one node.
_READ = Script("""
local function within(size, most, what)
  if size > most then error({err = 'FOREIGN ' .. what .. ' is larger than what a worker writes'}) end
end
within(redis.call('HSTRLEN', KEYS[1], 'revision'), 16, 'revision')
within(redis.call('HSTRLEN', KEYS[1], 'epoch'), 10, 'epoch')
within(redis.call('HSTRLEN', KEYS[1], 'record'), tonumber(ARGV[1]), 'record')
local state = redis.call('HMGET', KEYS[1], 'revision', 'record', 'epoch')
local found = {redis.call('TIME'), state[1] or '0', state[2], state[3] or ''}
if not state[2] then return found end
if not string.find(state[3] or '', '^%d+$') then return found end
local last = tonumber(state[3])
for back = 1, 0, -1 do
  local epoch = string.format('%.0f', last - back)
  local names = KEYS[1] .. ':' .. epoch
  within(redis.call('SCARD', names), 16, 'the set of versions')
  within(redis.call('MEMORY', 'USAGE', names, 'SAMPLES', 0) or 0, 65536, 'the set of versions')
  for _, version in ipairs(redis.call('SMEMBERS', names)) do
    local key = names .. ':' .. version
    within(redis.call('HLEN', key), tonumber(ARGV[2]), 'a hash of counts')
    within(redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) or 0, 4194304, 'a hash of counts')
    found[#found + 1] = {epoch, version, redis.call('HGETALL', key)}
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
if not before or before ~= before then before = 0 end
-- An epoch that another wrote must not become a loop without end: what is further back expires by itself.
for epoch = math.max(before - 1, ARGV[3] - 66), ARGV[3] - 2 do
  local names = KEYS[1] .. ':' .. epoch
  if redis.call('SCARD', names) <= 16 then
    for _, version in ipairs(redis.call('SMEMBERS', names)) do redis.call('DEL', names .. ':' .. version) end
  end
  redis.call('DEL', names)
end
return 1
""")


class RedisStore:
    """A canary store in Redis. Its clock is that of the server."""

    def __init__(self, url: str) -> None:
        self._client = RedisClient(url, what="canary store", waiting=1 << 16)

    async def open(self) -> None:
        """Ask whether it lets this client in; Redis may come up later than the app."""
        await self._client.check(KEY)

    async def close(self) -> None:
        await self._client.close()

    async def read(self, function: str) -> Reading:
        now, revision, record, epoch, *windows = await self._run(_READ, function, MAX_RECORD_BYTES, MAX_ROWS)
        clock = int(now[0]) + int(now[1]) / 1e6
        if record is None:
            return Reading(clock)
        read_epoch(_whole(epoch))
        counts = {(_whole(at), _decode(version)): dict(_counts(pairs)) for at, version, pairs in windows}
        return Reading(clock, read_revision(_whole(revision)), _decode(record), counts)

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


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise unreadable("it is not UTF-8") from None


def _whole(raw: bytes) -> int:
    """Raise CapabilityError for what is not a number of at most 18 digits."""
    if not _DIGITS.fullmatch(raw):
        raise unreadable(f"{raw!r:.80} is not a whole number")
    return int(raw)


def _counts(pairs: list[bytes]) -> Iterator[tuple[str, int]]:
    for name, value in zip(pairs[::2], pairs[1::2], strict=True):
        if not name.startswith(b"@"):
            yield read_count(_decode(name), _whole(value))
