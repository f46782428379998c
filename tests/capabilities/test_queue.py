from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from pathlib import Path

import pytest
from capability_guest import Guest, capabilities
from servers import server

from starlette_wasm.capabilities.queue import MAX_MESSAGE_BYTES, SqliteOutbox, sqlite
from starlette_wasm.config.policy import SandboxPolicy

POLICY = SandboxPolicy(queues=["mail", "audit"])

pytestmark = pytest.mark.anyio


async def test_messages_get_ids_in_order(queue_url: str) -> None:
    async with capabilities(queue_url=queue_url) as there:
        guest = Guest(there, POLICY)
        ids = [(await guest.fields("queue.publish", b"x", queue="mail"))["id"] for _ in range(3)]
        assert len(set(ids)) == 3
        assert all(isinstance(each, str) for each in ids)


async def test_bounds_of_messages(queue_url: str) -> None:
    async with capabilities(queue_url=queue_url) as there:
        guest = Guest(there, POLICY)
        most = {f"{i}": "x" * 1000 for i in range(32)}
        await guest.fields("queue.publish", bytes(MAX_MESSAGE_BYTES), queue="mail", attributes=most)
        await guest.fields("queue.publish", queue="mail", attributes={"": "", "é\0": "\U0001f600"})
        assert (await guest.error("queue.publish", bytes(MAX_MESSAGE_BYTES + 1), queue="mail"))[0] == "too-large"
        for attributes in ({**most, "x": ""}, {"x": "y" * 1024}, {"x": ["y", "z"]}, {"x": 1}, ["x"], "x"):
            assert (await guest.error("queue.publish", queue="mail", attributes=attributes))[0] == "bad-request"


async def test_a_queue_off_the_list_is_refused_and_noted(queue_url: str) -> None:
    async with capabilities(queue_url=queue_url) as there:
        for policy in (POLICY, SandboxPolicy()):
            guest = Guest(there, policy)
            refused = ("queue-not-allowed", "queue not allowed: other\\x0a")
            assert await guest.error("queue.publish", queue="other\n") == refused
            assert [(each.code, each.message) for each in guest.session.violations] == [refused]


async def test_a_consumer_claims_and_acknowledges(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'queue.db'}"
    async with capabilities(queue_url=url) as there:
        guest = Guest(there, POLICY)
        for i in range(3):
            await guest.fields("queue.publish", b"%d" % i, queue="mail", attributes={"n": f"{i}"})
        await guest.fields("queue.publish", b"other", queue="audit")
        outbox, other = SqliteOutbox(tmp_path / "queue.db"), SqliteOutbox(tmp_path / "queue.db")

        first = await outbox.claim("mail", limit=2)
        assert [(each.body, each.attributes, each.attempts) for each in first] == [
            (b"0", {"n": "0"}, 1),
            (b"1", {"n": "1"}, 1),
        ]
        assert [each.body for each in await other.claim("mail")] == [b"2"]
        assert await outbox.claim("mail") == []
        assert await outbox.ack(first[:1]) == 1
        assert await outbox.ack(first[:1]) == 0
        assert await outbox.release(first[1:]) == 1
        (again,) = await other.claim("mail", lease=0.05)
        assert (again.body, again.attempts) == (b"1", 2)
        assert await outbox.ack(first[1:]) == 0  # another has it now
        await asyncio.sleep(0.06)
        (last,) = await outbox.claim("mail")
        assert (last.id, last.attempts) == (again.id, 3)
        assert await other.ack([again]) == 0
        assert await outbox.ack([last]) == 1
        assert [each.queue for each in await outbox.claim("audit")] == ["audit"]
        await outbox.close()
        await other.close()


async def test_consumers_share_without_doubles(tmp_path: Path) -> None:
    publisher = SqliteOutbox(tmp_path / "queue.db")
    for i in range(100):
        await publisher.publish("mail", b"%d" % i, {})

    async def consume() -> list[bytes]:
        outbox, seen = SqliteOutbox(tmp_path / "queue.db"), []
        while messages := await outbox.claim("mail", limit=7):
            seen += [each.body for each in messages]
            assert await outbox.ack(messages) == len(messages)
        await outbox.close()
        return seen

    shares = await asyncio.gather(*(consume() for _ in range(4)))
    assert sorted(itertools.chain(*shares), key=int) == [b"%d" % i for i in range(100)]
    await publisher.close()


async def test_a_full_outbox_is_an_error_value(tmp_path: Path) -> None:
    async with capabilities(queue_url=f"sqlite:///{tmp_path / 'queue.db'}", max_store_bytes=1 << 20) as there:
        guest = Guest(there, POLICY)
        for _ in range(3):
            await guest("queue.publish", bytes(500_000), queue="mail")
        assert await guest.error("queue.publish", bytes(500_000), queue="mail") == ("store-full", "queue is full")


async def test_a_stream_holds_body_and_attributes_and_is_bounded(flushed_redis: str) -> None:
    import redis

    async with capabilities(queue_url=flushed_redis, max_queue_length=200) as there:
        guest = Guest(there, POLICY)
        id = (await guest.fields("queue.publish", b"\xff\0", queue="mail", attributes={"é": "1"}))["id"]
        with redis.Redis.from_url(flushed_redis) as client:
            ((found, entry),) = client.xrange("starlette-wasm:queue:mail")
            assert found.decode() == id
            assert (entry[b"body"], json.loads(entry[b"attributes"])) == (b"\xff\0", {"é": "1"})
            for _ in range(900):
                await guest.fields("queue.publish", queue="mail")
            assert 200 <= client.xlen("starlette-wasm:queue:mail") < 400


async def test_no_redis_is_an_error_value() -> None:
    async with capabilities(queue_url="redis://127.0.0.1:1/0") as there:
        refused = await Guest(there, POLICY).error("queue.publish", queue="mail")
        assert refused == ("capability-unavailable", "queue is not available")


async def test_a_subject_holds_body_and_attributes_and_is_bounded(nats_url: str) -> None:
    import nats
    from nats.js.errors import NotFoundError

    client = await nats.connect(nats_url)
    stream = client.jetstream()
    with contextlib.suppress(NotFoundError):
        await stream.delete_stream("starlette-wasm-queue")
    policy = SandboxPolicy(queues=["mail", "a.b..c."])
    async with capabilities(queue_url=nats_url, max_queue_length=3) as there:
        guest = Guest(there, policy)
        for i in range(5):
            await guest.fields("queue.publish", b"\xff%d" % i, queue="mail", attributes={"é": f"{i}"})
        id = (await guest.fields("queue.publish", b"other", queue="a.b..c."))["id"]
    held = await stream.pull_subscribe("starlette-wasm.queue.mail", durable="test")
    messages = await held.fetch(3, timeout=60)
    assert (await held.consumer_info()).num_pending == 0  # there are no more
    assert [each.data for each in messages] == [b"\xff2", b"\xff3", b"\xff4"]
    assert [json.loads((each.headers or {})["Starlette-Wasm-Attributes"]) for each in messages] == [
        {"é": "2"},
        {"é": "3"},
        {"é": "4"},
    ]
    other = await stream.get_msg("starlette-wasm-queue", int(id))
    assert (other.subject, other.data) == ("starlette-wasm.queue.a.b%2E.c%2E", b"other")
    await client.close()


async def test_a_lost_nats_server_is_an_error_value_until_it_is_back(tmp_path: Path) -> None:
    options = ["--addr", "127.0.0.1", "--jetstream", "--store_dir", str(tmp_path)]
    with server("nats-server", *options, folder=tmp_path) as port:
        there = capabilities(queue_url=f"nats://127.0.0.1:{port}")
        guest_there = await there.__aenter__()
        guest = Guest(guest_there, POLICY)
        assert (await guest.fields("queue.publish", queue="mail"))["id"] == "1"
        too_large = ("too-large", "message too large for the queue's server (max_payload)")
        assert (
            await guest.error("queue.publish", bytes(MAX_MESSAGE_BYTES), queue="mail", attributes={"a": "b"})
            == too_large
        )
    assert (await guest.error("queue.publish", queue="mail"))[0] == "capability-unavailable"
    with server("nats-server", *options, folder=tmp_path, port=port):
        assert (await guest.fields("queue.publish", queue="mail"))["id"] == "2"
        await there.__aexit__(None, None, None)


async def test_no_nats_is_an_error_value() -> None:
    async with capabilities(queue_url="nats://127.0.0.1:1") as there:
        refused = await Guest(there, POLICY).error("queue.publish", queue="mail")
        assert refused == ("capability-unavailable", "queue is not available")


async def test_a_stream_of_others_is_refused(tmp_path: Path) -> None:
    import nats

    options = ["--addr", "127.0.0.1", "--jetstream", "--store_dir", str(tmp_path)]
    with server("nats-server", *options, folder=tmp_path) as port:
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        await client.jetstream().add_stream(name="others", subjects=["starlette-wasm.queue.>"])
        async with capabilities(queue_url=f"nats://127.0.0.1:{port}") as there:
            for _ in range(2):
                assert (await Guest(there, POLICY).error("queue.publish", queue="mail"))[0] == "capability-unavailable"
        assert (await client.jetstream().stream_info("others")).state.messages == 0
        await client.close()


async def test_a_claim_survives_a_clock_that_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = SqliteOutbox(tmp_path / "queue.db")
    await outbox.publish("mail", b"one", {})
    right = time.time_ns
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: right() + 3600 * 10**9)
        assert len(await outbox.claim("mail", lease=0.05)) == 1
    await asyncio.sleep(0.06)
    assert len(await outbox.claim("mail", lease=3600)) == 1
    monkeypatch.setattr(time, "time_ns", lambda: right() + 7200 * 10**9)
    assert await outbox.claim("mail") == []
    await outbox.close()


async def test_a_claim_ends_with_a_restart_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = SqliteOutbox(tmp_path / "queue.db")
    await outbox.publish("mail", b"one", {})
    assert len(await outbox.claim("mail", lease=3600)) == 1
    assert await outbox.claim("mail") == []
    monkeypatch.setattr(sqlite, "_boot", lambda: 7)
    [again] = await outbox.claim("mail")
    assert again.attempts == 2
    await outbox.close()
