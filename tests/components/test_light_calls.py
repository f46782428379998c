"""What is carried out on the event loop: bounded in the bytes that it leads to, not only in its items."""

from __future__ import annotations

import asyncio
import struct
import threading
from typing import Any

import pytest
from running import assembled, call
from texts import ALLOCATOR, plan_of

from starlette_wasm.components import calls, invocation
from starlette_wasm.components.calls import Await
from starlette_wasm.components.errors import CanonicalTrap
from starlette_wasm.components.weights import Checks, checks_of, passes


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
    plan = plan_of(f"""(component
     (import "host" (func $host (param "l" (list {element}))))
     (core module $mem {ALLOCATOR}) (core instance $l (instantiate $mem))
     (core func $h (canon lower (func $host) (memory (core memory $l "mem"))))
     (core module $m (import "" "h" (func $h (param i32 i32))) (func (export "f")
      (call $h (i32.const 0) (i32.const 0))))
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
