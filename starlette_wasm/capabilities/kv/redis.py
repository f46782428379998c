"""Key/value in Redis, 5 or newer.

::

    starlette-wasm:kv:{namespace}:value:<key>    the value, as it is: a plain string
    starlette-wasm:kv:{namespace}:keys           sorted set of the keys, all of score 0, for lists in order
    starlette-wasm:kv:{namespace}:expiry         sorted set of the keys with a time to live, by its end

A namespace has no brace, so no two share a key; the braces also keep it in one slot of a cluster. Expired keys
are taken out of the sets a hundred at a time, with each write. Redis must not evict (``noeviction``) for lists to
be complete.
"""

from __future__ import annotations

from typing import Any

from ..errors import CapabilityError, Code
from ..redis import RedisClient, Script
from .store import MAX_KEY_BYTES, MAX_VALUE_BYTES, unreadable

_PUT = """
local function put(value, ttl, member)
    if ttl == '' then
        redis.call('SET', KEYS[1], value)
        redis.call('ZREM', KEYS[3], member)
    else
        redis.call('SET', KEYS[1], value, 'PX', ttl)
        redis.call('ZADD', KEYS[3], now + tonumber(ttl), member)
    end
    redis.call('ZADD', KEYS[2], 0, member)
end
"""
# KEYS: value, keys, expiry; ARGV[1] the key, ARGV[2] what comes before it in the name of its value.
_REAP = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 100)) do
    if redis.call('EXISTS', ARGV[2] .. member) == 0 then
        redis.call('ZREM', KEYS[2], member)
        redis.call('ZREM', KEYS[3], member)
    end
end
"""
_GET = Script(
    f"""
if redis.call('STRLEN', KEYS[1]) > {MAX_VALUE_BYTES} then return 0 end
return redis.call('GET', KEYS[1])
"""
)
_SET = Script(_REAP + _PUT + "put(ARGV[3], ARGV[4], ARGV[1])")
_CAS = Script(
    _REAP
    + _PUT
    + """
if redis.call('STRLEN', KEYS[1]) > tonumber(ARGV[6]) then return 0 end
local current = redis.call('GET', KEYS[1])
if ARGV[5] == '' then
    if current then return 0 end
elseif not current or redis.sha1hex(current) ~= ARGV[5] then
    return 0
end
put(ARGV[3], ARGV[4], ARGV[1])
return 1
"""
)
_INCREMENT = Script(
    _REAP
    + """
local sum = redis.pcall('INCRBY', KEYS[1], ARGV[3])
if type(sum) == 'table' then
    if string.find(sum.err, 'not an integer') or string.find(sum.err, 'overflow') then return false end
    return sum
end
redis.call('ZADD', KEYS[2], 0, ARGV[1])
if redis.call('PTTL', KEYS[1]) == -1 then redis.call('ZREM', KEYS[3], ARGV[1]) end
return redis.call('GET', KEYS[1])
"""
)
_DELETE = Script(
    """
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return redis.call('DEL', KEYS[1])
"""
)
# ARGV: -, prefix of the names of values, from, to, limit. Dead keys are skipped, some thousands at most, and so are
# keys of others that are too long. All come as one string, each behind its length: the client takes 20 us for a part.
_KEYS = Script(
    f"""
local found, from, limit = {{}}, ARGV[3], tonumber(ARGV[5])
for _ = 1, 20 do
    local members = redis.call('ZRANGEBYLEX', KEYS[2], from, ARGV[4], 'LIMIT', 0, limit)
    for _, member in ipairs(members) do
        if #member > {MAX_KEY_BYTES} then
            -- of others
        elseif redis.call('EXISTS', ARGV[2] .. member) == 1 then
            found[#found + 1] = struct.pack('>I2', #member) .. member
            if #found == limit then return table.concat(found) end
        else
            redis.call('ZREM', KEYS[2], member)
            redis.call('ZREM', KEYS[3], member)
        end
    end
    if #members < limit then break end
    from = '(' .. members[#members]
end
return table.concat(found)
"""
)


class RedisStore:
    def __init__(self, url: str, *, prefix: str) -> None:
        self._client = RedisClient(url, what="kv store")
        self._prefix = f"{prefix}:kv:"

    async def open(self) -> None:
        """Do nothing: connections are made at first use, and Redis may come up later than the app."""

    async def close(self) -> None:
        await self._client.close()

    async def get(self, namespace: str, key: bytes) -> bytes | None:
        value = await self._client.script(_GET, [self._values(namespace) + key])
        if isinstance(value, int):
            raise unreadable("a value of another size")
        return None if value is None else bytes(value)

    async def set(self, namespace: str, key: bytes, value: bytes, ttl_ms: int | None) -> None:
        await self._run(_SET, namespace, key, value, "" if ttl_ms is None else ttl_ms)

    async def delete(self, namespace: str, key: bytes) -> bool:
        return bool(await self._run(_DELETE, namespace, key))

    async def keys(self, namespace: str, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        first = b"(" + after if after >= prefix else b"[" + prefix
        if not first[1:]:
            first = b"-"
        return _members(await self._run(_KEYS, namespace, b"", first, b"(" + prefix + b"\xff", limit))

    async def increment(self, namespace: str, key: bytes, by: int) -> int:
        total = await self._run(_INCREMENT, namespace, key, by)
        if total is None:
            raise CapabilityError(Code.NOT_A_NUMBER, "the value or the sum is not an integer of 64 bits")
        return int(total)

    async def compare_and_set(
        self, namespace: str, key: bytes, expected: str | None, value: bytes, ttl_ms: int | None
    ) -> bool:
        ttl = "" if ttl_ms is None else ttl_ms
        return bool(await self._run(_CAS, namespace, key, value, ttl, expected or "", MAX_VALUE_BYTES))

    def _values(self, namespace: str) -> bytes:
        return f"{self._prefix}{{{namespace}}}:value:".encode()

    async def _run(self, script: Script, namespace: str, key: bytes, *arguments: bytes | str | int) -> Any:
        values = self._values(namespace)
        base = f"{self._prefix}{{{namespace}}}"
        keys: list[str | bytes] = [values + key, f"{base}:keys", f"{base}:expiry"]
        return await self._client.script(script, keys, key, values, *arguments)


def _members(packed: Any) -> list[bytes]:
    """Return the keys in what the script has packed. Raises CapabilityError for anything else."""
    if not isinstance(packed, bytes):
        raise unreadable("keys of another kind")
    found, at = [], 0
    while at < len(packed):
        begin = at + 2
        at = begin + int.from_bytes(packed[at:begin], "big")
        found.append(packed[begin:at])
    return found
