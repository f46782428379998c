from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from capability_guest import Guest, capabilities
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from starlette_wasm.capabilities import Capabilities, CapabilitySettings, frame
from starlette_wasm.capabilities.kv import MAX_KEY_BYTES, MAX_VALUE_BYTES, Store, actions, open_store
from starlette_wasm.config.policy import SandboxPolicy
from starlette_wasm.exceptions import ConfigError

POLICY = SandboxPolicy(kv_namespaces=["a", "b", "a:b", "a/keys", "a:value:x"])

pytestmark = pytest.mark.anyio


async def test_a_value_is_kept_as_it_is(kv_url: str) -> None:
    async with capabilities(kv_url=kv_url) as there:
        guest = Guest(there, POLICY)
        value = bytes(range(256))
        assert await guest("kv.get", namespace="a", key="k") == ({"ok": True, "found": False}, b"")
        stored = await guest.fields("kv.set", value, namespace="a", key="k")
        header, out = await guest("kv.get", namespace="a", key="k")
        assert (header["found"], header["etag"], out) == (True, stored["etag"], value)
        assert await guest.fields("kv.delete", namespace="a", key="k") == {"deleted": True}
        assert await guest.fields("kv.delete", namespace="a", key="k") == {"deleted": False}
        assert await guest.fields("kv.get", namespace="a", key="k") == {"found": False}


async def test_bounds_of_keys_and_values(kv_url: str) -> None:
    async with capabilities(kv_url=kv_url) as there:
        guest = Guest(there, POLICY)
        for key in ("x" * MAX_KEY_BYTES, "é" * (MAX_KEY_BYTES // 2), "\0", "a\nb", "\U0010ffff", "*", "{b}"):
            await guest.fields("kv.set", key.encode(), namespace="a", key=key)
            assert (await guest("kv.get", namespace="a", key=key))[1] == key.encode()
        for key in ("", "x" * (MAX_KEY_BYTES + 1), "é" * (MAX_KEY_BYTES // 2) + "x"):
            assert (await guest.error("kv.set", namespace="a", key=key))[0] == "bad-request"
        big = b"\xff" * MAX_VALUE_BYTES
        await guest.fields("kv.set", big, namespace="a", key="big")
        assert (await guest("kv.get", namespace="a", key="big"))[1] == big
        assert (await guest.error("kv.set", big + b"x", namespace="a", key="big"))[0] == "too-large"


async def test_namespaces_do_not_meet(kv_url: str) -> None:
    async with capabilities(kv_url=kv_url) as there:
        guest = Guest(there, POLICY)
        names = ["a", "b", "a:b", "a/keys", "a:value:x"]
        keys = ["k", "b:k", "keys", "value:k", "}:value:k", "x:value:k"]
        for name in names:
            for key in keys:
                await guest.fields("kv.set", f"{name} {key}".encode(), namespace=name, key=key)
        await guest.fields("kv.delete", namespace="b", key="k")
        for name in names:
            left = sorted(set(keys) - ({"k"} if name == "b" else set()))
            assert (await guest.fields("kv.list", namespace=name))["keys"] == left
            for key in left:
                assert (await guest("kv.get", namespace=name, key=key))[1] == f"{name} {key}".encode()


@pytest.mark.parametrize("operation", ["get", "set", "delete", "list", "increment", "cas"])
async def test_a_namespace_off_the_list_is_refused_and_noted(operation: str, kv_url: str) -> None:
    async with capabilities(kv_url=kv_url) as there:
        for policy in (POLICY, SandboxPolicy()):
            guest = Guest(there, policy)
            refused = await guest.error(f"kv.{operation}", namespace="other", key="k")
            assert refused == ("kv-namespace-not-allowed", "kv namespace not allowed: other")
            assert [(each.operation, each.message) for each in guest.session.violations] == [
                (f"kv.{operation}", "kv namespace not allowed: other")
            ]


async def test_time_to_live(kv_url: str) -> None:
    async with capabilities(kv_url=kv_url) as there:
        guest = Guest(there, POLICY)
        for _ in range(30):
            begin = time.monotonic()
            await guest.fields("kv.set", b"1", namespace="a", key="short", ttlMs=1000)
            await guest.fields("kv.set", b"1", namespace="a", key="long", ttlMs=600_000)
            await guest.fields("kv.set", b"1", namespace="a", key="renewed", ttlMs=1000)
            await guest.fields("kv.set", b"1", namespace="a", key="renewed")
            await guest.fields("kv.set", b"1", namespace="a", key="counter", ttlMs=1000)
            raised = await guest.fields("kv.increment", namespace="a", key="counter", by=4)
            listed = (await guest.fields("kv.list", namespace="a"))["keys"]
            if time.monotonic() - begin < 0.9:  # else something may be over already, on a slow machine
                break
        assert (raised, len(listed)) == ({"value": 5}, 4)
        await asyncio.sleep(1.05)
        assert await guest.fields("kv.get", namespace="a", key="short") == {"found": False}
        assert (await guest.fields("kv.list", namespace="a"))["keys"] == ["long", "renewed"]
        assert await guest.fields("kv.delete", namespace="a", key="short") == {"deleted": False}
        assert await guest.fields("kv.increment", namespace="a", key="counter") == {"value": 1}
        assert (await guest.fields("kv.cas", b"2", namespace="a", key="short"))["swapped"] is True
        await asyncio.sleep(1.05)
        assert (await guest.fields("kv.list", namespace="a"))["keys"] == ["counter", "long", "renewed", "short"]


async def test_a_list_comes_in_pages_in_order(kv_url: str) -> None:
    async with capabilities(kv_url=kv_url) as there:
        guest = Guest(there, POLICY)
        keys = [f"user:{i}" for i in range(25)] + ["user", "user;", "userz", "é", "a", "\U0001f600"]
        for key in keys:
            await guest.fields("kv.set", b"", namespace="a", key=key)
        found, cursor, pages = [], None, 0
        while True:
            page = await guest.fields("kv.list", namespace="a", prefix="user:", limit=10, cursor=cursor)
            found += page["keys"]
            pages += 1
            if (cursor := page["cursor"]) is None:
                break
        assert pages == 3
        assert found == sorted(key for key in keys if key.startswith("user:"))
        everything = await guest.fields("kv.list", namespace="a")
        assert everything == {"keys": sorted(keys, key=str.encode), "cursor": None}
        assert await guest.fields("kv.list", namespace="a", prefix="none") == {"keys": [], "cursor": None}
        assert await guest.fields("kv.list", namespace="a", prefix="user:", cursor="zz") == {"keys": [], "cursor": None}
        for limit in (0, 1001, -1, "1", True):
            assert (await guest.error("kv.list", namespace="a", limit=limit))[0] == "bad-request"


async def test_increment(kv_url: str) -> None:
    async with capabilities(kv_url=kv_url) as there:
        guest = Guest(there, POLICY)
        top = 2**63 - 1
        assert await guest.fields("kv.increment", namespace="a", key="n") == {"value": 1}
        assert await guest.fields("kv.increment", namespace="a", key="n", by=-3) == {"value": -2}
        assert (await guest("kv.get", namespace="a", key="n"))[1] == b"-2"
        assert await guest.fields("kv.increment", namespace="a", key="big", by=top) == {"value": top}
        assert (await guest.error("kv.increment", namespace="a", key="big"))[0] == "not-a-number"
        assert await guest.fields("kv.increment", namespace="a", key="small", by=-top - 1) == {"value": -top - 1}
        assert (await guest.error("kv.increment", namespace="a", key="small", by=-1))[0] == "not-a-number"
        for by in (top + 1, 1.5, "1", True):
            assert (await guest.error("kv.increment", namespace="a", key="n", by=by))[0] == "bad-request"
        for value in (b"", b"x", b" 1", b"1 ", b"+1", b"01", b"-0", b"1.0", b"1e3", b"9223372036854775808", b"\xff"):
            await guest.fields("kv.set", value, namespace="a", key="no")
            assert (await guest.error("kv.increment", namespace="a", key="no"))[0] == "not-a-number", value
            assert (await guest("kv.get", namespace="a", key="no"))[1] == value


async def test_compare_and_set(kv_url: str) -> None:
    async with capabilities(kv_url=kv_url) as there:
        guest = Guest(there, POLICY)
        first = await guest.fields("kv.cas", b"1", namespace="a", key="k")
        assert first["swapped"]
        assert await guest.fields("kv.cas", b"2", namespace="a", key="k") == {"swapped": False}
        assert await guest.fields("kv.cas", b"2", namespace="a", key="k", etag="x") == {"swapped": False}
        assert await guest.fields("kv.cas", b"2", namespace="a", key="none", etag=first["etag"]) == {"swapped": False}
        second = await guest.fields("kv.cas", b"2", namespace="a", key="k", etag=first["etag"])
        assert second["swapped"]
        assert await guest.fields("kv.cas", b"3", namespace="a", key="k", etag=first["etag"]) == {"swapped": False}
        header, value = await guest("kv.get", namespace="a", key="k")
        assert (header["etag"], value) == (second["etag"], b"2")


async def test_of_racing_compare_and_sets_one_wins(kv_url: str) -> None:
    async with capabilities(kv_url=kv_url) as there:

        async def add(count: int) -> None:
            guest = Guest(there, POLICY)
            for _ in range(count):
                while True:
                    header, value = await guest("kv.get", namespace="a", key="k")
                    new = b"%d" % (int(value or 0) + 1)
                    if (await guest.fields("kv.cas", new, namespace="a", key="k", etag=header.get("etag")))["swapped"]:
                        break

        await asyncio.gather(*(add(10) for _ in range(8)))
        assert (await Guest(there, POLICY)("kv.get", namespace="a", key="k"))[1] == b"80"


def in_process(url: str, times: int) -> None:
    async def main() -> None:
        async with capabilities(kv_url=url) as there:
            for _ in range(times // 100):
                guest = Guest(there, POLICY)
                await asyncio.gather(
                    *(guest.fields("kv.increment", namespace="a", key="n") for _ in range(100)),
                    guest.fields("kv.set", os.urandom(500), namespace="a", key=f"{os.getpid()}", ttlMs=1),
                )

    asyncio.run(main())


async def test_processes_count_together(kv_url: str) -> None:
    """On a new file, too: each of them makes the tables."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=in_process, args=(kv_url, 200)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        await asyncio.to_thread(process.join, 300)
        assert process.exitcode == 0
    async with capabilities(kv_url=kv_url) as there:
        assert await Guest(there, POLICY).fields("kv.increment", namespace="a", key="n", by=0) == {"value": 600}


def test_one_store_serves_one_loop_after_another(kv_url: str) -> None:
    there = Capabilities(CapabilitySettings(kv_url=kv_url))

    async def count() -> object:
        return (await Guest(there, POLICY).fields("kv.increment", namespace="a", key="n"))["value"]

    assert [asyncio.run(count()) for _ in range(5)] == [1, 2, 3, 4, 5]
    asyncio.run(there.close())


async def test_a_cancelled_call_leaves_nothing_for_the_next(kv_url: str) -> None:
    """No reply of one guest may reach another, whenever the first is cancelled."""
    async with capabilities(kv_url=kv_url) as there:
        for i in range(20):
            await Guest(there, POLICY).fields("kv.set", f"value {i}".encode(), namespace="a", key=f"{i}")

        async def read(i: int) -> None:
            assert (await Guest(there, POLICY)("kv.get", namespace="a", key=f"{i}"))[1] == f"value {i}".encode()

        for turn in range(40):
            tasks = [asyncio.create_task(read(i)) for i in range(20)]
            for _ in range(turn % 10):
                await asyncio.sleep(0)
            if turn % 3 == 0:
                await asyncio.sleep(0.0005)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(each) for each in results} <= {type(None), asyncio.CancelledError}
            assert results[1::2] == [None] * 10


def on(url: str) -> Store:
    return open_store(CapabilitySettings(kv_url=url))


keys = st.text(alphabet="ab{}:é", min_size=1, max_size=3)
steps = st.one_of(
    st.tuples(st.just("set"), keys, st.binary(max_size=4) | st.integers().map(lambda n: b"%d" % n)),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("increment"), keys, st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just("cas"), keys, st.binary(max_size=2), st.booleans()),
    st.tuples(st.just("list"), keys | st.just(""), keys | st.just(""), st.integers(1, 3)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(steps, max_size=12))
def test_both_backends_do_the_same(script: list[tuple[object, ...]], redis_url: str) -> None:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()

    async def play(url: str) -> list[object]:
        seen: list[object] = []
        async with capabilities(kv_url=url) as there:
            guest = Guest(there, POLICY)
            for name, key, *rest in script:
                if name == "list":
                    fields: dict[str, Any] = {"prefix": key, "cursor": rest[0], "limit": rest[1]}
                    seen.append(await guest("kv.list", namespace="a", **fields))
                    continue
                if name == "increment":
                    result = await guest("kv.increment", namespace="a", key=key, by=rest[0])
                elif name == "cas":
                    etag = (await guest("kv.get", namespace="a", key=key))[0].get("etag") if rest[1] else "0"
                    result = await guest("kv.cas", rest[0], namespace="a", key=key, etag=etag)  # type: ignore[arg-type]
                elif name == "set":
                    result = await guest("kv.set", rest[0], namespace="a", key=key)  # type: ignore[arg-type]
                else:
                    result = await guest("kv.delete", namespace="a", key=key)
                if not result[0]["ok"]:
                    result[0]["error"].pop("message")
                seen += [result, await guest("kv.get", namespace="a", key=key)]
        return seen

    assert asyncio.run(play("sqlite://")) == asyncio.run(play(redis_url))


async def test_a_full_file_says_so_and_goes_on(tmp_path: Path) -> None:
    async with capabilities(kv_url=f"sqlite:///{tmp_path / 'kv.db'}", max_store_bytes=1 << 20) as there:
        guest = Guest(there, POLICY)
        codes = set()
        for i in range(40):
            header, _ = await guest("kv.set", bytes(100_000), namespace="a", key=f"{i}")
            codes.add("ok" if header["ok"] else header["error"]["code"])
        assert codes == {"ok", "store-full"}
        assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 8 << 20
        assert await guest.fields("kv.delete", namespace="a", key="0") == {"deleted": True}
        await guest.fields("kv.set", bytes(50_000), namespace="a", key="small")


async def test_what_is_expired_makes_room(tmp_path: Path) -> None:
    async with capabilities(kv_url=f"sqlite:///{tmp_path / 'kv.db'}", max_store_bytes=1 << 20) as there:
        guest = Guest(there, POLICY)
        for i in range(60):
            await guest.fields("kv.set", bytes(100_000), namespace="a", key=f"{i}", ttlMs=1)
            await asyncio.sleep(0.002)


async def test_a_locked_file_is_an_error_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starlette_wasm.capabilities.sqlite._BUSY_SECONDS", 0.05)
    file = tmp_path / "kv.db"
    async with capabilities(kv_url=f"sqlite:///{file}") as there:
        guest = Guest(there, POLICY)
        await guest.fields("kv.set", b"1", namespace="a", key="k")
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused = await guest.error("kv.set", b"2", namespace="a", key="k")
        assert refused == ("capability-unavailable", "kv store is not available")
        assert (await guest("kv.get", namespace="a", key="k"))[1] == b"1"
        other.execute("ROLLBACK")
        other.close()
        await guest.fields("kv.set", b"2", namespace="a", key="k")


async def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "kv.db"
    async with capabilities(kv_url=f"sqlite:///{file}") as there:
        there.grants(POLICY)
        await there.open()
        await Guest(there, POLICY).fields("kv.set", b"1", namespace="a", key="k")
        assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}


async def test_no_redis_is_an_error_value() -> None:
    async with capabilities(kv_url="redis://127.0.0.1:1/0") as there:
        there.grants(POLICY)
        await there.open()
        refused = await Guest(there, POLICY).error("kv.get", namespace="a", key="k")
        assert refused == ("capability-unavailable", "kv store is not available")


async def test_a_full_redis_says_so(flushed_redis: str) -> None:
    import redis

    async with capabilities(kv_url=flushed_redis) as there:
        guest = Guest(there, POLICY)
        await guest.fields("kv.set", b"1", namespace="a", key="k")
        with redis.Redis.from_url(flushed_redis) as client:
            client.config_set("maxmemory", "1")
            try:
                for operation in ("kv.set", "kv.cas", "kv.increment"):
                    refused = await guest.error(operation, namespace="a", key="new")
                    assert refused == ("store-full", "kv store is full")
            finally:
                client.config_set("maxmemory", "0")
        assert (await guest("kv.get", namespace="a", key="k"))[1] == b"1"


async def test_a_redis_that_does_not_answer_ends_with_the_deadline(flushed_redis: str) -> None:
    import redis

    async with capabilities(kv_url=flushed_redis) as there:
        await Guest(there, POLICY).fields("kv.set", b"1", namespace="a", key="k")
        with redis.Redis.from_url(flushed_redis) as client:
            client.client_pause(500)
            guest = Guest(there, POLICY, seconds=0.1)
            assert await guest.error("kv.increment", namespace="a", key="k") == ("timeout", "timed out")
            client.client_unpause()
        assert (await Guest(there, POLICY)("kv.get", namespace="a", key="k"))[0]["found"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "unknown scheme"),
        ("mysql://x/y", "unknown scheme 'mysql'"),
        ("sqlite:kv.db", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///kv.db?mode=ro", "names no file"),
        ("redis://127.0.0.1:port/", "not a URL of Redis"),
        ("sqlite:////nowhere/at/all/kv.db", "cannot be used"),
    ],
)
async def test_a_wrong_url_is_a_config_error_once_it_is_needed(url: str, problem: str) -> None:
    there = Capabilities(CapabilitySettings(kv_url=url, queue_url=url))
    there.grants(SandboxPolicy())
    await there.open()

    async def need() -> None:
        there.grants(POLICY)
        await there.open()

    with pytest.raises(ConfigError, match=f"kv_url: .*{problem}"):
        await need()
    await there.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
async def test_a_forked_child_gets_a_connection_of_its_own(tmp_path: Path) -> None:
    store = on(f"sqlite:///{tmp_path / 'kv.db'}")
    await store.set("a", b"k", b"parent", None)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=lambda: asyncio.run(store.set("a", b"k", b"child", None)))
    process.start()
    await asyncio.to_thread(process.join, 20)
    assert process.exitcode == 0
    assert await store.get("a", b"k") == b"child"
    await store.close()


async def test_a_large_value_of_others_is_not_fetched(flushed_redis: str) -> None:
    import redis

    async with capabilities(kv_url=flushed_redis) as there:
        guest = Guest(there, POLICY)
        with redis.Redis.from_url(flushed_redis) as client:
            client.set("starlette-wasm:kv:{a}:value:k", bytes(MAX_VALUE_BYTES + 1))
        assert (await guest.error("kv.get", namespace="a", key="k"))[0] == "capability-unavailable"
        assert await guest.fields("kv.cas", b"1", namespace="a", key="k", etag="x") == {"swapped": False}


async def test_keys_of_others_that_are_too_long_are_not_listed(flushed_redis: str) -> None:
    import redis

    async with capabilities(kv_url=flushed_redis) as there:
        guest = Guest(there, POLICY)
        await guest.fields("kv.set", b"1", namespace="a", key="k")
        with redis.Redis.from_url(flushed_redis) as client:
            client.zadd("starlette-wasm:kv:{a}:keys", {b"j" * 1_000_000: 0})
        assert await guest.fields("kv.list", namespace="a") == {"keys": ["k"], "cursor": None}


async def test_large_results_are_made_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest has chosen how large its keys and values are."""
    here, seen = threading.get_ident(), list[tuple[str, bool]]()

    def noted(module: Any, name: str) -> None:
        plain = getattr(module, name)

        def call(*given: Any) -> Any:
            seen.append((name, threading.get_ident() == here))
            return plain(*given)

        monkeypatch.setattr(module, name, call)

    async with capabilities() as there:
        guest = Guest(there, POLICY)
        for number in range(300):
            await guest.fields("kv.set", b"1", namespace="a", key=f"{number:03}" + "\x01" * 400)
        noted(frame, "encode"), noted(actions, "etag")
        call = guest.session.call
        for operation, body, fields in (
            ("kv.list", b"", {}),
            ("kv.set", bytes(MAX_VALUE_BYTES), {"key": "k"}),
            ("kv.get", b"", {"key": "k"}),
        ):
            payload = frame.encode({"namespace": "a", **fields}, body)
            seen.clear()
            answer = await call(operation, payload)
            assert answer[4:14] == b'{"ok":true'
            assert dict(seen).get("etag") is (None if operation == "kv.list" else False)
            assert dict(seen)["encode"] is (operation == "kv.set")  # whose answer is short
        assert answer.endswith(bytes(MAX_VALUE_BYTES))
