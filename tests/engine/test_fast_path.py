"""What fast_path.c does beside the text: fresh clocks and keys, its place among the guests, what it keeps."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import command

from starlette_wasm.asgi import scope as scopes
from starlette_wasm.engine import capi
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.fast_path import NOT_TAKEN, Completed, FastPath, NotTaken, Speech, Started, fits
from starlette_wasm.engine.invocation import Invocation
from starlette_wasm.engine.loop_time import LoopTime
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.native.library import native
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits, Plan, Preopen
from starlette_wasm.engine.scratch import Scratch
from starlette_wasm.engine.ticker import Ticker
from starlette_wasm.exceptions import RequestTooLarge
from starlette_wasm.protocols.edge import EdgeProtocol

pytestmark = pytest.mark.native
Wat = Callable[[str], Module]
SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"a.org")]}
NOT_GROWN = -2


def fast_path(module: Module, **limits: Any) -> FastPath:
    return FastPath(Plan(module, Limits(**limits)), Speech("edge", EdgeProtocol().end("f", "1", 5000)), ())


def constant(stdout: str) -> str:
    """The text of a guest that prints this."""
    escaped = "".join(f"\\{byte:02x}" for byte in stdout.encode())
    return command(
        f"(call $print (i32.const 0) (i32.const {len(stdout.encode())}))", more=f'(data (i32.const 0) "{escaped}")'
    )


HELLO = constant(json.dumps({"status_code": 200, "headers": {"content-type": "text/plain"}, "body": "hello\n"}))
HELLO_ANSWER = b'{"status_code":200,"body":"hello"}'


LONG = 1_390_000
"""What 1 MiB takes in base64, nearly."""


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ({"body": "QUFB" * (LONG // 4), "is_base64_encoded": True}, b"AAA" * (LONG // 4)),
        ({"body": "A" * LONG}, b"A" * LONG),
        ({"body": "A" * LONG + "\n"}, None),
        ({"body": "é" * (LONG // 2)}, None),
        ({"body": "A" * (LONG + 100_000)}, None),
    ],
    ids=["base64", "ascii", "escape", "utf-8", "longer"],
)
def test_long_answers_are_read_if_that_is_soon_done(wat: Wat, answer: dict[str, Any], read: bytes | None) -> None:
    stdout = json.dumps({"status_code": 200} | answer, ensure_ascii=False).encode()
    found = fast_path(wat(HELLO)).decode(stdout, "r", "GET")
    assert (found and found[2]) == read


READS = command(
    """(drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 1) (i32.const 0)
        (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 16)))
      (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 4096))
      (drop (call $fd_read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
      (call $print (i32.const 1024) (i32.load (i32.const 8)))""",
    "path_open",
    "fd_read",
    more='(data (i32.const 512) "a")',
)
"""Prints the file ``a`` of the first directory that is granted."""


async def come(found: Completed | Started | NotTaken) -> Outcome:
    assert isinstance(found, Started)
    return await found.invocation.run(time.monotonic() + 60, nullcontext)


async def freed(engine: Engine) -> None:
    """Until the memory of ended guests is given back."""
    async with asyncio.timeout(60):
        while engine.reclaimer.waiting:
            await asyncio.sleep(0.002)


def printed(asked: FastPath, path: str = "/") -> bytes:
    """By a guest that prints no answer."""

    async def main() -> bytes:
        asked._plan.memory.cpu_score = 0  # as in answered()
        outcome = await come(asked.dispatch(SCOPE, path, {}, b"", ""))
        assert outcome.end is End.OK
        return outcome.stdout

    return asyncio.run(main())


def answered(asked: FastPath, body: bytes = b"") -> Completed | Started | NotTaken:
    async def main() -> Completed | Started | NotTaken:
        asked._plan.memory.cpu_score = 0  # where the machine is busy, the guest seems to take long
        return asked.dispatch(SCOPE, "/", {}, body, "")

    return asyncio.run(main())


def test_each_request_has_a_key_of_its_own(wat: Wat) -> None:
    asked = fast_path(wat(command("(drop (call $random_get (i32.const 0) (i32.const 32))) (call $print (i32.const 0) "
                              "(i32.const 32))", "random_get")))  # fmt: skip
    drawn = {printed(asked) for _ in range(50)}
    assert len(drawn) == 50
    assert {len(each) for each in drawn} == {32}


def test_each_request_sees_the_time(wat: Wat) -> None:
    asked = fast_path(
        wat(
            command(
                """(drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 0)))
                   (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 8)))
                   (drop (call $clock_time_get (i32.const 2) (i64.const 1) (i32.const 16)))
                   (call $print (i32.const 0) (i32.const 24))""",
                "clock_time_get",
            )
        )
    )
    before = (0, 0)
    for _ in range(3):
        earliest = time.time_ns(), time.monotonic_ns()
        seen = printed(asked)
        latest = time.time_ns(), time.monotonic_ns()
        realtime, monotonic, cpu = (int.from_bytes(seen[at : at + 8], "little") for at in (0, 8, 16))
        for now, least, most in zip((realtime, monotonic), earliest, latest, strict=True):
            assert now % 1_000_000 == 0
            assert least - 1_000_000 < now <= most
        assert cpu <= latest[1] - earliest[1] + 1_000_000  # of this guest alone; 0 if it was not interrupted
        assert (realtime, monotonic) > before
        before = realtime, monotonic
        time.sleep(0.003)


def test_ids_differ(wat: Wat) -> None:
    asked = fast_path(wat(HELLO))
    ids = set()
    for _ in range(50):
        found = answered(asked)
        assert not isinstance(found, NotTaken)
        if isinstance(found, Started):  # the machine was busy elsewhere for two milliseconds
            found.invocation.drop()
        ids.add(found.request_id if isinstance(found.request_id, str) else found.request_id.decode())
    assert len(ids) == 50


def test_a_closed_module_is_left_to_python(engine: Engine) -> None:
    module = Module.compile(engine, capi.assemble(HELLO))
    asked = fast_path(module)
    assert isinstance(answered(asked), Completed)
    module.close()
    assert answered(asked) is NOT_TAKEN
    assert engine.state.live == 0


def test_where_there_is_no_room_it_is_left_to_python(engine: Engine, monkeypatch: pytest.MonkeyPatch, wat: Wat) -> None:
    asked = fast_path(wat(HELLO))
    monkeypatch.setattr(engine.state, "live", engine.config.max_instances)
    assert answered(asked) is NOT_TAKEN


def test_outside_of_a_loop_nothing_is_held(wat: Wat) -> None:
    engine = Engine.shared(EngineConfig(max_instances=3))
    asked = fast_path(Module.compile(engine, capi.assemble(HELLO)))
    with pytest.raises(RuntimeError, match="no running event loop"):
        asked.dispatch(SCOPE, "/", {}, b"", "")
    assert engine.state.live == 0
    assert engine.state.scratch


def test_a_guest_that_is_given_up_leaves_nothing(engine: Engine, wat: Wat) -> None:
    module = wat(command("unreachable"))
    asked, scratches = fast_path(module), len(engine.scratches)
    for _ in range(3):
        found = answered(asked)
        assert isinstance(found, Started)
        assert engine.state.live == 1
        assert len(module.live) == 1
        found.invocation.start()
        found.invocation.close()
        assert engine.state.live == 0
        assert not module.live
    assert len(engine.scratches) == max(scratches, 1)


@pytest.mark.parametrize("body", ["unreachable", "(loop $on (br $on))", ""])
def test_one_that_nobody_goes_on_with_can_be_closed(body: str) -> None:
    engine = Engine.shared(EngineConfig(max_instances=3))
    module = Module.compile(engine, capi.assemble(command(body)))
    asked = fast_path(module)
    for _ in range(4):
        found = answered(asked)
        assert isinstance(found, Started)
        found.invocation.close()
        assert engine.state.live == 0
        assert not module.live
    # The pool has room for three: none of the four is left in it.
    started = [answered(asked) for _ in range(3)]
    for found in started:
        assert isinstance(found, Started)
        found.invocation.start()
        found.invocation.close()


def test_guests_that_may_wait_for_a_disk_are_not_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, wat: Wat, guest: Wat
) -> None:
    granted = (Preopen(str(tmp_path), "/data", True),)
    assert fits(Plan(wat(HELLO), Limits()))
    assert fits(Plan(guest("poll"), Limits()))
    assert fits(Plan(wat(READS), Limits(), preopens=granted))
    assert not fits(Plan(guest("files"), Limits(), preopens=granted))
    # A ticker of Python would wait for the GIL for as long as the guest runs.
    monkeypatch.setattr(Ticker, "native", False)
    assert not fits(Plan(wat(HELLO), Limits()))


@pytest.mark.parametrize("size", [1 << 32, (1 << 32) - 1, (1 << 32) - 2000, 1 << 33])
def test_what_32_bits_do_not_reach_is_not_copied(wat: Wat, size: int) -> None:
    """Of such an input nothing is read: there is not as much of it here."""
    plan, scratch = Plan(wat(HELLO), Limits()), Scratch()
    assert native is not None
    assert native.begin(scratch.at, plan.at, plan.template, len(plan.template), b"", 0, b"", size) == NOT_GROWN
    assert "failed to grow memory" in capi.take_error(scratch.error.value or 0)
    scratch.error.value = None
    capi.store_delete(scratch.owned()[0])


# Names, values and limits as body_follows() may find them.
_SIZES = st.sampled_from(
    [b"0", b"7", b"100", b"101", b"0" * 18 + b"1", b"9" * 18, b"9" * 19, b"", b"-1", b"\xb2", b"1 "]
)
_NAMES = st.sampled_from([b"expect", b"content-length", b"Content-Length", b"transfer-encoding", b"a", b""])
_PAIR = st.tuples(_NAMES, _SIZES)
_HEADERS = st.lists(_PAIR | _PAIR.map(list), max_size=4)
_HEADS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "HEAD", "POST", "get"]),
        "path": st.sampled_from(["/", "/\xe4" * 1000]),
        "headers": _HEADERS | _HEADERS.map(tuple),
    },
    optional={
        "query_string": st.sampled_from([b"", b"a=b", b"x" * (scopes.MAX_HEAD - 100)]),
        "http_version": st.sampled_from(["1.0", "1.1", "2", "3", ""]),
    },
)


def _follows(scope: Any, limit: int) -> bool | str:
    """In Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scopes, "native", None)
        try:
            return scopes.body_follows(scope, limit)
        except RequestTooLarge as error:
            return str(error)


@given(_HEADS, st.sampled_from([0, 6, 7, 100, 1 << 30]))
def test_whether_a_body_follows_is_known_as_by_python(scope: Any, limit: int) -> None:
    assert native is not None
    found = native.follows(scope, limit, scopes.MAX_HEAD)
    assert found is None or found is _follows(scope, limit)


@pytest.mark.parametrize(
    ("version", "headers", "follows"),
    [
        ("1.1", [], False),
        ("1.0", [(b"a", b"bc")], False),
        ("1.1", [(b"content-length", b"0")], False),
        ("1.1", [(b"content-length", b"5")], True),
        ("1.1", [(b"transfer-encoding", b"chunked")], True),
        ("1.1", [(b"content-length", b"0"), (b"transfer-encoding", b"chunked")], True),
        ("2", [], True),
        ("2", [(b"content-length", b"0")], True),
        ("3", [], True),
    ],
)
def test_whether_a_body_follows(version: str, headers: Any, follows: bool) -> None:
    assert native is not None
    scope = {"method": "GET", "path": "/", "http_version": version, "headers": headers}
    assert native.follows(scope, 100, 1000) is follows
    assert _follows(scope, 100) is follows
    assert native.follows({**scope, "method": "HEAD"}, 100, 1000) is follows
    assert native.follows({**scope, "method": "POST"}, 100, 1000) is True


def test_a_head_or_a_body_that_is_too_large_is_left_to_python() -> None:
    assert native is not None
    large = {"method": "GET", "path": "/", "http_version": "1.1", "headers": [(b"content-length", b"101")]}
    assert native.follows(large, 100, 1000) is None
    assert native.follows({**large, "headers": [], "query_string": bytes(1000)}, 100, 1000) is None
    assert native.follows({**large, "headers": [], "query_string": bytes(999)}, 100, 1000) is False


@pytest.mark.parametrize(
    "headers", [None, (), [None], [()], [(b"a",)], [("a", "b")], [[b"a", b"b"]], [(b"content-length", b"x")]]
)
def test_what_is_odd_is_left_to_python(headers: Any) -> None:
    assert native is not None
    plain = {"method": "GET", "path": "/", "http_version": "1.1", "headers": []}
    assert native.follows(plain, 100, 100) is False
    assert native.follows(plain, -1, 100) is None
    assert native.follows(plain, 1 << 70, 100) is None
    for key, odd in (("headers", headers), ("path", b"/"), ("query_string", ""), ("http_version", 1), ("method", b"")):
        assert native.follows({**plain, key: odd}, 100, 100) is None
    for key in ("headers", "path", "method"):
        assert native.follows({name: value for name, value in plain.items() if name != key}, 100, 100) is None


def test_nothing_is_kept_of_a_request(wat: Wat) -> None:
    """200,000 requests, of which each second is left to Python in one way or another."""
    value, params, body = "v-é" * 3, {"name": "parameter"}, "é".encode() * 10
    scope = {**SCOPE, "headers": [*SCOPE["headers"], (b"x-a", value.encode("latin-1")), (b"x-request-id", b"abcdef")]}
    good, bad = fast_path(wat(HELLO)), fast_path(wat(constant('{"status_code":200,"body":"\\ud800"}')))
    watched = [
        None,
        scope,
        scope["headers"],
        *scope["headers"],
        scope["headers"][1][1],
        params,
        params["name"],
        body,
        200,
    ]
    process = psutil.Process()
    paused: list[int] = []

    async def many(count: int) -> None:
        for i in range(count):
            good._plan.memory.cpu_score = bad._plan.memory.cpu_score = (
                0  # where the machine is busy, the guest seems to take long
            )
            match i % 10:
                case 0:
                    assert good.dispatch(scope, "/", params, bytearray(b"a"), "eu") is NOT_TAKEN
                case 1:
                    assert good.dispatch(scope, "/", {"a": None}, body, "eu") is NOT_TAKEN
                case 2:
                    found = bad.dispatch(scope, "/", params, body, "eu")
                    assert isinstance(found, Started)
                    found.invocation.start()
                    found.invocation.close()
                case 3:
                    assert good.dispatch({}, "/", params, body, "eu") is NOT_TAKEN
                case 4:
                    assert native is not None
                    assert native.follows(scope, 1, 100) is True
                case _:
                    found = good.dispatch(scope, "/", params, body, "eu")
                    if isinstance(found, Started):  # the machine was busy elsewhere for two milliseconds
                        found.invocation.close()
                        paused.append(i)
                    else:
                        assert type(found) is Completed

    def level() -> tuple[list[int], int]:
        gc.collect()
        return [sys.getrefcount(each) for each in watched], process.memory_info().rss

    asyncio.run(many(20_000))
    before, resident = level()
    asyncio.run(many(180_000))
    after, then = level()
    assert all(abs(one - other) < 100 for one, other in zip(before, after, strict=True)), (before, after)
    assert then - resident < 8 << 20
    assert len(paused) < 20_000

    tracemalloc.start()
    try:
        asyncio.run(many(1000))
        gc.collect()
        first = tracemalloc.get_traced_memory()[0]
        asyncio.run(many(10_000))
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - first < 20_000
    finally:
        tracemalloc.stop()


def test_nothing_is_kept_of_a_large_request(engine: Engine, wat: Wat) -> None:
    asked, process = fast_path(wat(constant("{"))), psutil.Process()
    text, control, larger = b"a" * (1 << 20), b"\0" * (1 << 20), b"a" * (1 << 20) + b"a"
    odd = {**SCOPE, "headers": [(b"host", b"[::1]")]}

    async def main() -> None:
        for scope, large, found in (
            (SCOPE, text, True),
            (odd, text, False),
            (SCOPE, control, True),
            (SCOPE, larger, False),
        ):
            resident = process.memory_info().rss
            for _ in range(8):
                started = asked.dispatch(scope, "/", {}, large, "")
                assert (started is not NOT_TAKEN) == found
                if started is not NOT_TAKEN:
                    await come(started)
                await freed(asked._plan.module.engine)
            assert process.memory_info().rss - resident < 24 << 20  # the texts of eight have 48 MiB

    asyncio.run(main())


@pytest.mark.parametrize("body", ["unreachable", "hello"])
def test_nothing_leaks_without_memory_for_the_answer(engine: Engine, wat: Wat, body: str) -> None:
    """Whatever allocation of Python's fails in the call, of a guest that traps or ends well."""
    testing = pytest.importorskip("_testcapi", reason="this Python was built without its test modules")
    module = wat(HELLO if body == "hello" else command(body))
    asked = fast_path(module)
    results = set()

    async def main() -> None:
        engine.ticker.ensure_armed()
        for fails in range(60):
            results.add(attempt(fails))
            await freed(engine)
            assert (engine.state.live, module.state.live) == (0, 0)
            assert engine.state.scratch == engine._lent.at

    def attempt(fails: int) -> object:
        asked._plan.memory.cpu_score = 0
        arguments = SCOPE, "/", {}, b"", "", None, None
        testing.set_nomemory(fails, 0)
        try:
            found = asked._dispatch(*arguments)
        except MemoryError:
            return MemoryError
        finally:
            testing.remove_mem_hooks()
        if found is not None and len(found) == 2:
            Invocation.started(asked._plan, engine.detach(), found[0]).drop()
            return Started
        return type(found)

    asyncio.run(main())
    assert MemoryError in results


def test_a_lack_of_memory_leaves_the_request_to_the_slow_path(wat: Wat) -> None:
    asked = fast_path(wat(HELLO))

    def lacks(*arguments: object) -> None:
        raise MemoryError

    asked._dispatch = lacks
    assert asked.dispatch(SCOPE, "/", {}, b"", "") is NOT_TAKEN


def test_guests_whose_answer_is_left_to_python_are_booked(wat: Wat, monkeypatch: pytest.MonkeyPatch) -> None:
    booked: list[float] = []
    monkeypatch.setattr(LoopTime, "add", lambda _, seconds: booked.append(seconds))
    assert printed(fast_path(wat(constant("no answer")))) == b"no answer"
    assert booked[0] > 0


def test_a_granted_file_is_read_before_the_first_wait(tmp_path: Path, wat: Wat) -> None:
    (tmp_path / "a").write_bytes(HELLO_ANSWER)
    plan = Plan(wat(READS), Limits(), preopens=(Preopen(str(tmp_path), "/data", False),))
    asked = FastPath(plan, Speech("edge", EdgeProtocol().end("f", "1", 5000)), ())
    for _ in range(3):  # the third with an instance that was prepared
        found = answered(asked)
        if isinstance(found, Completed):
            assert found.body == b"hello"
        else:  # the machine is busy elsewhere
            assert asyncio.run(come(found)).stdout == HELLO_ANSWER


def test_a_directory_that_is_gone_is_an_error_by_both_ways(tmp_path: Path, engine: Engine, wat: Wat) -> None:
    plan = Plan(wat(READS), Limits(), preopens=(Preopen(str(tmp_path / "gone"), "/data", False),))
    asked = FastPath(plan, Speech("edge", EdgeProtocol().end("f", "1", 5000)), ())
    with pytest.raises(OSError, match="cannot open the granted directory"):
        printed(asked)
    with pytest.raises(OSError, match="cannot open the granted directory"):
        asyncio.run(Invocation(plan, b"").run(time.monotonic() + 60, nullcontext))
    assert engine.state.live == 0


def test_a_guest_that_sleeps_is_handed_over(wat: Wat) -> None:
    body = """(i32.store8 (i32.const 8) (i32.const 0)) (i64.store (i32.const 24) (i64.const 20000000))
      (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
      (call $print (i32.const 128) (i32.const 1))"""
    begin = time.monotonic()
    assert printed(fast_path(wat(command(body, "poll_oneoff")))) == b"\x01"
    assert time.monotonic() - begin > 0.015


def test_a_guest_that_waits_may_be_dropped(engine: Engine, wat: Wat) -> None:
    body = """(i64.store (i32.const 24) (i64.const 60000000000))
      (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))"""
    asked = fast_path(wat(command(body, "poll_oneoff")))

    async def main() -> None:
        found = asked.dispatch(SCOPE, "/", {}, b"", "")
        assert isinstance(found, Started)
        with found:
            assert engine.state.live == 1
        task = asyncio.create_task(come(asked.dispatch(SCOPE, "/", {}, b"", "")))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert engine.state.live == 0
