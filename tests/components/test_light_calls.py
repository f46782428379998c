"""What is carried out on the event loop: bounded in the bytes that it leads to, not only in its items."""

from __future__ import annotations

import asyncio
import re
import struct
import threading
import time
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from running import assembled, call
from texts import ALLOCATOR, plan_of

from starlette_wasm.components import calls, invocation, pipes
from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.calls import Await
from starlette_wasm.components.errors import CanonicalTrap
from starlette_wasm.components.pipes import Pipe
from starlette_wasm.components.typed import TypedCall
from starlette_wasm.components.types import PRIMITIVES, async_value
from starlette_wasm.components.wasi.config import log
from starlette_wasm.components.wasi.ends import BytesSource, Ignored
from starlette_wasm.components.wasi.host import Bounds, GuestInput, WasiHost
from starlette_wasm.components.wasi.upload import UploadBody
from starlette_wasm.components.wasi.wakeup import Wakeup
from starlette_wasm.components.weights import Checks, checks_of, passes
from starlette_wasm.engine.plan import Limits


class Bytes:
    """A memory that begins with these bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, at: int, size: int) -> bytes:
        if at + size > len(self._data):
            raise CanonicalTrap("out of bounds memory access")
        return self._data[at : at + size]

    def write(self, at: int, data: bytes) -> None:
        raise AssertionError("nothing is written")


def checks(element: str) -> Checks:
    """For a function that takes a list of those."""
    return checks_with("", f"(list {element})")


def checks_with(types: str, kind: str) -> Checks:
    """For a function that takes one of that type."""
    params = "i32 i32" if kind.startswith("(list") else "i32"
    plan = plan_of(f"""(component {types}
     (import "host" (func $host (param "l" {kind})))
     (core module $mem {ALLOCATOR}) (core instance $l (instantiate $mem))
     (core func $h (canon lower (func $host) (memory (core memory $l "mem"))))
     (core module $m (import "" "h" (func $h (param {params}))) (func (export "f")))
     (core instance $i (instantiate $m (with "" (instance (export "h" (func $h))))))
     (func (export "f") (canon lift (core func $i "f"))))""")
    return checks_of(plan.hosts[0])


def light(element: str, count: int, data: bytes = b"") -> bool:
    found = checks(element)
    return found is not None and passes(found, [0, count], Bytes(data))


@pytest.mark.parametrize(
    ("element", "most"),
    [("u8", 256 << 10), ("u32", 8 << 10), ("f64", 8 << 10), ("bool", 64), ("char", 64), ("(tuple u8 u8)", 64)],
)
def test_lists_are_bounded_by_what_their_items_cost(element: str, most: int) -> None:
    assert light(element, most)
    assert not light(element, most + 1)


@pytest.mark.parametrize("element", ["string", "(list u8)"])
def test_texts_in_a_list_are_bounded_together(element: str) -> None:
    assert light(element, 2, struct.pack("<4I", 0, 128 << 10, 0, 128 << 10))
    assert not light(element, 2, struct.pack("<4I", 0, 128 << 10, 0, (128 << 10) + 1))
    assert not light(element, 1, struct.pack("<2I", 0, 0xFFFFFFFF))


def test_texts_within_items_are_bounded() -> None:
    header = "(tuple string (list u8))"
    assert light(header, 2, struct.pack("<8I", 0, 4, 0, 9, 0, 4, 0, 9))
    assert not light(header, 2, struct.pack("<8I", 0, 4, 0, 9, 0, 4, 0, 1 << 20))
    assert light("(option string)", 1, struct.pack("<3I", 0, 0, 1 << 20))
    assert not light("(option string)", 1, struct.pack("<3I", 1, 0, 1 << 20))


def test_items_that_are_not_there_trap_at_once() -> None:
    assert light("string", 2, bytes(15))


@pytest.mark.parametrize("element", ["(list string)", "(list u32)", "(tuple u8 (list (list u8)))"])
def test_lists_of_lists_are_for_threads(element: str) -> None:
    assert checks(element) is None


def builtin(name: str, element: str) -> Checks:
    kind, _, _ = name.partition(".")
    core = "(param i32 i32 i32)" if kind == "stream" else "(param i32 i32)"
    plan = plan_of(f"""(component
     (type $t ({kind} {element}))
     (core module $mem {ALLOCATOR}) (core instance $l (instantiate $mem))
     (core func $h (canon {name} $t async (memory (core memory $l "mem")) (realloc (core func $l "realloc"))))
     (core module $m (import "" "h" (func $h {core} (result i32))) (func (export "f")))
     (core instance $i (instantiate $m (with "" (instance (export "h" (func $h))))))
     (func (export "f") (canon lift (core func $i "f"))))""")
    return checks_of(plan.hosts[0])


@pytest.mark.parametrize(("element", "most"), [("u8", 256 << 10), ("u64", 32 << 10), ("bool", 64), ("(tuple u8)", 64)])
@pytest.mark.parametrize("name", ["stream.read", "stream.write"])
def test_copies_are_bounded_by_what_their_items_cost(name: str, element: str, most: int) -> None:
    found = builtin(name, element)
    assert found is not None
    assert passes(found, [1, 0, most], Bytes(b""))
    assert not passes(found, [1, 0, most + 1], Bytes(b""))


@pytest.mark.parametrize("name", ["stream.read", "stream.write", "future.read"])
def test_copies_of_texts_are_for_threads(name: str) -> None:
    assert builtin(name, "string") is None


def test_values_of_futures_are_bounded() -> None:
    found = builtin("future.write", "(option string)")
    assert found is not None
    assert passes(found, [1, 0], Bytes(struct.pack("<3I", 1, 0, 9)))
    assert not passes(found, [1, 0], Bytes(struct.pack("<3I", 1, 0, 1 << 20)))
    assert not passes(builtin("future.write", "(list string)") or (), [1, 0], Bytes(struct.pack("<2I", 0, 1)))
    assert builtin("future.write", "u32") == builtin("future.read", "u32") == ()


WAITING = f"""(component
 (import "wait" (func $wait))
 (component $A
  (import "wait" (func $wait))
  (core func $w (canon lower (func $wait)))
  (core module $m (import "" "w" (func $w)) (memory (export "mem") 1)
   (func (export "f") (result i32) (call $w) (i32.store (i32.const 20) (i32.const 1000)) (i32.const 16)))
  (core instance $i (instantiate $m (with "" (instance (export "w" (func $w))))))
  (func (export "f") (result (list u8)) (canon lift (core func $i "f") (memory (core memory $i "mem")))))
 (component $B
  (import "f" (func $f (result (list u8))))
  (core module $mem {ALLOCATOR}) (core instance $l (instantiate $mem))
  (core func $g (canon lower (func $f) (memory (core memory $l "mem")) (realloc (core func $l "realloc"))))
  (core module $m (import "" "g" (func $g (param i32))) (func (export "run") (call $g (i32.const 0))))
  (core instance $i (instantiate $m (with "" (instance (export "g" (func $g))))))
  (func (export "run") (canon lift (core func $i "run"))))
 (instance $a (instantiate $A (with "wait" (func $wait))))
 (instance $b (instantiate $B (with "f" (func $a "f"))))
 (export "run" (func $b "run")))"""


def test_results_of_other_components_are_read_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though a call in between has brought the guest back to the event loop."""
    monkeypatch.setattr(invocation, "LIGHT", 1000.0)
    lift, threads = calls.lift_result, {}

    def lift_result(side: Any, kind: Any, flat: list[int]) -> Any:
        threads[kind.text] = threading.current_thread()
        return lift(side, kind, flat)

    async def wait() -> None:
        await asyncio.sleep(0.001)

    monkeypatch.setattr(calls, "lift_result", lift_result)
    outcome, _ = call(assembled(WAITING), ("run", []), functions={"wait": lambda: Await(wait)})
    assert outcome.reason == ""
    assert threads["func() -> list<u8>"] is not threading.main_thread()


WORDS = (
    (Path(__file__).parent / "wast/streams.wast").read_text().partition("(component definition $words")[2]
    .partition(";; The writer comes first")[0].rpartition(")")[0]
)  # fmt: skip
"""Two components with a stream of strings from one to the other."""
EMPTY_WORDS = f"""(component {re.sub(r'[(]data [(]i32.const [0-9]+[)] "[^"]*"[)]', "", WORDS)}
 (import "wait" (func $wait)) (core func $lowered (canon lower (func $wait)))
 (core module $waits (import "" "w" (func $w)) (func (export "pause") (call $w)))
 (core instance $waiting (instantiate $waits (with "" (instance (export "w" (func $lowered))))))
 (func (export "pause") (canon lift (core func $waiting "pause"))))"""
"""As they are, but for the words; and one that waits, after which the guest goes on on the event loop."""


class Watched:
    """Notes which calls of a function are on an event loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        self.on_loop: list[bool] = []
        self._function = getattr(module, name)
        monkeypatch.setattr(module, name, self)
        monkeypatch.setattr(invocation, "LIGHT", 1000.0)  # what it uses does not bring it to a thread

    def __call__(self, *given: Any) -> Any:
        self.on_loop.append(asyncio._get_running_loop() is not None)
        return self._function(*given)


@pytest.mark.parametrize(
    ("count", "on_loop"), [pytest.param(3, True, marks=pytest.mark.native), (400, False)]
)  # without C, calls of the host are answered in a thread
@pytest.mark.parametrize("take", ["event-of-reader", "cancel-read"])
def test_many_items_are_copied_in_threads(
    take: str, count: int, on_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guests choose how many they are: 262,144 strings took a second."""
    lifted = Watched(monkeypatch, pipes, "load")
    asked: list[tuple[str, list[int]]] = [("connect", []), ("read", [count]), ("write", [count]), ("pause", [])]
    if take == "cancel-read":
        asked.append(("leave-reader", []))

    async def wait() -> None:
        await asyncio.sleep(0)

    outcome, made = call(assembled(EMPTY_WORDS), *asked, (take, []), functions={"wait": lambda: Await(wait)})
    assert outcome.reason == ""
    assert made.values[-1] == count << 4
    assert len(lifted.on_loop) == count
    assert lifted.on_loop[-1] is on_loop


@pytest.mark.parametrize(("value", "on_loop"), [(["x"] * 10, True), (["x"] * 1000, False), (["x" * 200_000], False)])
def test_large_answers_of_the_host_are_lowered_in_threads(
    value: list[str], on_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered = Watched(monkeypatch, calls, "lower_result")
    text = (
        WAITING[: WAITING.index("(component $A")]
        + f"""
     (core module $mem {ALLOCATOR}) (core instance $l (instantiate $mem))
     (core func $w (canon lower (func $wait) (memory (core memory $l "mem")) (realloc (core func $l "realloc"))))
     (core module $m (import "" "w" (func $w (param i32))) (func (export "run") (call $w (i32.const 0))))
     (core instance $i (instantiate $m (with "" (instance (export "w" (func $w))))))
     (func (export "run") (canon lift (core func $i "run"))))"""
    )
    text = text.replace('(import "wait" (func $wait))', '(import "wait" (func $wait (result (list string))))', 1)

    async def wait() -> Any:
        await asyncio.sleep(0)
        return value

    outcome, _ = call(assembled(text), ("run", []), functions={"wait": lambda: Await(wait)})
    assert outcome.reason == ""
    assert lowered.on_loop == [on_loop]


def test_types_of_many_parts_are_lifted_in_threads() -> None:
    """A type that names another again and again is short, and has as many parts as it likes."""
    assert light("(tuple u8 u8 u8 u8)", 64)
    plan = "(type $a (tuple {})) (type $b (tuple {})) (type $c (tuple {}))".format(
        " ".join(["u8"] * 16), " ".join(["$a"] * 16), " ".join(["$b"] * 16)
    )
    for element, most in (("$a", 64), ("$b", 8), ("$c", 0)):
        found = checks_with(plan, f"(list {element})")
        assert found is not None
        assert passes(found, [0, most], Bytes(b""))
        assert not passes(found, [0, most + 1], Bytes(b""))
    assert checks_with(plan, "$b") == ()
    assert checks_with(plan, "$c") is None


@pytest.mark.parametrize(("length", "on_loop"), [(10, True), (300 << 10, False)])
def test_large_texts_of_typed_calls_are_lifted_in_threads(
    length: int, on_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifted = Watched(monkeypatch, calls, "lift_result")
    module = assembled(f"""(component
     (core module $m (memory (export "mem") 8)
      (func (export "f") (result i32) (i32.store (i32.const 16) (i32.const 64))
       (i32.store (i32.const 20) (i32.const {length})) (i32.const 16)))
     (core instance $i (instantiate $m))
     (func (export "f") (result string) (canon lift (core func $i "f") (memory (core memory $i "mem")))))""")
    guest = invocation.ComponentInvocation(ComponentPlan(module, Limits()), b"")
    guest.typed = TypedCall(module.functions["f"], [])
    outcome = asyncio.run(guest.run(time.monotonic() + 60, nullcontext))
    assert outcome.reason == ""
    assert len(guest.typed.value) == length
    assert lifted.on_loop == [on_loop]


class Counting(Ignored):
    """Takes bytes, and counts them."""

    moved = 0

    def put(self, data: bytes) -> None:
        Counting.moved += len(data)


def test_what_the_host_hands_on_leaves_the_loop_its_turns() -> None:
    """A guest may hand its input to its output, again and again, for some microseconds each."""
    Counting.moved = 0
    wakeup, rounds = Wakeup(), []

    async def main() -> None:
        for _ in range(20):
            pipe = Pipe(source=BytesSource(bytes(1 << 20)))
            pipe.readable_end(async_value("stream", PRIMITIVES["u8"]))
            pipe.attach(Counting())
            wakeup.pump(pipe)
        moving = asyncio.ensure_future(wakeup.until(wakeup.pumped))
        while not moving.done():
            rounds.append(Counting.moved)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert Counting.moved == 20 << 20
    assert max(after - before for before, after in pairwise(rounds)) <= 1 << 20
    assert wakeup.pumped()


def test_streams_within_the_host_are_bounded() -> None:
    wakeup = Wakeup()
    for _ in range(1000):
        wakeup.pump(Pipe())
    with pytest.raises(CanonicalTrap, match="more than 1000 streams"):
        wakeup.pump(Pipe())


def wasi(most_err: int = 1 << 20) -> WasiHost:
    return WasiHost({}, GuestInput(b""), Bounds(0, most_err, 1))


def test_lines_of_a_message_are_bounded() -> None:
    host = wasi()
    log(host, "info", "", "\n" * 250_000)
    assert host.stderr.count(b"\n") == 1000
    assert host.stderr_dropped == 250_000 - 1000


def test_bodies_of_requests_are_bounded() -> None:
    """How much may be written to one depends on what is in all others."""
    host = wasi()
    bodies = [UploadBody(host, None) for _ in range(100)]
    with pytest.raises(CanonicalTrap, match="more than 100 bodies"):
        UploadBody(host, None)
    bodies.pop()
    UploadBody(host, None)
