"""Freeing what guests leave: large stores in a thread, small ones in place, each once."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from apps import eventually
from support import command

from starlette_wasm.engine import capi, instance, reclaim
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.fast_path import NOT_TAKEN, Completed, FastPath, Speech, fits
from starlette_wasm.engine.instance import Instance
from starlette_wasm.engine.invocation import Guard, Invocation, _Owner
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.native import library as native
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits, Plan
from starlette_wasm.engine.workers import Workers
from starlette_wasm.protocols.edge import EdgeProtocol
from starlette_wasm.sync.cancel_scope import CancelScope, Interrupted

Wat = Callable[[str], Module]
PAGES = 4000
LOOP_CPU = 0.010
"""Seconds of CPU that a callback may take. To free PAGES takes 17 ms at least, to fill them ten times as much."""
FILL = f"(memory.fill (i32.const 0) (i32.const 1) (i32.const {PAGES << 16}))"
SLEEP = """(i64.store (i32.const 24) (i64.const 60000000000))
  (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))"""
ENDS = {
    "well": command(FILL, pages=PAGES),
    "trap": command(f"{FILL} unreachable", pages=PAGES),
    "asleep": command(f"{FILL} (i64.store (i32.const 16) (i64.const 0)) (memory.fill (i32.const 0) (i32.const 0) "
                      f"(i32.const 64)) {SLEEP}", "poll_oneoff", pages=PAGES),
    "busy": command(f"{FILL} (loop $on (br $on))", pages=PAGES),
}  # fmt: skip
# Too far apart for an image that is mapped: each is copied. The last one does not fit.
FAILS = command("", pages=PAGES, more="".join(f'(data (i32.const {at << 25}) "{"a" * (5 << 20)}")' for at in range(7))
                + f'(data (i32.const {PAGES << 16}) "a")')  # fmt: skip


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds of CPU that the longest callback of an event loop took."""
    found, plain = [0.0], asyncio.Handle._run

    def run(handle: asyncio.Handle) -> None:
        begin = time.thread_time()
        plain(handle)  # type: ignore[arg-type]
        found[0] = max(found[0], time.thread_time() - begin)

    monkeypatch.setattr(asyncio.Handle, "_run", run)
    gc.disable()  # a pass over all that the tests hold takes long
    yield found
    gc.enable()


@pytest.fixture(params=["native", "python"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(instance, "native", None)


def plan(module: Module, seconds: float = 60) -> Plan:
    return Plan(module, Limits(memory_pages=PAGES, time=seconds))


async def run(module: Module, seconds: float = 60, guard: Guard = nullcontext) -> Outcome:
    return await Invocation(plan(module, seconds), b"").run(time.monotonic() + seconds, guard)


async def waits(engine: Engine) -> None:
    """Until the guest sleeps."""
    await eventually(lambda: engine.state.live and not engine.workers.busy and not engine.workers.waiting)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ["well", "trap", "busy", "asleep", "cancelled", "disconnected"])
def test_no_end_of_a_large_guest_holds_the_loop(engine: Engine, wat: Wat, longest: list[float], name: str) -> None:
    module = wat(ENDS.get(name, ENDS["asleep"]))

    async def main() -> None:
        await asyncio.sleep(0)
        longest[0] = 0.0
        gone = asyncio.Event()
        if name in ENDS:
            outcome = await run(module, 60 if name in ("well", "trap") else 0.5)
            assert outcome.end is {"well": End.OK, "trap": End.TRAP}.get(name, End.TIMEOUT)
        else:
            task = asyncio.create_task(run(module, guard=lambda: CancelScope(set(), gone.wait)))
            await waits(engine)
            task.cancel() if name == "cancelled" else gone.set()
            with pytest.raises((asyncio.CancelledError, Interrupted)):
                await task
        await eventually(lambda: not engine.state.live)
        assert not module.busy

    asyncio.run(main())
    assert longest[0] < LOOP_CPU


@pytest.mark.usefixtures("way")
def test_a_start_that_fails_late_is_off_the_loop(engine: Engine, wat: Wat, longest: list[float]) -> None:
    module = wat(FAILS)

    async def main() -> None:
        await asyncio.sleep(0)
        longest[0] = 0.0
        with pytest.raises(capi.EngineError, match="out of bounds"):
            await run(module)
        await eventually(lambda: not engine.state.live)

    asyncio.run(main())
    assert longest[0] < LOOP_CPU


class Seen:
    """Where stores are freed: whether on the event loop, for each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on_loop: list[bool] = []
        self.hold = threading.Event()
        self.hold.set()
        delete = capi.store_delete

        def watched(store: int) -> None:
            on_loop = asyncio._get_running_loop() is not None
            self.on_loop.append(on_loop)
            assert on_loop or self.hold.wait(60)
            delete(store)

        monkeypatch.setattr(capi, "store_delete", watched)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def sleeper(wat: Wat, pages: int) -> Plan:
    return Plan(wat(command(SLEEP, "poll_oneoff", pages=pages)), Limits(memory_pages=pages, time=0.05))


async def times_out(plan: Plan) -> None:
    """Run a guest until it sleeps, and let its time be over then: on a slow machine it might not have begun before."""
    guest = Invocation(plan, b"")
    running = asyncio.create_task(guest.run(time.monotonic() + 600, nullcontext))
    await eventually(lambda: guest._store and guest._owner is _Owner.LOOP and guest._call is None)
    guest._bound.reschedule(0)
    assert (await running).end is End.TIMEOUT


def test_small_stores_are_freed_in_place(engine: Engine, wat: Wat, seen: Seen) -> None:
    asyncio.run(times_out(sleeper(wat, 2)))
    assert seen.on_loop == [True]
    assert not engine.state.live


def test_a_guest_keeps_its_place_until_it_is_freed(engine: Engine, wat: Wat, seen: Seen) -> None:
    async def main() -> None:
        seen.hold.clear()
        await times_out(sleeper(wat, 80))
        assert (engine.state.live, engine.reclaimer.waiting) == (1, 1)
        seen.hold.set()
        await eventually(lambda: not engine.state.live)

    asyncio.run(main())
    assert seen.on_loop == [False]
    assert engine.reclaimer.waiting == 0


def test_the_next_guest_of_a_tenant_begins_behind_what_is_freed(engine: Engine, wat: Wat, seen: Seen) -> None:
    slow, other = sleeper(wat, 80), sleeper(wat, 79)

    async def main() -> None:
        seen.hold.clear()
        await times_out(slow)
        assert slow.tenant in engine.reclaimer.late
        assert other.tenant not in engine.reclaimer.late
        assert Invocation(slow, b"")._in_thread_at_once
        seen.hold.set()
        await eventually(lambda: not engine.state.live)
        assert slow.tenant not in engine.reclaimer.late

    asyncio.run(main())


def test_no_guest_is_made_before_stores_are_freed(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that waits for that hold up another tenant."""
    engine = Engine(EngineConfig(max_instances=10, workers=2, nice=0))
    modules = [Module.compile(engine, capi.assemble(command(SLEEP, "poll_oneoff", pages=pages))) for pages in (80, 300)]
    slow, other = (Plan(module, Limits(memory_pages=300, time=0.05)) for module in modules)
    begun: list[tuple[object, bool]] = []
    begin = Instance.begin

    def counted(self: Instance) -> None:
        begun.append((self.plan, self.plan.tenant in engine.reclaimer.late))
        begin(self)

    monkeypatch.setattr(Instance, "begin", counted)

    async def main() -> None:
        seen.hold.clear()
        left = Invocation(slow, b"")
        left.make()
        left.close()
        assert slow.tenant in engine.reclaimer.late
        behind = asyncio.create_task(Invocation(slow, b"").run(time.monotonic() + 60, nullcontext))
        beside = asyncio.create_task(Invocation(other, b"").run(time.monotonic() + 60, nullcontext))
        await eventually(lambda: begun)
        assert begun == [(other, False)]
        await asyncio.sleep(0.05)
        seen.hold.set()
        await eventually(lambda: len(begun) == 2)
        behind.cancel()
        beside.cancel()
        await asyncio.wait([behind, beside])
        await eventually(lambda: not engine.state.live)

    asyncio.run(main())
    assert begun[1:] == [(slow, False)]
    asyncio.run(engine.rest(time.monotonic() + 60))


def test_rest_waits_for_what_is_freed(seen: Seen) -> None:
    engine = Engine(EngineConfig(max_instances=3, nice=0))
    module = Module.compile(engine, capi.assemble(command("(loop $on (br $on))", pages=80)))

    async def main() -> None:
        seen.hold.clear()
        limits = Limits(time=0.05)
        invocation = Invocation(Plan(module, limits), b"")
        invocation.make()
        invocation.close()
        asyncio.get_running_loop().call_later(0.05, seen.hold.set)
        await engine.rest(time.monotonic() + 60)
        assert (engine.reclaimer.waiting, engine.state.live) == (0, 0)
        assert engine.workers._threads == 0

    asyncio.run(main())
    assert seen.on_loop == [False]


def test_a_loop_that_ends_loses_nothing(engine: Engine, wat: Wat, seen: Seen) -> None:
    seen.hold.clear()
    asyncio.run(times_out(sleeper(wat, 80)))
    assert engine.state.live == 1
    seen.hold.set()
    deadline = time.monotonic() + 60
    while engine.state.live:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert seen.on_loop == [False]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from Python 3.12 on
def test_a_forked_child_leaves_stores_to_its_parent(engine: Engine, wat: Wat, seen: Seen) -> None:
    async def main() -> None:
        kept = Instance(sleeper(wat, 80), b"")
        kept.make()
        seen.hold.clear()
        await times_out(sleeper(wat, 80))
        pid = os.fork()
        if not pid:
            kept.close()  # without a thread, a lock or a call of the engine
            os._exit(0 if seen.on_loop in ([], [False]) and engine.dead else 1)
        assert os.waitpid(pid, 0)[1] == 0  # noqa: ASYNC222
        kept.close()
        seen.hold.set()
        await eventually(lambda: not engine.state.live)

    asyncio.run(main())
    assert seen.on_loop == [False, False]


def test_without_a_thread_a_store_is_freed_in_place(
    engine: Engine, wat: Wat, seen: Seen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(workers: Workers, task: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Workers, "submit_task", refuse)
    asyncio.run(times_out(sleeper(wat, 80)))
    assert seen.on_loop == [True]
    assert not engine.state.live
    assert "a store is freed on the event loop: can't start new thread" in caplog.text


def test_large_guests_of_the_fast_path_are_freed_in_a_thread(engine: Engine, wat: Wat, seen: Seen) -> None:
    text = json.dumps({"status_code": 200, "body": "A"})
    module = wat(
        command(
            f"(call $print (i32.const 0) (i32.const {len(text)}))",
            more=f"(data (i32.const 0) {json.dumps(text)})",
            pages=80,
        )
    )
    asked = Plan(module, Limits())
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"a.org")]}

    async def main() -> None:
        engine.ticker.ensure_armed()
        if fits(asked):
            speech = Speech("edge", EdgeProtocol().end("f", "1", 5000))
            found = FastPath(asked, speech, ()).dispatch(scope, "/", {}, b"", "")
            assert isinstance(found, Completed)
            assert found.body == b"A"
        else:
            assert native.native is None
            assert (await Invocation(asked, b"").run(time.monotonic() + 60, nullcontext)).end is End.OK
        await eventually(lambda: not engine.state.live)

    asyncio.run(main())
    assert seen.on_loop == [False]
    assert not module.busy


def test_the_fast_path_begins_nothing_before_a_large_store_is_freed(engine: Engine, wat: Wat, seen: Seen) -> None:
    text = json.dumps({"status_code": 200})
    print_it = f"(call $print (i32.const 0) (i32.const {len(text)}))"
    asked = Plan(wat(command(print_it, more=f"(data (i32.const 0) {json.dumps(text)})", pages=80)), Limits())
    if not fits(asked):
        assert native.native is None
        return
    path = FastPath(asked, Speech("edge", EdgeProtocol().end("f", "1", 5000)), ())
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"a.org")]}

    async def main() -> None:
        engine.ticker.ensure_armed()
        seen.hold.clear()
        assert isinstance(path.dispatch(scope, "/", {}, b"", ""), Completed)
        assert path.dispatch(scope, "/", {}, b"", "") is NOT_TAKEN
        assert engine.state.live == 1
        seen.hold.set()
        await eventually(lambda: not engine.state.live)
        assert isinstance(path.dispatch(scope, "/", {}, b"", ""), Completed)
        await eventually(lambda: not engine.state.live)

    asyncio.run(main())


def test_the_c_library_has_the_same_bound() -> None:
    header = native.SOURCES[0].read_text()
    assert f"LIGHT = {reclaim.SMALL >> 20} << 20" in header
