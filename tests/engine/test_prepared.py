"""Instances that are made before their request comes: fresh as ever, few, and gone with what they are of."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from typing import Any

import pytest
from asking import ask, bodies, fast_path, fresh_engine, run, swept
from support import command

from starlette_wasm.engine.fast_path import NOT_TAKEN, Completed, FastPath, NotTaken, Started
from starlette_wasm.engine.native.library import PREPARED

pytestmark = pytest.mark.native
BUSY = 32  # of prepared.c


def test_each_request_has_a_fresh_instance() -> None:
    engine = fresh_engine()
    asked = fast_path(engine)

    async def main() -> None:
        found = []
        for _ in range(50):
            found.append(ask(asked))
            await swept()
            assert engine.prepared == 1
        found += [ask(asked) for _ in range(50)]  # nothing is swept in between
        assert engine.prepared == 0
        assert bodies(found) == {b"A"}
        await swept()
        assert engine.prepared == 1

    run(main)


def test_what_is_prepared_gets_the_input_of_its_request() -> None:
    engine = fresh_engine()
    echo = command(
        """(local $n i32)
           (i32.store (i32.const 0) (i32.const 32)) (i32.store (i32.const 4) (i32.const 60000))
           (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
           (call $print (i32.const 32) (i32.load (i32.const 8)))""",
        "fd_read",
    )
    asked = fast_path(engine, echo)

    async def main() -> None:
        for i in range(20):
            body = b"b" * (i * 3000)  # from 28 KiB on its io memory grows
            found = ask(asked, body, f"/{i}")
            assert isinstance(found, Started)  # a request is not an answer
            outcome = await found.invocation.run(asyncio.get_running_loop().time() + 9, no_guard)
            seen = json.loads(outcome.stdout)
            assert (seen["path"], seen["body"]) == (f"/{i}", body.decode() or None)
            assert seen["context"]["request_id"] == found.request_id
            engine.state.most_recent = None
            ask(quick_counts)
            await swept()

    quick_counts = fast_path(engine)
    run(main)


def no_guard() -> Any:
    raise AssertionError("it has ended")


def test_they_take_no_place_of_a_guest() -> None:
    engine = fresh_engine()
    asked = [fast_path(engine) for _ in range(7)]
    endless = fast_path(engine, command("(loop $on (br $on))"))

    async def main() -> None:
        for each in (*asked, *asked):
            assert isinstance(ask(each), Completed)
            await swept()
        assert engine.prepared == 3  # and one is yet to be deleted
        ask(asked[0])
        started = [ask(endless) for _ in range(3)]  # as many as there may be
        assert all(isinstance(each, Started) for each in started)
        assert engine.state.live == 3
        for each in started:
            assert isinstance(each, Started)
            each.invocation.drop()
        assert engine.state.live == 0
        assert bodies([ask(each) for each in asked]) == {b"A"}

    run(main)


def test_what_is_asked_seldom_is_not_prepared() -> None:
    engine = fresh_engine()
    often, seldom = fast_path(engine), fast_path(engine)

    async def main() -> None:
        for _ in range(100):
            ask(often)
        ask(seldom)
        await swept()
        assert engine.prepared == 1
        assert not seldom._memory.slot
        for _ in range(BUSY + 1):
            ask(seldom)
        await swept()
        assert engine.prepared == 2

    run(main)


def test_the_one_not_used_for_long_makes_room() -> None:
    engine = fresh_engine(PREPARED)
    asked = [fast_path(engine) for _ in range(PREPARED)]
    more = [fast_path(engine) for _ in range(3)]

    async def main() -> None:
        for each in asked:
            ask(each)
            await swept()
        for _ in range(2):
            for each in (*asked[4:], *more):
                assert isinstance(ask(each), Completed)
                await swept()
        assert engine.prepared == PREPARED
        slots = [each._memory.slot for each in more]
        assert all(slots)
        assert all(each._memory.slot for each in asked[8:])

    run(main)


def slots(asked: list[FastPath]) -> int:
    return sum(bool(each._memory.slot) for each in asked)


async def in_turn(*asked: FastPath) -> None:
    for each in asked:
        ask(each)
        await swept()


def test_one_tenant_takes_no_places_from_another() -> None:
    engine = fresh_engine(PREPARED)
    many = [fast_path(engine, tenant=("many", "p")) for _ in range(2 * PREPARED)]
    one = fast_path(engine, tenant=("one", "p"))

    async def main() -> None:
        await in_turn(*many)
        assert slots(many) == PREPARED  # as long as nobody else wants them
        ask(one)
        await in_turn(one)
        for _ in range(4):
            await in_turn(*many)
            assert one._memory.slot
            assert one._memory.ready.store
        assert slots(many) == PREPARED - 1
        ask(one)

    run(main)


def test_tenants_come_to_have_equally_many_places() -> None:
    engine = fresh_engine(PREPARED)
    tenants = [[fast_path(engine, tenant=name) for _ in range(PREPARED // 2)] for name in "abcd"]

    async def main() -> None:
        for _ in range(6):
            for asked in tenants:
                await in_turn(*asked)
        assert [slots(asked) for asked in tenants] == [PREPARED // 4] * 4

    run(main)


def test_more_tenants_than_places_take_turns() -> None:
    engine = fresh_engine(PREPARED)
    tenants = [fast_path(engine, tenant=number) for number in range(PREPARED + 2)]

    async def main() -> None:
        for _ in range(3):
            await in_turn(*tenants)
        assert slots(tenants) == PREPARED
        assert tenants[-1]._memory.slot

    run(main)


@pytest.mark.parametrize("end", ["close", "forget", "rest"])
def test_they_go_with_what_they_are_of(end: str) -> None:
    engine = fresh_engine()
    first, second = fast_path(engine), fast_path(engine)

    async def main() -> None:
        nonlocal first
        for each in (first, second):
            ask(each)
            await swept()
        assert engine.prepared == 2
        ask(first)  # it is about to be swept
        if end == "close":
            assert first._plan.module.close()
            assert ask(first) is NOT_TAKEN
        elif end == "forget":
            del first, each
            gc.collect()
        else:
            await engine.rest(0)
            assert engine.prepared == 0
        await swept()
        assert engine.prepared == (0 if end == "rest" else 1)
        assert bodies([ask(second)]) == {b"A"}

    run(main)


def test_a_loop_that_is_closed_before_it_could_sweep_does_no_harm() -> None:
    engine = fresh_engine()
    asked = fast_path(engine)
    loop = asyncio.new_event_loop()

    async def stop() -> Completed | Started | NotTaken:
        loop.stop()
        return ask(asked)

    task = loop.create_task(stop())
    loop.run_forever()
    assert bodies([task.result()]) == {b"A"}
    loop.close()
    assert engine.state.cleanup_scheduled

    async def main() -> None:
        engine.ticker.ensure_armed()
        ask(asked)
        await swept()
        assert engine.prepared == 1

    run(main)


def test_a_sweep_that_is_lost_is_not_waited_for() -> None:
    """The loop that was to call it has ended, and the one that looks after the ticker is not there either."""
    engine = fresh_engine()
    asked = fast_path(engine)
    lost = asyncio.new_event_loop()

    async def stop() -> None:
        lost.stop()
        ask(asked)

    held = lost.create_task(stop())
    lost.run_forever()
    assert engine.state.cleanup_scheduled

    async def main() -> None:
        for _ in range(300):
            ask(asked)
        await swept()
        assert engine.prepared == 1

    run(main)
    assert held.done()
    lost.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from Python 3.12 on
def test_a_forked_child_leaves_them_alone() -> None:
    engine = fresh_engine()
    asked = fast_path(engine)

    async def main() -> None:
        ask(asked)
        await swept()
        ask(asked)  # and one is to be swept, by both
        pid = os.fork()
        if not pid:
            try:
                asked._clean_up()  # as the loop does, which does not run on in a child from Python 3.14 on
                os._exit(0 if engine.state.dead and engine.prepared == 0 and ask(asked) is NOT_TAKEN else 1)
            finally:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0  # noqa: ASYNC222
        await swept()
        assert engine.prepared == 1
        assert bodies([ask(asked)]) == {b"A"}

    run(main)


def test_a_collection_that_runs_another_guest_changes_no_answer() -> None:
    """Python 3.11 collects garbage as an object is made: then another engine may have its turn, in any thread."""
    text = json.dumps({"status_code": 201, "headers": {f"x-{i}": "b" for i in range(9)}, "body": "B"})
    print_it = f"(call $print (i32.const 0) (i32.const {len(text)}))"
    other = fast_path(fresh_engine(), command(print_it, more=f"(data (i32.const 0) {json.dumps(text)})"))
    asked = fast_path(fresh_engine())
    kept: list[Any] = []

    def collected(phase: str, info: dict[str, int]) -> None:
        kept.append(ask(other))

    async def main() -> list[Completed | Started | NotTaken]:
        ask(asked)
        ask(other)
        held = [([], (None, i), {}) for i in range(5000)]  # the lists and tuples that Python keeps for the next ones
        gc.callbacks.append(collected)
        before = gc.get_threshold()
        gc.set_threshold(1)
        try:
            found = [ask(asked) for _ in range(20)]
        finally:
            gc.set_threshold(*before)
            gc.callbacks.remove(collected)
        assert held
        return found

    found = run(main)
    assert all(isinstance(each, Completed) for each in found)
    assert {(each.status, each.body, len(each.headers)) for each in found} == {(200, b"A", 2)}
    assert {(each.status, each.body, len(each.headers)) for each in kept if isinstance(each, Completed)} == {
        (201, b"B", 11)
    }
