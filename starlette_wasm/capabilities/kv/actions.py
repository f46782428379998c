"""The operations ``kv.*``: fields in, grant checked, store asked, fields out."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import CapabilityError, Code, printable
from ..fields import Fields, bad_field
from ..off_loop import off_loop
from ..operations import Operation
from ..tenant import tenant
from .store import INT64, MAX_KEY_BYTES, MAX_LIST, MAX_TTL_MS, MAX_VALUE_BYTES, Store, etag

Result = tuple[dict[str, object], bytes]


@dataclass(frozen=True, slots=True)
class KvGrant:
    namespaces: frozenset[str]

    def check(self, namespace: str) -> None:
        if namespace not in self.namespaces:
            raise CapabilityError(Code.KV_NAMESPACE_NOT_ALLOWED, f"kv namespace not allowed: {printable(namespace)}")


class KvActions:
    """Carries out the operations ``kv.*``. ``call()`` raises CapabilityError."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._actions = {
            Operation.KV_GET: self._get,
            Operation.KV_SET: self._set,
            Operation.KV_DELETE: self._delete,
            Operation.KV_LIST: self._list,
            Operation.KV_INCREMENT: self._increment,
            Operation.KV_CAS: self._cas,
        }

    @staticmethod
    def check(operation: Operation, grant: KvGrant, fields: Fields, size: int) -> None:
        """Raise CapabilityError for a namespace that is not granted, and a body of that size if none may be."""
        grant.check(fields.peek("namespace"))
        if size and operation not in (Operation.KV_SET, Operation.KV_CAS):
            raise CapabilityError(Code.BAD_REQUEST, "bad request: no body belongs here")
        if size > MAX_VALUE_BYTES:
            raise CapabilityError(Code.TOO_LARGE, f"value too large: at most {MAX_VALUE_BYTES} bytes")

    async def call(self, operation: Operation, grant: KvGrant, fields: Fields, body: bytes) -> Result:
        self.check(operation, grant, fields, len(body))
        namespace = fields.text("namespace")
        return await self._actions[operation](namespace, fields, body)

    async def _get(self, namespace: str, fields: Fields, body: bytes) -> Result:
        key = _key(fields)
        fields.done()
        value = await self.store.get(namespace, key)
        return ({"found": False}, b"") if value is None else ({"found": True, "etag": await _etag(value)}, value)

    async def _set(self, namespace: str, fields: Fields, body: bytes) -> Result:
        key, ttl = _key(fields), fields.maybe_integer("ttlMs", 1, MAX_TTL_MS)
        fields.done()
        await self.store.set(namespace, key, body, ttl)
        return {"etag": await _etag(body)}, b""

    async def _delete(self, namespace: str, fields: Fields, body: bytes) -> Result:
        key = _key(fields)
        fields.done()
        return {"deleted": await self.store.delete(namespace, key)}, b""

    async def _list(self, namespace: str, fields: Fields, body: bytes) -> Result:
        prefix = fields.text("prefix", "").encode()
        after = fields.text("cursor", "").encode()
        limit = fields.integer("limit", 1, MAX_LIST, MAX_LIST)
        fields.done()
        if len(prefix) > MAX_KEY_BYTES or len(after) > MAX_KEY_BYTES:
            raise bad_field("prefix or cursor", f"has more than {MAX_KEY_BYTES} bytes")
        keys = [key.decode("utf-8", "replace") for key in await self.store.keys(namespace, prefix, after, limit + 1)]
        more = len(keys) > limit
        return {"keys": keys[:limit], "cursor": keys[limit - 1] if more else None}, b""

    async def _increment(self, namespace: str, fields: Fields, body: bytes) -> Result:
        key, by = _key(fields), fields.integer("by", INT64[0], INT64[-1], 1)
        fields.done()
        return {"value": await self.store.increment(namespace, key, by)}, b""

    async def _cas(self, namespace: str, fields: Fields, body: bytes) -> Result:
        key, ttl = _key(fields), fields.maybe_integer("ttlMs", 1, MAX_TTL_MS)
        expected = fields.maybe_text("etag") or None
        fields.done()
        swapped = await self.store.compare_and_set(namespace, key, expected, body, ttl)
        return ({"swapped": True, "etag": await _etag(body)} if swapped else {"swapped": False}), b""


async def _etag(value: bytes) -> str:
    """Return etag() of what may be a mebibyte."""
    return await off_loop(tenant.get(), len(value), lambda: etag(value))


def _key(fields: Fields) -> bytes:
    key = fields.text("key").encode()
    if not 0 < len(key) <= MAX_KEY_BYTES:
        raise bad_field("key", f"is not from 1 to {MAX_KEY_BYTES} bytes")
    return key
