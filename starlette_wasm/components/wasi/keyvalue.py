"""``wasi:keyvalue``: the stores of the capability ``kv``; a bucket is a namespace that the policy grants.

There are two drafts of it in use, which differ in the types of a few functions: both are offered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from weakref import ref

from ...capabilities import CapabilityError, Code, Operation
from ..calls import Await
from ..values import Err, Ok, Value
from .host import WasiHost
from .offers import offer

_STORE, _ATOMICS, _BATCH = "wasi:keyvalue/store", "wasi:keyvalue/atomics", "wasi:keyvalue/batch"
_ERROR = "variant {no-such-store, access-denied, other(string)}"
_BUCKET = "bucket: borrow<bucket>"


@dataclass(frozen=True, slots=True)
class Bucket:
    name: str


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Cas:
    """A value as it was, to be replaced if it is still that. ``etag`` is None if there was none."""

    bucket: Bucket
    key: str
    value: bytes | None
    etag: str | None


def _error(error: CapabilityError) -> Value:
    denied = error.code is Code.KV_NAMESPACE_NOT_ALLOWED
    return ("access-denied", None) if denied else ("other", error.message)


def _later(work: Callable[[], Awaitable[Value]]) -> Await:
    """Return what ``work`` gives as Ok, an error of the capability as Err."""

    async def run() -> Value:
        try:
            return Ok(await work())
        except CapabilityError as error:
            return Err(_error(error))

    return Await(run)


async def _ask(
    host: WasiHost, operation: Operation, bucket: Bucket, body: bytes = b"", **fields: Value
) -> tuple[dict[str, Value], bytes]:
    assert host.session is not None  # there is no bucket otherwise
    given = {name: value for name, value in fields.items() if value is not None}
    return await host.session.ask(operation, {"namespace": bucket.name, **given}, body, room=_room(host))


def _room(host: WasiHost) -> int:
    """Return how many bytes a value may have, beside the guest's memory and the values that the host keeps for it."""
    host.swaps = [each for each in host.swaps if each() is not None]
    kept = (each() for each in host.swaps)
    return max(host.room() - sum(len(each.value or b"") for each in kept if each is not None), 0)


@offer(_STORE, "open", f"func(identifier: string) -> result<bucket, {_ERROR}>")
def open_bucket(host: WasiHost, identifier: str) -> Value:
    if host.session is None:
        return Err(("access-denied", None))
    try:
        host.session.check(Operation.KV_GET, {"namespace": identifier})
    except CapabilityError as error:
        return Err(_error(error))
    return Ok(Bucket(identifier))


async def _get(host: WasiHost, bucket: Bucket, key: str) -> bytes | None:
    found, value = await _ask(host, Operation.KV_GET, bucket, key=key)
    return value if found["found"] else None


@offer(_STORE, "[method]bucket.get", f"func(self: borrow<bucket>, key: string) -> result<option<list<u8>>, {_ERROR}>")
def bucket_get(host: WasiHost, bucket: Bucket, key: str) -> Await:
    return _later(lambda: _get(host, bucket, key))


@offer(_STORE, "[method]bucket.exists", f"func(self: borrow<bucket>, key: string) -> result<bool, {_ERROR}>")
def bucket_exists(host: WasiHost, bucket: Bucket, key: str) -> Await:
    async def exists() -> bool:
        return await _get(host, bucket, key) is not None

    return _later(exists)


@offer(_STORE, "[method]bucket.set", f"func(self: borrow<bucket>, key: string, value: list<u8>) -> result<_, {_ERROR}>")
def bucket_set(host: WasiHost, bucket: Bucket, key: str, value: bytes) -> Await:
    return set_many(host, bucket, [(key, value)])


@offer(_STORE, "[method]bucket.delete", f"func(self: borrow<bucket>, key: string) -> result<_, {_ERROR}>")
def bucket_delete(host: WasiHost, bucket: Bucket, key: str) -> Await:
    return delete_many(host, bucket, [key])


async def _list(host: WasiHost, bucket: Bucket, after: str | None) -> tuple[list[str], str | None]:
    found, _ = await _ask(host, Operation.KV_LIST, bucket, cursor=after)
    return found["keys"], found["cursor"]


def _keys_of(cursor: str) -> str:
    return (
        f"func(self: borrow<bucket>, cursor: option<{cursor}>) -> "
        f"result<record {{keys: list<string>, cursor: option<{cursor}>}}, {_ERROR}>"
    )


@offer(_STORE, "[method]bucket.list-keys", _keys_of("string"))
def list_keys(host: WasiHost, bucket: Bucket, cursor: str | None) -> Await:
    async def keys() -> Value:
        found, following = await _list(host, bucket, cursor)
        return {"keys": found, "cursor": following}

    return _later(keys)


@offer(_STORE, "[method]bucket.list-keys", _keys_of("u64"))
def list_keys_by_number(host: WasiHost, bucket: Bucket, cursor: int | None) -> Await:
    """List keys; a cursor is the number of a key that an earlier call ended with."""

    async def keys() -> Value:
        if cursor is not None and cursor >= len(host.cursors):
            raise CapabilityError(Code.BAD_REQUEST, "bad request: no call gave that cursor")
        found, following = await _list(host, bucket, None if cursor is None else host.cursors[cursor])
        if following is None:
            return {"keys": found, "cursor": None}
        host.cursors.append(following)
        return {"keys": found, "cursor": len(host.cursors) - 1}

    return _later(keys)


@offer(_ATOMICS, "increment", f"func({_BUCKET}, key: string, delta: s64) -> result<s64, {_ERROR}>")
def increment(host: WasiHost, bucket: Bucket, key: str, delta: int) -> Await:
    async def add() -> int:
        found, _ = await _ask(host, Operation.KV_INCREMENT, bucket, key=key, by=delta)
        value: int = found["value"]
        return value

    return _later(add)


@offer(_ATOMICS, "increment", f"func({_BUCKET}, key: string, delta: u64) -> result<u64, {_ERROR}>")
def increment_unsigned(host: WasiHost, bucket: Bucket, key: str, delta: int) -> Await:
    async def add() -> int:
        found, _ = await _ask(host, Operation.KV_INCREMENT, bucket, key=key, by=delta)
        value: int = found["value"]
        if value < 0:
            raise CapabilityError(Code.NOT_A_NUMBER, f"not a number without a sign: {value}")
        return value

    return _later(add)


async def _cas(host: WasiHost, bucket: Bucket, key: str) -> Cas:
    found, value = await _ask(host, Operation.KV_GET, bucket, key=key)
    cas = Cas(bucket, key, value if found["found"] else None, found.get("etag"))
    host.swaps.append(ref(cas))
    return cas


@offer(_ATOMICS, "[static]cas.new", f"func({_BUCKET}, key: string) -> result<cas, {_ERROR}>")
def new_cas(host: WasiHost, bucket: Bucket, key: str) -> Await:
    return _later(lambda: _cas(host, bucket, key))


@offer(
    _ATOMICS,
    "[static]cas.new-with-read",
    f"func({_BUCKET}, key: string) -> result<tuple<cas, option<list<u8>>>, {_ERROR}>",
)
def new_cas_with_read(host: WasiHost, bucket: Bucket, key: str) -> Await:
    async def made() -> Value:
        cas = await _cas(host, bucket, key)
        return cas, cas.value

    return _later(made)


@offer(_ATOMICS, "[method]cas.current", f"func(self: borrow<cas>) -> result<option<list<u8>>, {_ERROR}>")
def cas_current(_: WasiHost, cas: Cas) -> Value:
    return Ok(cas.value)


def _swapping(host: WasiHost, cas: Cas, value: bytes, failed: Callable[[Cas], Value]) -> Await:
    async def run() -> Value:
        try:
            found, _ = await _ask(host, Operation.KV_CAS, cas.bucket, value, key=cas.key, etag=cas.etag)
            if found["swapped"]:
                return Ok()
            return Err(("cas-failed", failed(await _cas(host, cas.bucket, cas.key))))
        except CapabilityError as error:
            return Err(("store-error", _error(error)))

    return Await(run)


_SWAP = f"func(cas: cas, value: list<u8>) -> result<_, variant {{store-error({_ERROR}), cas-failed(%s)}}>"


@offer(_ATOMICS, "swap", _SWAP % "cas")
def swap(host: WasiHost, cas: Cas, value: bytes) -> Await:
    return _swapping(host, cas, value, lambda now: now)


@offer(_ATOMICS, "swap", _SWAP % "tuple<cas, option<list<u8>>>")
def swap_with_read(host: WasiHost, cas: Cas, value: bytes) -> Await:
    return _swapping(host, cas, value, lambda now: (now, now.value))


async def _all_of(host: WasiHost, bucket: Bucket, keys: list[str]) -> list[bytes | None]:
    """Get all the values, which have to fit into the guest's memory together."""
    values, left = [], _room(host)
    for key in keys:
        value = await _get(host, bucket, key)
        left -= len(value or b"")
        if left < 0:
            raise CapabilityError(Code.TOO_LARGE, "result too large: it does not fit beside the memory")
        values.append(value)
    return values


@offer(
    _BATCH,
    "get-many",
    f"func({_BUCKET}, keys: list<string>) -> result<list<tuple<string, option<list<u8>>>>, {_ERROR}>",
)
def get_many(host: WasiHost, bucket: Bucket, keys: list[str]) -> Await:
    async def values() -> Value:
        return list(zip(keys, await _all_of(host, bucket, keys), strict=True))

    return _later(values)


@offer(
    _BATCH,
    "get-many",
    f"func({_BUCKET}, keys: list<string>) -> result<list<option<tuple<string, list<u8>>>>, {_ERROR}>",
)
def get_many_there(host: WasiHost, bucket: Bucket, keys: list[str]) -> Await:
    async def values() -> Value:
        found = await _all_of(host, bucket, keys)
        return [None if value is None else (key, value) for key, value in zip(keys, found, strict=True)]

    return _later(values)


@offer(_BATCH, "set-many", f"func({_BUCKET}, key-values: list<tuple<string, list<u8>>>) -> result<_, {_ERROR}>")
def set_many(host: WasiHost, bucket: Bucket, pairs: list[tuple[str, bytes]]) -> Await:
    async def put() -> None:
        for key, value in pairs:
            await _ask(host, Operation.KV_SET, bucket, value, key=key)

    return _later(put)


@offer(_BATCH, "delete-many", f"func({_BUCKET}, keys: list<string>) -> result<_, {_ERROR}>")
def delete_many(host: WasiHost, bucket: Bucket, keys: list[str]) -> Await:
    async def delete() -> None:
        for key in keys:
            await _ask(host, Operation.KV_DELETE, bucket, key=key)

    return _later(delete)
