"""The async ABI: tasks, subtasks, waitable sets, streams and futures, used by the rules and against them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator
from functools import partial
from typing import Any

import pytest
from running import HostFunctions, Typed, assembled, engine, run_typed
from texts import ALLOCATOR

from starlette_wasm.components import calls, handles, invocation, waitables
from starlette_wasm.components.awaited import Await
from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.errors import CanonicalTrap
from starlette_wasm.components.held import Held, size_of
from starlette_wasm.components.pipes import Pipe
from starlette_wasm.components.values import Ok, Some, Value
from starlette_wasm.components.waitables import MAX_OF_SET, MAX_SUBTASKS
from starlette_wasm.components.wasi.ends import BytesSource, FutureValue, Printed
from starlette_wasm.engine import capi
from starlette_wasm.engine.compile import UnsupportedModuleError
from starlette_wasm.engine.outcome import End, Outcome

BUILTINS = {
    "return": ("task.return (result u32)", "(param i32)"),
    "cancel-task": ("task.cancel", ""),
    "get": ("context.get i32 0", "(result i32)"),
    "set": ("context.set i32 0", "(param i32)"),
    "new-set": ("waitable-set.new", "(result i32)"),
    "poll": ('waitable-set.poll (memory (core memory $l "mem"))', "(param i32 i32) (result i32)"),
    "drop-set": ("waitable-set.drop", "(param i32)"),
    "join": ("waitable.join", "(param i32 i32)"),
    "cancel": ("subtask.cancel", "(param i32) (result i32)"),
    "drop-subtask": ("subtask.drop", "(param i32)"),
    "new-s": ("stream.new $s", "(result i64)"),
    "read": ('stream.read $s async (memory (core memory $l "mem"))', "(param i32 i32 i32) (result i32)"),
    "write": ('stream.write $s async (memory (core memory $l "mem"))', "(param i32 i32 i32) (result i32)"),
    "cancel-read": ("stream.cancel-read $s", "(param i32) (result i32)"),
    "cancel-write": ("stream.cancel-write $s", "(param i32) (result i32)"),
    "drop-r": ("stream.drop-readable $s", "(param i32)"),
    "drop-w": ("stream.drop-writable $s", "(param i32)"),
    "new-f": ("future.new $f", "(result i64)"),
    "read-f": ('future.read $f async (memory (core memory $l "mem"))', "(param i32 i32) (result i32)"),
    "write-f": ('future.write $f async (memory (core memory $l "mem"))', "(param i32 i32) (result i32)"),
    "cancel-read-f": ("future.cancel-read $f", "(param i32) (result i32)"),
    "drop-rf": ("future.drop-readable $f", "(param i32)"),
    "drop-wf": ("future.drop-writable $f", "(param i32)"),
    "wait-set": ('waitable-set.wait (memory (core memory $l "mem"))', "(param i32 i32) (result i32)"),
    "read-now": ('stream.read $s (memory (core memory $l "mem"))', "(param i32 i32 i32) (result i32)"),
    "read-f-now": ('future.read $f (memory (core memory $l "mem"))', "(param i32 i32) (result i32)"),
    "yield": ("thread.yield", "(result i32)"),
    "inc": ("backpressure.inc", ""),
    "dec": ("backpressure.dec", ""),
    "wait": ('lower (func $wait) async (memory (core memory $l "mem"))', "(param i32 i32) (result i32)"),
    "give": ('lower (func $give) (memory (core memory $l "mem"))', "(param i32)"),
    "take": ("lower (func $take)", "(param i32 i32)"),
}
"""Name, what makes it, and its core type."""


def component(run: str, callback: str = "(unreachable)", more: str = "") -> str:
    """A component whose task begins with ``run`` and goes on with ``callback``. $pair sets $r and $w, the ends."""
    called = set(re.findall(r"\(call \$([a-z-]+)", run + callback + more))
    used = {name: each for name, each in BUILTINS.items() if name in called}
    made = "\n".join(f"(core func ${name} (canon {how}))" for name, (how, _) in used.items())
    imports = "\n".join(f'(import "" "{name}" (func ${name} {kind}))' for name, (_, kind) in used.items())
    given = " ".join(f'(export "{name}" (func ${name}))' for name in used)
    return f"""(component
     (type $s (stream u8)) (type $f (future u32))
     (import "wait" (func $wait async (param "ms" u32) (result u32)))
     (import "give" (func $give (result (tuple (stream u8) (future u32)))))
     (import "take" (func $take (param "s" (stream u8)) (param "f" (future u32))))
     (core module $mem {ALLOCATOR}) (core instance $l (instantiate $mem))
     {made}
     (core module $m {imports} (import "l" "mem" (memory 1))
      (global $r (mut i32) (i32.const 0)) (global $w (mut i32) (i32.const 0)) (global $set (mut i32) (i32.const 0))
      (global $a (mut i32) (i32.const 0)) (global $n (mut i32) (i32.const 0))
      (func $pair (param i64) (global.set $r (i32.wrap_i64 (local.get 0)))
       (global.set $w (i32.wrap_i64 (i64.shr_u (local.get 0) (i64.const 32)))))
      (func $wants (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
      (func $packed (result i32) (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))
      {more}
      (func (export "run") (result i32) {run})
      (func (export "callback") (param $event i32) (param $index i32) (param $payload i32) (result i32) {callback}))
     (core instance $i (instantiate $m (with "l" (instance $l)) (with "" (instance {given}))))
     (func (export "run") async (result u32) (canon lift (core func $i "run") async
      (callback (core func $i "callback")))))"""


RETURN = "(call $return (i32.const 7)) (i32.const 0)"


async def later(milliseconds: int) -> int:
    await asyncio.sleep(milliseconds / 1000)
    return milliseconds + 1


FUNCTIONS: HostFunctions = {"wait": lambda ms: Await(partial(later, ms)) if ms else 1}


class Tasks(Typed):
    """Calls the export ``run`` as a task."""

    __slots__ = ()

    def _answer_request(self) -> Generator[Any, Any, bytes]:
        function: Any = self.plan.component.flat.exports["run"][1]
        self.values.append((yield from self._calls.tasks.lifted(function, [], lambda _: None)))
        self.handles_left = self._calls.handles()
        return b""


def run(text: str, functions: HostFunctions | None = None, seconds: float = 30) -> tuple[Outcome, Tasks]:
    invocation = Tasks(assembled(text), [], functions or FUNCTIONS)
    return run_typed(invocation, seconds), invocation


def value(text: str, functions: HostFunctions | None = None) -> int:
    outcome, invocation = run(text, functions)
    assert outcome.end is End.OK, outcome
    assert invocation.handles_left == 0
    return int(invocation.values[0])


def test_tasks_return() -> None:
    assert value(component(RETURN)) == 7


def test_tasks_go_on_after_their_result_and_yield() -> None:
    yields = "(global.set $n (i32.add (global.get $n) (i32.const 1))) (i32.lt_u (global.get $n) (i32.const 50))"
    begin = "(call $set (i32.const 9)) (call $return (i32.const 7)) (i32.const 1)"
    check = "(call $wants (call $get) (i32.const 9)) (call $wants (local.get $event) (i32.const 0))"
    assert value(component(begin, check + yields)) == 7


BEGIN_TWO = """(global.set $set (call $new-set))
 (global.set $a (i32.shr_u (call $wait (i32.const 30) (i32.const 64)) (i32.const 4)))
 (call $join (global.get $a) (global.get $set))
 (global.set $n (i32.shr_u (call $wait (i32.const 60) (i32.const 68)) (i32.const 4)))
 (call $join (global.get $n) (global.get $set))
 (call $packed)"""
TAKE_TWO = """(call $wants (local.get $event) (i32.const 1)) (call $wants (local.get $payload) (i32.const 2))
 (call $drop-subtask (local.get $index))
 (if (result i32) (i32.eq (local.get $index) (global.get $a))
  (then (call $packed))
  (else (call $drop-set (global.get $set))
   (call $return (i32.add (i32.load (i32.const 64)) (i32.load (i32.const 68)))) (i32.const 0)))"""


def test_calls_of_the_host_run_side_by_side() -> None:
    assert value(component(BEGIN_TWO, TAKE_TWO)) == 31 + 61


WAIT_FOR_BOTH = """(drop (call $packed)) (call $wants (call $wait-set (global.get $set) (i32.const 8)) (i32.const 1))
 (call $drop-subtask (i32.load (i32.const 8))) (call $wants (i32.load (i32.const 12)) (i32.const 2))
 (call $wants (call $wait-set (global.get $set) (i32.const 8)) (i32.const 1))
 (call $drop-subtask (i32.load (i32.const 8))) (call $drop-set (global.get $set))
 (call $return (i32.add (i32.load (i32.const 64)) (i32.load (i32.const 68)))) (i32.const 0)"""


def test_tasks_may_wait_on_their_stack() -> None:
    begin = BEGIN_TWO.removesuffix("(call $packed)")
    assert value(component(begin + WAIT_FOR_BOTH)) == 31 + 61


def test_tasks_may_yield_on_their_stack() -> None:
    begin = "(loop $l (global.set $n (i32.add (global.get $n) (i32.const 1))) (call $wants (call $yield) (i32.const 0))"
    assert value(component(f"{begin} (br_if $l (i32.lt_u (global.get $n) (i32.const 50)))) {RETURN}")) == 7


def test_copies_may_wait_on_their_stack() -> None:
    class Late(BytesSource):
        """Has its bytes after three questions."""

        asked = 0

        def ready(self) -> bool:
            self.asked += 1
            return self.asked > 3

    def give() -> tuple[Pipe, Pipe]:
        source, future = Late(b"abc"), FutureValue()

        async def soon() -> None:
            while not future.ready():
                await asyncio.sleep(0.001)
                hosts[0].notify()
                if source.asked > 3:
                    future.set(5)

        hosts[1:] = [asyncio.get_running_loop().create_task(soon())]
        return Pipe(source=source), Pipe(source=future)

    hosts: list[Any] = []

    class Noted(Tasks):
        """Tells the host who waits."""

        __slots__ = ()

        def _prepare_calls(self) -> None:
            super()._prepare_calls()
            hosts[:1] = [self._calls.scheduler.host]

    begin = """(call $give (i32.const 80))
     (global.set $r (i32.load (i32.const 80))) (global.set $w (i32.load (i32.const 84)))
     (call $wants (call $read-now (global.get $r) (i32.const 96) (i32.const 8)) (i32.const 48))
     (call $wants (call $read-f-now (global.get $w) (i32.const 104)) (i32.const 0))
     (call $drop-r (global.get $r)) (call $drop-rf (global.get $w))
     (call $return (i32.add (i32.load8_u (i32.const 98)) (i32.load (i32.const 104)))) (i32.const 0)"""
    invocation = Noted(assembled(component(begin)), [], FUNCTIONS | {"give": give})
    assert run_typed(invocation, 60).end is End.OK
    assert invocation.values == [ord("c") + 5]


@pytest.mark.parametrize(
    ("waits", "problem"),
    [
        ("(drop (call $wait-set (i32.const 57005) (i32.const 8)))", "cannot block a synchronous task before returning"),
        ("(drop (call $read-now (i32.const 57005) (i32.const 8) (i32.const 1)))", "cannot block a synchronous task"),
        ("(call $dec)", "backpressure counter underflow"),
        ("(loop $l (call $inc) (br $l))", "backpressure counter overflow"),
        ("(drop (call $yield)) unreachable", "unreachable"),
    ],
)
def test_functions_that_are_not_async_wait_for_nothing(
    waits: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_MOST_BACKPRESSURE", 8)
    text = component(f"{waits} (i32.const 0)").replace('"run") async (result', '"run") (result')
    text = re.sub(r' async\s+\(callback \(core func \$i "callback"\)\)', "", text)

    class Sync(Typed):
        """Calls the export ``run``, which is no task."""

        __slots__ = ()

        def _answer_request(self) -> Generator[Any, Any, bytes]:
            yield from self._calls.lifted(self.plan.component.flat.exports["run"][1], [])
            return b""

    outcome = run_typed(Sync(assembled(text), [], FUNCTIONS), 60)
    assert outcome.end is End.TRAP
    assert problem in outcome.reason


def test_what_the_host_has_at_once_is_no_subtask() -> None:
    begin = (
        "(call $wants (call $wait (i32.const 0) (i32.const 64)) (i32.const 2)) (call $return (i32.load (i32.const 64)))"
    )
    assert value(component(f"{begin} (i32.const 0)")) == 1


def test_subtasks_can_be_cancelled() -> None:
    cancel = "(call $wants (call $cancel (global.get $a)) (i32.const 4)) (call $drop-subtask (global.get $a))"
    begin = "(global.set $a (i32.shr_u (call $wait (i32.const 60000) (i32.const 64)) (i32.const 4)))"
    assert value(component(f"{begin} {cancel} {RETURN}")) == 7


def with_strings(text: str) -> str:
    """The component with strings for the results of ``wait``, and for futures."""
    text = text.replace('"ms" u32) (result u32)', '"ms" u32) (result string)').replace(
        "(future u32)", "(future string)"
    )
    for each in ("lower (func $wait) async", "future.read $f async"):
        text = text.replace(f"{each} (memory", f'{each} (realloc (core func $l "realloc")) (memory')
    return text


@pytest.mark.parametrize(
    ("count", "on_loop"), [pytest.param(3, True, marks=pytest.mark.native), (2000, False)]
)  # without C, calls of the host are answered in a thread
def test_large_results_are_lowered_in_threads(count: int, on_loop: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it that the task waits for them, or that they are there as it asks."""
    seen = []
    store = waitables.store_at

    def store_at(*given: Any) -> Any:
        seen.append(asyncio._get_running_loop() is not None)
        return store(*given)

    monkeypatch.setattr(waitables, "store_at", store_at)
    monkeypatch.setattr(invocation, "LIGHT", 1000.0)

    async def wait(ms: int) -> list[str]:
        await asyncio.sleep(ms / 1000)
        return ["x"] * count

    one = """(global.set $set (call $new-set)) (call $packed)
     (call $join (i32.shr_u (call $wait (i32.const 1) (i32.const 64)) (i32.const 4)) (global.get $set))"""
    text = with_strings(
        component(one, f"(call $drop-subtask (local.get $index)) (call $drop-set (global.get $set)) {RETURN}")
    )
    text = text.replace('"ms" u32) (result string)', '"ms" u32) (result (list string))')
    assert value(text, {"wait": lambda ms: Await(partial(wait, ms))}) == 7
    assert seen == [on_loop]


SAME = "(call $wants (i32.load (i32.load (i32.const 64))) (i32.const 0x6574616c))"
"""The string at that place is ``late``."""


def test_subtasks_that_have_ended_give_their_result_when_cancelled() -> None:
    begin = "(global.set $a (i32.shr_u (call $wait (i32.const 1) (i32.const 64)) (i32.const 4))) (i32.const 1)"
    yields = (
        "(global.set $n (i32.add (global.get $n) (i32.const 1))) (br_if $end (i32.lt_u (global.get $n) (i32.const 50)))"
    )
    cancel = f"(call $wants (call $cancel (global.get $a)) (i32.const 2)) {SAME} (call $drop-subtask (global.get $a))"
    then = f"(block $end (result i32) (i32.const 1) {yields} (drop) {cancel} {RETURN})"

    async def late() -> str:
        await asyncio.sleep(0)
        return "late"

    assert value(with_strings(component(begin, then)), {"wait": lambda _: Await(late)}) == 7


@pytest.mark.parametrize(
    "ask",
    [
        "(call $wants (call $cancel-read-f (global.get $r)) (i32.const 0))",
        """(global.set $set (call $new-set)) (call $join (global.get $r) (global.get $set))
         (call $wants (call $poll (global.get $set) (i32.const 80)) (i32.const 4))
         (call $wants (i32.load (i32.const 84)) (i32.const 0)) (call $join (global.get $r) (i32.const 0))
         (call $drop-set (global.get $set))""",
    ],
)
def test_values_that_come_late_get_room_from_the_read(ask: str) -> None:
    begin = f"""(call $give (i32.const 128)) (call $drop-r (i32.load (i32.const 128)))
     (global.set $r (i32.load (i32.const 132)))
     (call $wants (call $read-f (global.get $r) (i32.const 64)) (i32.const -1))
     (drop (call $wait (i32.const 0) (i32.const 96))) {ask} {SAME} (call $drop-rf (global.get $r))"""
    future = FutureValue()

    def wait(_: int) -> str:
        future.set("late")
        return ""

    functions: HostFunctions = {"give": lambda: (Pipe(source=BytesSource(b"")), Pipe(source=future)), "wait": wait}
    assert value(with_strings(component(f"{begin} {RETURN}")), functions) == 7


def test_results_that_are_not_taken_are_bounded() -> None:
    """The guest may let its memory grow meanwhile, so that they have a sixteenth of its bound together."""

    def giving(size: int) -> HostFunctions:
        async def late() -> str:
            return "x" * size

        return FUNCTIONS | {"wait": lambda ms: Await(late)}

    text = with_strings(component(BEGIN_TWO, TAKE_TWO))
    outcome, _ = run(text, giving(500_000))
    assert outcome.end is End.OK, outcome
    outcome, invocation = run(text, giving(600_000))
    assert (outcome.end, outcome.reason) == (End.TRAP, "calls that are under way hold more than 1048576 bytes")
    assert invocation._calls.held.size < 1 << 20


def test_what_is_held_has_one_bound() -> None:
    held = Held(100)
    held.hold("a", 60)
    with pytest.raises(CanonicalTrap, match="more than 100 bytes"):
        held.hold("b", 41)
    held.hold("a", 10)
    held.hold("b", 90)
    assert held.size == 100
    held.release("b")
    held.release("b")
    assert held.size == 10


def estimated(value: Value) -> int:
    return asyncio.run(size_of(value))


def test_sizes_of_values_count_their_parts() -> None:
    assert estimated(b"x" * 1000) == 1064
    assert estimated(Ok([("a", None), ("b", b"xx")])) == 8 * 64 + 4
    assert estimated({"keys": ["abc"], "cursor": Some(1)}) == 5 * 64 + 3


def test_sets_are_polled() -> None:
    begin = """(global.set $set (call $new-set)) (call $pair (call $new-s))
     (call $join (global.get $r) (global.get $set))
     (call $wants (call $poll (global.get $set) (i32.const 80)) (i32.const 0))
     (call $wants (call $read (global.get $r) (i32.const 64) (i32.const 4)) (i32.const -1))
     (call $wants (call $poll (global.get $set) (i32.const 80)) (i32.const 0))
     (call $drop-w (global.get $w))
     (call $wants (call $poll (global.get $set) (i32.const 80)) (i32.const 2))
     (call $wants (i32.load (i32.const 80)) (global.get $r)) (call $wants (i32.load (i32.const 84)) (i32.const 1))
     (call $drop-r (global.get $r)) (call $drop-set (global.get $set))"""
    assert value(component(f"{begin} {RETURN}")) == 7


def test_streams_within_a_guest_copy() -> None:
    begin = """(call $pair (call $new-s)) (i32.store (i32.const 64) (i32.const 0x44434241))
     (call $wants (call $write (global.get $w) (i32.const 64) (i32.const 4)) (i32.const -1))
     (call $wants (call $read (global.get $r) (i32.const 96) (i32.const 3)) (i32.const 48))
     (call $wants (i32.load (i32.const 96)) (i32.const 0x434241))
     (global.set $set (call $new-set)) (call $join (global.get $w) (global.get $set)) (call $packed)"""
    then = """(call $wants (local.get $event) (i32.const 3)) (call $wants (local.get $payload) (i32.const 48))
     (call $wants (call $write (global.get $w) (i32.const 64) (i32.const 1)) (i32.const -1))
     (call $join (global.get $w) (i32.const 0)) (call $wants (call $cancel-write (global.get $w)) (i32.const 2))
     (call $drop-r (global.get $r))
     (call $wants (call $write (global.get $w) (i32.const 64) (i32.const 1)) (i32.const 1))
     (call $drop-w (global.get $w)) (call $drop-set (global.get $set)) """
    assert value(component(begin, then + RETURN)) == 7


def test_futures_within_a_guest_copy() -> None:
    begin = """(call $pair (call $new-f)) (i32.store (i32.const 64) (i32.const 99))
     (call $wants (call $read-f (global.get $r) (i32.const 96)) (i32.const -1))
     (call $wants (call $write-f (global.get $w) (i32.const 64)) (i32.const 0))
     (call $wants (i32.load (i32.const 96)) (i32.const 99))
     (call $drop-wf (global.get $w)) (global.set $set (call $new-set)) (call $join (global.get $r) (global.get $set))
     (call $packed)"""
    then = """(call $wants (local.get $event) (i32.const 4)) (call $wants (local.get $payload) (i32.const 0))
     (call $drop-rf (global.get $r)) (call $drop-set (global.get $set))"""
    assert value(component(begin, f"{then} {RETURN}")) == 7


def test_the_host_gives_streams_and_futures() -> None:
    begin = """(call $give (i32.const 128)) (global.set $r (i32.load (i32.const 128)))
     (call $wants (call $read (global.get $r) (i32.const 64) (i32.const 2)) (i32.const 32))
     (call $wants (call $read (global.get $r) (i32.const 66) (i32.const 9)) (i32.const 16))
     (call $wants (call $read (global.get $r) (i32.const 67) (i32.const 9)) (i32.const 1))
     (call $wants (i32.load (i32.const 64)) (i32.const 0x636261)) (call $drop-r (global.get $r))
     (call $wants (call $read-f (i32.load (i32.const 132)) (i32.const 96)) (i32.const 0))
     (call $drop-rf (i32.load (i32.const 132)))
     (call $return (i32.load (i32.const 96))) (i32.const 0)"""
    given = (Pipe(source=BytesSource(b"abc")), Pipe(source=FutureValue(55)))
    assert value(component(begin), {"give": lambda: given}) == 55


def test_the_host_takes_streams_and_futures() -> None:
    begin = """(call $pair (call $new-f)) (global.set $n (global.get $w)) (global.set $a (global.get $r))
     (call $pair (call $new-s)) (call $take (global.get $r) (global.get $a))
     (i32.store (i32.const 64) (i32.const 0x636261))
     (call $wants (call $write (global.get $w) (i32.const 64) (i32.const 3)) (i32.const 48))
     (call $drop-w (global.get $w))
     (call $wants (call $write-f (global.get $n) (i32.const 64)) (i32.const 0)) (call $drop-wf (global.get $n))"""
    taken: list[Any] = []

    class Future(Printed):
        def set(self, value: Any) -> None:
            taken.append(value)

    printed = Printed(taken.append)

    def take(stream: Pipe, future: Pipe) -> None:
        stream.attach(printed)
        future.attach(Future(taken.append))

    assert value(component(f"{begin} {RETURN}"), {"take": take}) == 7
    assert taken == [b"abc", 0x636261]
    assert printed.done.ready()


NEW = "(call $pair (call $new-s))"
READING = f"{NEW} (drop (call $read (global.get $r) (i32.const 64) (i32.const 4)))"


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        ("(i32.const 0)", "a task ended without a result"),
        (f"(call $return (i32.const 1)) {RETURN}", "task.return is called twice"),
        ("(i32.const 3)", "unsupported callback code: 3"),
        ("(i32.const 0x12)", "unknown handle index 1"),
        (f"{NEW} (i32.const 0x12)", "handle index 1 is used with the wrong type: it is not a waitable set"),
        ("(call $cancel-task) (i32.const 0)", "task.cancel is called, and nobody has asked for that"),
        ("(call $drop-subtask (i32.const 1)) (i32.const 0)", "unknown handle index 1"),
        (f"{NEW} (call $drop-subtask (global.get $r)) (i32.const 0)",
         "handle index 1 is used with the wrong type: it is not a subtask"),
        ("(call $drop-subtask (i32.shr_u (call $wait (i32.const 60000) (i32.const 64)) (i32.const 4))) (i32.const 0)",
         "a subtask is dropped that has not ended"),
        (f"{NEW} (drop (call $read (global.get $w) (i32.const 64) (i32.const 4))) (i32.const 0)",
         "stream.read of the other end of a stream"),
        (f"{NEW} (call $drop-w (global.get $r)) (i32.const 0)", "stream.drop-writable of the other end of a stream"),
        (f"{NEW} (call $drop-rf (global.get $r)) (i32.const 0)",
         "handle index 1 is used with the wrong type: stream<u8>"),
        (f"{READING} (call $drop-r (global.get $r)) (i32.const 0)",
         "an end of a stream or future is dropped in the middle of a copy"),
        (f"{READING} (drop (call $read (global.get $r) (i32.const 64) (i32.const 4))) (i32.const 0)",
         "a copy of this end is under way, or its other end is dropped"),
        (f"{NEW} (drop (call $cancel-read (global.get $r))) (i32.const 0)",
         "there is no copy that could be cancelled"),
        (f"{NEW} (drop (call $read (global.get $r) (i32.const 65534) (i32.const 4))) (i32.const 0)",
         "out of bounds memory access"),
        (f"{NEW} (drop (call $write (global.get $w) (i32.const -1) (i32.const 1))) (i32.const 0)",
         "out of bounds memory access"),
        (f"{NEW} (drop (call $write (global.get $w) (i32.const 64) (i32.const -1))) (i32.const 0)",
         "a copy of 4294967295 items, the most is 268435455"),
        ("(call $pair (call $new-f)) (call $drop-wf (global.get $w)) (i32.const 0)",
         "a future is dropped that was not written"),
        ("(call $pair (call $new-f)) (drop (call $read-f (global.get $r) (i32.const 66))) (i32.const 0)",
         "unaligned pointer: 66 for u32"),
        (f"{NEW} (call $take (global.get $w) (i32.const 9)) (i32.const 0)",
         "only an end to read from can be given away, when nothing is under way"),
        (f"{READING} (call $take (global.get $r) (i32.const 9)) (i32.const 0)",
         "only an end to read from can be given away, when nothing is under way"),
        (f"{NEW} (global.set $set (call $new-set)) (call $join (global.get $r) (global.get $set))"
         "(call $take (global.get $r) (i32.const 9)) (i32.const 0)",
         "a stream is given away that is in a waitable set"),
        (f"{NEW} (call $join (global.get $r) (global.get $w)) (i32.const 0)",
         "handle index 2 is used with the wrong type: it is not a waitable set"),
        ("(global.set $set (call $new-set)) (call $join (global.get $set) (global.get $set)) (i32.const 0)",
         "handle index 1 is used with the wrong type: it is not a waitable"),
        (f"{NEW} (global.set $set (call $new-set)) (call $join (global.get $r) (global.get $set))"
         "(call $drop-set (global.get $set)) (i32.const 0)", "a waitable set is dropped that is not empty"),
        ("(loop $l (call $pair (call $new-s)) (br $l)) (i32.const 0)", "more than 10000 handles"),
        ("(global.set $set (call $new-set)) (loop $l (call $pair (call $new-s))"
         "(call $join (global.get $r) (global.get $set)) (br $l)) (i32.const 0)",
         f"more than {MAX_OF_SET} waitables in a set"),
        ("(loop $l (drop (call $wait (i32.const 60000) (i32.const 64))) (br $l)) (i32.const 0)",
         f"more than {MAX_SUBTASKS} subtasks"),
    ],
)  # fmt: skip
def test_broken_rules_are_traps(begin: str, reason: str) -> None:
    outcome, _ = run(component(begin), FUNCTIONS | {"take": lambda *_: None})
    assert (outcome.end, outcome.reason) == (End.TRAP, reason)


DEADLOCK = "deadlock detected: event loop cannot make further progress"


@pytest.mark.parametrize(
    "waits",
    [
        "(call $packed)",
        "(call $wait-set (global.get $set) (i32.const 8))",
        f"{READING} (call $packed)",
        "(drop (call $wait (i32.const 1) (i32.const 64))) (call $packed)",  # a result that it does not wait for
    ],
)
def test_waits_for_what_never_comes_are_traps(waits: str) -> None:
    outcome, _ = run(component(f"(global.set $set (call $new-set)) {waits}"), seconds=300)
    assert (outcome.end, outcome.reason) == (End.TRAP, DEADLOCK)


def test_waitables_in_all_sets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waitables, "MAX_OF_SETS", 1)
    begin = f"(global.set $set (call $new-set)) {NEW} (call $join (global.get $r) (global.get $set))"
    moved = "(call $join (global.get $r) (i32.const 0)) (call $join (global.get $w) (call $new-set))"
    left = (
        "(call $join (global.get $w) (i32.const 0)) (call $drop-set (global.get $set)) (call $drop-set (i32.const 4))"
    )
    dropped = "(call $drop-r (global.get $r)) (call $drop-w (global.get $w))"
    assert value(component(f"{begin} {moved} {left} {dropped} {RETURN}")) == 7
    outcome, _ = run(component(f"{begin} (call $join (global.get $w) (call $new-set)) (i32.const 0)"))
    assert (outcome.end, outcome.reason) == (End.TRAP, "more than 1 waitables in sets")


def test_waits_for_the_host_end_at_the_deadline() -> None:
    begin = "(global.set $set (call $new-set)) (drop (call $wait (i32.const 3600000) (i32.const 64))) (call $packed)"
    assert run(component(begin), seconds=0.2)[0].end is End.TIMEOUT


def test_streams_that_nobody_reads_keep_nothing_in_the_host() -> None:
    """Nobody can ever read; the bytes stay with the guest."""
    begin = """(call $pair (call $new-s))
     (call $wants (call $write (global.get $w) (i32.const 1024) (i32.const 60000)) (i32.const -1))
     (global.set $set (call $new-set)) (call $join (global.get $w) (global.get $set)) (call $packed)"""
    outcome, invocation = run(component(begin), seconds=300)
    assert (outcome.end, outcome.reason) == (End.TRAP, DEADLOCK)
    assert invocation._calls.held.size == 0


def test_endless_streams_that_nobody_reads_are_traps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "MAX_HANDLES", 200)
    begin = """(loop $more (call $pair (call $new-s))
      (drop (call $write (global.get $w) (i32.const 1024) (i32.const 60000))) (br $more)) (i32.const 0)"""
    outcome, invocation = run(component(begin), seconds=300)
    assert (outcome.end, outcome.reason) == (End.TRAP, "more than 200 handles")
    assert invocation._calls.held.size == 0


def test_what_a_task_leaves_is_ended() -> None:
    ended: list[str] = []

    async def endless() -> int:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("it")
        return 0

    begin = "(drop (call $wait (i32.const 1) (i32.const 64)))"
    outcome, _ = run(component(f"{begin} {RETURN}"), {"wait": lambda _: Await(endless)})
    assert outcome.end is End.OK
    assert ended == ["it"]


@pytest.mark.parametrize(
    ("builtin", "problem"),
    [
        ("(core func (canon error-context.drop))", "it uses error-context.drop of the async ABI, which is not run: no"),
        ("(core func (canon thread.index))", "it uses thread.index, which is not run: a component has one thread"),
        ('(core func (canon error-context.new (memory (core memory $l "mem"))))', "it uses error-context.new of"),
    ],
)  # fmt: skip
def test_other_builtins_are_refused_by_name(builtin: str, problem: str) -> None:
    text = component(RETURN).replace("(core module $m (", f"{builtin} (core module $m (", 1)
    with pytest.raises(UnsupportedModuleError) as caught:
        compile_component(engine().ptr, capi.assemble(text))
    assert str(caught.value).startswith(problem)
    assert "offered" in str(caught.value.hint)


def without_callback(text: str) -> str:
    """The component with its task lifted without a callback: it waits on its stack, and returns nothing."""
    text = text.replace('(callback (core func $i "callback"))', "")
    return text.replace('(func (export "run") (result i32) ', '(func (export "run") ', 1)


def test_functions_without_a_callback_wait_on_their_stack() -> None:
    assert value(without_callback(component(RETURN.removesuffix(" (i32.const 0)")))) == 7
    begin = BEGIN_TWO.removesuffix("(call $packed)") + WAIT_FOR_BOTH.removeprefix("(drop (call $packed)) ")
    assert value(without_callback(component(begin.removesuffix(" (i32.const 0)")))) == 31 + 61


def test_functions_without_a_callback_must_give_a_result() -> None:
    outcome, _ = run(without_callback(component("")))
    assert (outcome.end, outcome.reason) == (End.TRAP, "a task ended without a result")
