"""Guests as coroutines: deadlines, threads, cancellation, many at once."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
from contextlib import asynccontextmanager, nullcontext

import pytest
from apps import eventually
from support import GUESTS, answer, ask, command, invoke, run

from starlette_wasm.engine import capi, instance, invocation
from starlette_wasm.engine.engine import Engine, EngineConfig, OutOfInstances
from starlette_wasm.engine.invocation import Invocation
from starlette_wasm.engine.loop_time import HALF_LIFE
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits, Plan
from starlette_wasm.sync.pace import SLICE

SPINS = {
    "loop": command("(loop (br 0))"),
    "calls": command("(loop (call $f) (br 0))", more="(func $f)"),
    "start": command("", more="(start $first) (func $first (loop (br 0)))"),
    "host": command(
        "(loop (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))) (br 0))",
        "poll_oneoff",
    ),
    "errno": command(
        "(loop (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 0) (i32.const 128))) (br 0))",
        "poll_oneoff",
    ),
    "naps": command(
        "(i64.store (i32.const 24) (i64.const 100000))"
        "(loop (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))) (br 0))",
        "poll_oneoff",
    ),
    "fill": command("(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br 0))"),
    "sleep": command(
        "(i64.store (i32.const 24) (i64.const 60000000000))"
        "(drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))",
        "poll_oneoff",
    ),
}


def idle(engine: Engine) -> bool:
    return engine.state.live == 0 and not engine.live and not engine.workers.busy and not engine.workers.waiting


def settles(engine: Engine) -> bool:
    """A worker thread says what it has to say a moment before it is idle itself."""
    end = time.monotonic() + 60
    while not idle(engine) and time.monotonic() < end:
        time.sleep(0.002)
    return idle(engine)


def query(**values: str) -> bytes:
    return json.dumps({"query": values}).encode()


# Deadlines


@pytest.mark.parametrize("name", SPINS)
def test_a_guest_without_end_is_over_at_its_deadline(wat, engine, name):
    async def main():
        begin = time.monotonic()
        outcome = await invoke(wat(SPINS[name]), limits=Limits(time=0.2))
        took = time.monotonic() - begin
        await eventually(lambda: idle(engine))
        return outcome, took

    outcome, took = asyncio.run(main())
    assert outcome.end is End.TIMEOUT
    assert 0.15 < took < 30


def test_a_guest_that_ends_before_its_deadline_is_not_hurt_by_it(guest):
    assert ask(guest("sleep_ms"), query={"ms": "30"}, limits=Limits(time=5)) == {"slept": 30}


def test_fifty_spinning_guests_end_in_time_and_quick_ones_are_served_meanwhile(guest, engine):
    async def main():
        long = [asyncio.create_task(invoke(guest("spin"), limits=Limits(time=600))) for _ in range(50)]
        await eventually(lambda: engine.workers.busy and engine.workers.waiting)
        for _ in range(50):
            assert (await invoke(guest("hello"))).end is End.OK
            await asyncio.sleep(0.002)
        assert not any(task.done() for task in long)
        begin = time.monotonic()
        ends = await asyncio.gather(*(invoke(guest("spin"), limits=Limits(time=0.5)) for _ in range(50)))
        took = time.monotonic() - begin
        for task in long:
            task.cancel()
        await asyncio.wait(long)
        await eventually(lambda: idle(engine))
        return [outcome.end for outcome in ends], took

    ends, took = asyncio.run(main())
    assert ends == [End.TIMEOUT] * 50
    assert took < 60


def test_busy_guests_share_the_threads_so_that_all_of_them_get_on(wat, engine):
    # Each needs some 30 ms of a thread: with turns, all of 12 end well before the deadline.
    body = """(local $i i32)
      (loop (br_if 0 (i32.ne (i32.const 60000000) (local.tee $i (i32.add (local.get $i) (i32.const 1))))))"""
    busy = wat(command(body))

    async def main():
        return await asyncio.gather(*(invoke(busy, limits=Limits(time=20)) for _ in range(12)))

    assert {outcome.end for outcome in asyncio.run(main())} == {End.OK}
    assert settles(engine)


def test_three_hundred_sleeping_guests_hold_no_thread(guest, engine):
    async def main():
        threads = threading.active_count()
        limits = Limits(time=600)
        tasks = [asyncio.create_task(invoke(guest("sleep_ms"), query(ms="60000"), limits=limits)) for _ in range(300)]
        await eventually(lambda: engine.state.live == 300)
        assert threading.active_count() == threads
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    run(guest("spin"), limits=Limits(time=0.05))  # starts the worker threads that it needs
    asyncio.run(main())
    assert settles(engine)


# Cancellation


def test_guests_whose_time_is_over_together_end_in_several_rounds(guest, engine, monkeypatch):
    """Or what is to be done at the end of each holds up others for as long as all of them take."""
    rounds = 0
    ended = []
    stop = Invocation.stop

    def slowly(self):
        ended.append(rounds)
        time.sleep(2 * SLICE)
        return stop(self)

    monkeypatch.setattr(Invocation, "stop", slowly)

    async def main() -> None:
        nonlocal rounds
        guests = asyncio.gather(
            *(invoke(guest("sleep_ms"), query(ms="60000"), limits=Limits(time=0.2)) for _ in range(20))
        )
        while not guests.done():
            rounds += 1
            await asyncio.sleep(0)
        assert {outcome.end for outcome in guests.result()} == {End.TIMEOUT}

    asyncio.run(main())
    assert len(ended) == 20
    assert len(set(ended)) >= 10
    assert engine.state.live == 0


async def cancelled(task: asyncio.Task) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("name", SPINS)
@pytest.mark.parametrize("after", [0, 0.003, 0.05])
def test_cancelling_frees_the_slot_at_once(wat, engine, name, after):
    async def main():
        task = asyncio.create_task(invoke(wat(SPINS[name]), limits=Limits(time=600)))
        await asyncio.sleep(after)
        begin = time.monotonic()
        await cancelled(task)
        await eventually(lambda: idle(engine))
        return time.monotonic() - begin

    assert asyncio.run(main()) < 60  # and not at the deadline


def test_cancelling_guests_that_wait_for_a_thread_frees_them_too(guest, engine):
    async def main():
        tasks = [asyncio.create_task(invoke(guest("spin"), limits=Limits(time=30))) for _ in range(20)]
        await eventually(lambda: engine.workers.waiting > 5)
        for task in reversed(tasks):
            await cancelled(task)
        await eventually(lambda: idle(engine))

    asyncio.run(main())


def test_cancelling_at_any_moment_leaves_nothing_behind(wat, guest, engine):
    modules = [
        wat(SPINS["naps"]),
        wat(SPINS["host"]),
        guest("spin"),
        guest("yield"),
        guest("echo"),
        wat(SPINS["sleep"]),
    ]

    async def main():
        for round_ in range(60):
            tasks = [asyncio.create_task(invoke(module, limits=Limits(time=30))) for module in modules]
            await asyncio.sleep(round_ * 0.0002)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await eventually(lambda: idle(engine))

    asyncio.run(main())


def test_a_guard_that_cancels_its_body_ends_the_guest(guest, engine):
    class OnDisconnect(Exception):
        pass

    @asynccontextmanager
    async def guard():
        task = asyncio.current_task()
        timer = asyncio.get_running_loop().call_later(0.05, task.cancel)
        try:
            yield
        except asyncio.CancelledError:
            task.uncancel()
            raise OnDisconnect from None
        finally:
            timer.cancel()

    async def main():
        for name in ("spin", "sleep60"):
            with pytest.raises(OnDisconnect):
                await Invocation(Plan(guest(name), Limits()), b"{}").run(time.monotonic() + 30, guard)
        await eventually(lambda: idle(engine))

    asyncio.run(main())


def test_a_loop_that_is_closed_under_running_guests_leaves_nothing_behind(guest, wat, engine):
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(invoke(module, limits=Limits(time=0.3))) for module in (guest("spin"), guest("spin"))]
    loop.run_until_complete(asyncio.sleep(0.05))
    for task in tasks:
        task._log_destroy_pending = False
    loop.close()
    assert settles(engine)
    assert run(guest("hello")).end is End.OK


def test_an_invocation_that_never_runs_takes_no_slot(guest, engine):
    invocation = Invocation(Plan(guest("hello"), Limits()), b"")
    assert engine.state.live == 0
    invocation.close()
    assert engine.state.live == 0


# Several loops


def test_guests_in_several_event_loops_of_several_threads_are_never_mixed_up(guest, engine):
    failures: list[object] = []

    def tenant(name: str) -> None:
        async def one(number: int) -> None:
            marker = f"{name}-{number}-" + name * 500
            outcome = await invoke(guest("echo"), json.dumps({"m": marker}).encode(), limits=Limits(time=60))
            body = json.loads(json.loads(outcome.stdout)["body"])
            if body != {"m": marker}:
                failures.append((marker, body))

        async def sleepy(number: int) -> None:
            slept = answer(await invoke(guest("sleep_ms"), query(ms=str(number)), limits=Limits(time=60)))
            if slept != {"slept": number}:
                failures.append((name, number, slept))

        async def trapped() -> None:
            outcome = await invoke(guest("trap"), query(mode="div0"), limits=Limits(time=60))
            if outcome.reason != "integer divide by zero":
                failures.append((name, outcome))

        async def main() -> None:
            for batch in range(8):
                await asyncio.gather(
                    *(one(batch * 10 + i) for i in range(10)),
                    *(sleepy(i) for i in range(1, 10)),
                    trapped(),
                    invoke(guest("spin"), limits=Limits(time=0.02)),
                )

        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=tenant, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    assert settles(engine)


def test_the_next_loop_finds_the_ticker_running_although_the_last_one_is_closed(guest):
    for _ in range(5):
        assert run(guest("spin"), limits=Limits(time=0.05)).end is End.TIMEOUT


def test_loops_that_take_turns_in_threads_never_lose_the_ticker(guest, engine):
    # Quick guests, pauses about as long as the ticker's rest, then one that needs a tick to be stopped at all.
    failures: list[object] = []

    def tenant(pause: float) -> None:
        async def main() -> None:
            for _ in range(4):
                await invoke(guest("hello"))
                await asyncio.sleep(pause)
                outcome = await invoke(guest("spin"), limits=Limits(time=0.02))
                if outcome.end is not End.TIMEOUT:
                    failures.append(outcome)

        asyncio.run(main())

    threads = [threading.Thread(target=tenant, args=(0.24 + i * 0.005,), daemon=True) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []


# The pool


@pytest.fixture(scope="module")
def small():
    """An engine with room for three guests, and its modules."""
    engine = Engine(EngineConfig(max_instances=3, workers=1))
    modules = {
        name: Module.compile(engine, (GUESTS / f"{name}.wasm").read_bytes()) for name in ("hello", "sleep_ms", "spin")
    }
    return engine, modules


def test_a_full_pool_is_an_error_and_there_is_room_again_after(small):
    engine, modules = small

    async def main():
        for _ in range(5):
            tasks = [asyncio.create_task(invoke(modules["sleep_ms"], query(ms="50"))) for _ in range(3)]
            await asyncio.sleep(0)
            for _ in range(10):
                with pytest.raises(OutOfInstances, match="3 guests are alive"):
                    await invoke(modules["hello"])
            assert {outcome.end for outcome in await asyncio.gather(*tasks)} == {End.OK}
            assert (await invoke(modules["hello"])).end is End.OK
        assert settles(engine)

    asyncio.run(main())


def test_slots_of_guests_that_timed_out_are_used_again(small):
    engine, modules = small

    async def main():
        for _ in range(5):
            outcomes = await asyncio.gather(*(invoke(modules["spin"], limits=Limits(time=0.05)) for _ in range(3)))
            assert {outcome.end for outcome in outcomes} == {End.TIMEOUT}
            await eventually(lambda: idle(engine))

    asyncio.run(main())


# Closing modules


def test_a_module_closed_under_its_guests_lets_them_end(engine):
    module = Module.compile(engine, (GUESTS / "sleep_ms.wasm").read_bytes())
    spinning = Module.compile(engine, (GUESTS / "spin.wasm").read_bytes())
    trapping = Module.compile(engine, capi.assemble(SPINS["naps"].replace("(br 0)", "unreachable")))

    async def main():
        tasks = [asyncio.create_task(invoke(module, query(ms="60"))) for _ in range(5)]
        tasks += [asyncio.create_task(invoke(spinning, limits=Limits(time=0.2)))]
        tasks += [asyncio.create_task(invoke(trapping))]
        await asyncio.sleep(0.02)
        for each in (module, spinning, trapping):
            each.close()
            each.close()
        return await asyncio.gather(*tasks)

    ends = [outcome.end for outcome in asyncio.run(main())]
    assert ends == [End.OK] * 5 + [End.TIMEOUT, End.TRAP]
    assert settles(engine)


def test_a_closed_module_has_no_new_guests(engine):
    module = Module.compile(engine, (GUESTS / "hello.wasm").read_bytes())
    module.close()
    with pytest.raises(capi.EngineError, match="the module is closed"):
        run(module)
    with pytest.raises(AssertionError, match="the module is closed"):
        module.serialize()
    assert settles(engine)


@pytest.mark.parametrize("when", ["before it is counted", "once it is counted"])
def test_a_module_that_is_closed_as_a_guest_begins_is_not_used(engine, when):
    """In another thread, between two lines of its start."""
    held = [Module.compile(engine, (GUESTS / "hello.wasm").read_bytes())]

    class Counted(set):
        def add(self, number):
            if when == "before it is counted":
                held[0].close()
            super().add(number)
            if when == "once it is counted":
                held[0].close()

    held[0].live = Counted()
    live, freed = engine.state.live, held[0]._free
    with pytest.raises(capi.EngineError, match="the module is closed"):
        run(held[0])
    assert (engine.state.live, held[0].live) == (live, set())
    assert freed.alive == (when == "once it is counted")  # there a guest may have come to use it
    held.clear()
    gc.collect()
    assert not freed.alive


def test_a_guard_is_not_entered_for_a_guest_that_ends_at_once(guest):
    def guard():
        raise AssertionError("not needed")

    async def main():
        return await Invocation(Plan(guest("hello"), Limits()), b"").run(time.monotonic() + 1, guard)

    assert asyncio.run(main()).end is End.OK


def test_a_deadline_that_has_passed_stops_what_does_not_end_at_once(guest, wat, engine):
    async def main():
        for module in (guest("spin"), wat(SPINS["sleep"])):
            begin = time.monotonic()
            outcome = await Invocation(Plan(module, Limits()), b"").run(begin - 1, nullcontext)
            assert outcome.end is End.TIMEOUT
            assert time.monotonic() - begin < 60
        await eventually(lambda: idle(engine))

    asyncio.run(main())


def test_what_a_guest_said_before_its_time_was_over_is_kept(wat):
    """Whether a thread runs it then, or it sleeps."""
    speak = (
        "(i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 2))"
        " (i32.store16 (i32.const 8) (i32.const 0x6968))"
    )
    say = f"{speak} (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 64)))"
    spin = wat(command(f"{say} (loop $again (br $again))", "fd_write"))
    sleep = wat(
        command(
            f"{say} (i64.store (i32.const 200) (i64.const 0)) (i32.store (i32.const 208) (i32.const 0))"
            " (i32.store (i32.const 216) (i32.const 1)) (i64.store (i32.const 224) (i64.const 60000000000))"
            " (drop (call $poll_oneoff (i32.const 200) (i32.const 300) (i32.const 1) (i32.const 400)))",
            "fd_write",
            "poll_oneoff",
        )
    )
    for module in (spin, sleep):
        outcomes = [run(module, limits=Limits(time=0.1))]
        while outcomes[-1].stderr != b"hi" and len(outcomes) < 20:  # a thread without a CPU just then says nothing
            outcomes.append(run(module, limits=Limits(time=0.1)))
        assert {outcome.end for outcome in outcomes} == {End.TIMEOUT}
        assert outcomes[-1].stderr == b"hi"


def test_guests_that_ask_the_host_without_end_leave_the_loop_to_others(wat):
    ready = (
        "(i32.store8 (i32.const 208) (i32.const 2)) (i32.store (i32.const 216) (i32.const 1))"
        " (loop $again"
        " (drop (call $poll_oneoff (i32.const 200) (i32.const 300) (i32.const 1) (i32.const 400))) (br $again))"
    )
    asking = wat(command(ready, "poll_oneoff"))

    async def main():
        guests = [asyncio.create_task(invoke(asking, limits=Limits(time=1.0))) for _ in range(4)]
        turns = []
        while not all(guest.done() for guest in guests):
            begin = time.thread_time()  # of CPU: a busy machine may keep the loop from running
            await asyncio.sleep(0.005)
            turns.append(time.thread_time() - begin)
        return [guest.result().end for guest in guests], sorted(turns)[len(turns) // 2]

    ends, turn = asyncio.run(main())
    assert ends == [End.TIMEOUT] * 4
    assert turn < 0.05


# What is heavy keeps off the event loop

FIRST_BYTE = """
  (i32.store (i32.const 0) (i32.const 128)) (i32.store (i32.const 4) (i32.const 1))
  (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
  (if (i32.eq (i32.load8_u (i32.const 128)) (i32.const 115)) (then (loop (br 0))))"""


@pytest.fixture
def polled_in_loop(monkeypatch):
    """Whether the polls so far were in the thread of the test; asking clears them."""
    threads: set[int] = set()
    poll = Invocation.poll

    def noted(self):
        threads.add(threading.get_ident())
        return poll(self)

    monkeypatch.setattr(Invocation, "poll", noted)
    monkeypatch.setattr(instance, "native", None)  # its polls are not seen from Python

    def asked() -> bool:
        there = threading.get_ident() in threads
        threads.clear()
        return there

    return asked


def test_a_function_that_mostly_spins_begins_in_a_thread_until_it_is_quick_again(wat, polled_in_loop):
    plan = Plan(wat(command(FIRST_BYTE, "fd_read")), Limits())

    async def one(stdin: bytes) -> End:
        seconds = 60 if stdin == b"q" else 0.01
        return (await Invocation(plan, stdin).run(time.monotonic() + seconds, nullcontext)).end

    async def main() -> None:
        assert await one(b"q") is End.OK
        assert polled_in_loop()
        for _ in range(200):  # those in a thread add nothing: the sum goes up and down around its bound
            assert await one(b"s") is End.TIMEOUT
            if not polled_in_loop():
                break
        else:
            raise AssertionError("every one of 200 that spin began in the event loop")
        plan.memory.decayed_ns -= int(10 * HALF_LIFE * 1e9)
        polled_in_loop()
        assert await one(b"q") is End.OK
        assert polled_in_loop()

    asyncio.run(main())


def test_a_guest_that_works_between_host_calls_goes_on_in_a_thread(wat, polled_in_loop):
    """Each time it comes back from the host it looks like a quick one."""
    nap = "(drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))"
    body = f"""(local $i i32) (local $n i32)
      (i64.store (i32.const 24) (i64.const 100000))
      (loop $on
        (local.set $i (i32.const 3000000))
        (loop $work (br_if $work (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
        {nap}
        (br_if $on (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 20))))"""
    last = f"{body} {nap} (i32.store8 (i32.const 200) (i32.const 1))"
    module = wat(command(last, "poll_oneoff"))
    in_loop = 0

    async def main() -> None:
        nonlocal in_loop
        invocation = Invocation(Plan(module, Limits(time=20)), b"")
        wait_for = invocation.__class__.wait_for

        def counted(self, call):
            nonlocal in_loop
            in_loop += threading.get_ident() == threading.main_thread().ident
            wait_for(self, call)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Invocation, "wait_for", counted)
            outcome = await invocation.run(time.monotonic() + 20, nullcontext)
        assert outcome.end is End.OK

    asyncio.run(main())
    assert in_loop <= 3  # of 21


def test_threads_rest_after_host_calls(wat, monkeypatch):
    """Else the event loop finds the GIL taken for several turns of them."""
    rested: list[float] = []
    monkeypatch.setattr(invocation, "rest", rested.append)
    call = "(drop (call $call (i32.const 1) (i32.const 0) (i32.const 4)))"
    body = f"""(local $n i32)
      (loop $on {call} (br_if $on (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 50))))"""
    text = command(body).replace(
        "(module", '(module (import "edge" "call" (func $call (param i32 i32 i32) (result i32)))', 1
    )

    class Refuses:
        def take(self, operation: int, payload: memoryview, room: int) -> bytes:
            begin = time.thread_time()
            while time.thread_time() - begin < 0.0002:
                pass
            return b""

    async def main() -> Outcome:
        plan = Plan(wat(text), Limits(time=60))
        plan.slow = True  # it begins in a worker
        one = Invocation(plan, b"")
        return await one.run(time.monotonic() + 60, nullcontext, Refuses())

    assert asyncio.run(main()).end is End.OK
    assert len(rested) == 50
    assert all(0.0002 <= seconds <= 0.001 for seconds in rested)


def test_nothing_is_kept_of_what_a_guest_has_taken(wat, engine):
    text = command("(drop (call $call (i32.const 1) (i32.const 0) (i32.const 4))) (drop (call $take (i32.const 0)))")
    call = '(import "edge" "call" (func $call (param i32 i32 i32) (result i32)))'
    take = '(import "edge" "take" (func $take (param i32) (result i32)))'
    given = bytes(1 << 12)
    before = sys.getrefcount(given)

    class Gives:
        def take(self, operation: int, payload: memoryview, room: int) -> bytes:
            return given

    async def main() -> Outcome:
        one = Invocation(Plan(wat(text.replace("(module", f"(module {call} {take}", 1)), Limits(time=60)), b"")
        return await one.run(time.monotonic() + 60, nullcontext, Gives())

    assert asyncio.run(main()).end is End.OK
    assert settles(engine)
    assert sys.getrefcount(given) == before


# Exceptions out of signal handlers


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_what_a_host_function_raises_ends_the_guest(wat, engine, monkeypatch, error):
    def raising(invocation):
        raise error("out of a handler")

    module = wat(
        command(
            "(drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))",
            "poll_oneoff",
        )
    )
    monkeypatch.setattr(Invocation, "guest_memory", raising)
    expected = capi.EngineError if error is RuntimeError else error
    with pytest.raises(expected, match="out of a handler"):
        run(module)
    monkeypatch.undo()
    assert settles(engine)
    assert run(module).end is End.OK


def test_an_interrupted_finish_frees_once(wat, engine, monkeypatch):
    freed: list[int] = []
    delete = capi.future_delete

    def interrupted(future):
        freed.append(future)
        delete(future)
        if len(freed) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(capi, "future_delete", interrupted)
    guest = Invocation(
        Plan(wat('(module (memory (export "memory") 1) (func (export "_start") unreachable))'), Limits()), b""
    )
    assert guest.start()
    with pytest.raises(KeyboardInterrupt):
        guest.finish()
    assert len(freed) == 1
    assert settles(engine)


def test_guests_that_call_python_keep_off_the_main_thread(wat, polled_in_loop):
    """Signal handlers run there, and may raise within a function that wasmtime has called: the C library calls none."""
    module = wat(
        command("(drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 0) (i32.const 128)))", "poll_oneoff")
    )
    assert run(module).end is End.OK
    assert bool(polled_in_loop()) == module.calls_are_noted


def test_a_guest_that_ends_at_its_deadline_has_ended(wat):
    guest = Invocation(Plan(wat(command("")), Limits()), b"")

    async def main() -> Outcome:
        guest.engine.ticker.ensure_armed()
        assert guest.start()
        guest.settle()  # as its thread does, while the loop finds that its time is over
        return guest.stop()

    assert asyncio.run(main()).end is End.OK
    assert guest.engine.state.live == 0
