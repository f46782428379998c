from __future__ import annotations

import ast
import asyncio
import logging
import tracemalloc
from pathlib import Path

import pytest
from capability_guest import Guest, capabilities

import starlette_wasm.capabilities as package
from starlette_wasm.capabilities import Capabilities, Operation, frame
from starlette_wasm.config.policy import SandboxPolicy

POLICY = SandboxPolicy(kv_namespaces=["a"])

pytestmark = pytest.mark.anyio


async def test_operations_have_a_number_and_a_name() -> None:
    assert {each.title: int(each) for each in Operation} == {
        "http.fetch": 1,
        "kv.get": 2,
        "kv.set": 3,
        "kv.delete": 4,
        "kv.list": 5,
        "kv.increment": 6,
        "kv.cas": 7,
        "queue.publish": 8,
        "trace.start": 9,
        "trace.end": 10,
        "trace.set": 11,
        "trace.event": 12,
    }
    async with capabilities() as there:
        guest = Guest(there, POLICY)
        assert await guest.fields(6, namespace="a", key="n") == {"value": 1}  # type: ignore[arg-type]
        for unknown in (0, 13, -1, 2**31, "", "kv.GET", "kv_get"):
            assert (await guest.error(unknown))[0] == "unknown-operation"  # type: ignore[arg-type]


async def test_calls_are_counted_and_bounded() -> None:
    async with capabilities(max_calls=3) as there:
        guest = Guest(there, POLICY)
        await guest.error("kv.get", namespace="b", key="k")
        await guest.error("nothing")
        await guest.fields("kv.get", namespace="a", key="k")
        refused = await guest.error("kv.get", namespace="a", key="k")
        assert refused == ("calls-exceeded", "too many calls: at most 3 in an invocation")
        assert guest.session.usage.calls == 3
        assert [each.code for each in guest.session.violations] == ["kv-namespace-not-allowed", "calls-exceeded"]
        await Guest(there, POLICY).fields("kv.get", namespace="a", key="k")


async def test_bytes_are_counted_in_both_directions_and_bounded() -> None:
    async with capabilities(max_bytes=10_000) as there:
        guest = Guest(there, POLICY)
        await guest.fields("kv.set", bytes(6000), namespace="a", key="k")
        assert (await guest.error("kv.get", namespace="a", key="k"))[0] == "bytes-exceeded"
        assert (await guest.error("kv.set", bytes(6000), namespace="a", key="other"))[0] == "bytes-exceeded"
        assert 6000 < guest.session.usage.bytes <= 10_000
        assert await Guest(there, POLICY).fields("kv.get", namespace="a", key="other") == {"found": False}


async def test_violations_kept_are_bounded() -> None:
    async with capabilities() as there:
        guest = Guest(there, POLICY)
        for _ in range(300):
            await guest.error("kv.get", namespace="b" * 1000, key="k")
        assert len(guest.session.violations) == 100
        assert len(guest.session.violations[0].message) < 200


async def test_a_call_past_the_deadline_times_out() -> None:
    async with capabilities() as there:
        guest = Guest(there, POLICY, seconds=-1)
        assert (await guest.error("kv.get", namespace="a", key="k"))[0] == "timeout"


async def test_deadlines_can_be_moved() -> None:
    async with capabilities() as there:
        guest = Guest(there, POLICY, seconds=-1)
        guest.session.postpone(3600)
        assert await guest.fields("kv.get", namespace="a", key="k") == {"found": False}


async def test_a_fault_of_the_host_is_logged_and_says_nothing_to_the_guest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*arguments: object) -> None:
        raise RuntimeError("secret")

    async with capabilities() as there:
        monkeypatch.setattr(Capabilities, "call", broken)
        with caplog.at_level(logging.ERROR, "starlette_wasm"):
            assert await Guest(there, POLICY).error("kv.get", namespace="a", key="k") == ("internal", "internal error")
        assert "secret" in caplog.text


async def test_cancellation_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    async def waits(*arguments: object) -> None:
        await asyncio.sleep(600)

    async with capabilities() as there:
        monkeypatch.setattr(Capabilities, "call", waits)
        task = asyncio.create_task(Guest(there, POLICY)("kv.get", namespace="a", key="k"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_every_public_name_is_listed_and_sorted() -> None:
    assert package.__all__ == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


def test_the_room_knows_nothing_of_engine_serving_and_tracing() -> None:
    known = {"config", "exceptions", "sync"}
    for file in Path(str(package.__file__)).parent.rglob("*.py"):
        depth = len(file.relative_to(Path(str(package.__file__)).parent).parts)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level > depth:
                assert (node.module or "").partition(".")[0] in known, file
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not any(name.split(".")[0] in ("starlette", "opentelemetry", "wasmtime") for name in names), file


@pytest.mark.parametrize(
    ("operation", "header"),
    [
        ("http.fetch", {"url": "https://elsewhere.example/"}),
        ("kv.set", {"namespace": "b", "key": "k"}),
        ("kv.get", {"namespace": "a", "key": "k"}),
        ("kv.set", {"namespace": "a", "key": "k"}),
        ("queue.publish", {"queue": "q"}),
        ("kv.nothing", {}),
    ],
)
async def test_what_is_refused_copies_no_body(operation: str, header: dict[str, object]) -> None:
    body = bytes(8 << 20)
    payload = frame.encode(header, body)
    async with capabilities() as there:
        session = Guest(there, POLICY).session
        tracemalloc.start()
        try:
            answer = session.take(operation, memoryview(payload), 64 << 20)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert isinstance(answer, bytes)
    assert b'"ok":false' in answer
    assert peak < 1 << 20


async def test_a_payload_beside_full_memory_is_refused() -> None:
    async with capabilities() as there:
        session = Guest(there, POLICY).session
        payload = memoryview(frame.encode({"namespace": "a", "key": "k"}, bytes(1000)))
        answer = session.take("kv.set", payload, 999)
        assert isinstance(answer, bytes)
        assert b"payload too large: more than 999 bytes beside the memory" in answer
        answer = session.take("kv.set", payload, 1000)
        assert not isinstance(answer, bytes)
        assert b'"ok":true' in await answer()


async def test_a_result_beside_full_memory_is_refused() -> None:
    async with capabilities() as there:
        guest = Guest(there, POLICY)
        await guest.fields("kv.set", bytes(1000), namespace="a", key="k")
        payload = memoryview(frame.encode({"namespace": "a", "key": "k"}))
        answer = guest.session.take("kv.get", payload, 999)
        assert not isinstance(answer, bytes)
        assert b"result too large: more than 999 bytes" in await answer()
