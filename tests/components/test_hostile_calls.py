"""Typed calls of hostile components: endless realloc, forged pointers, and state left behind."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import Any

import pytest
from running import assembled
from wit_shop import SHOP

from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.kinds import begin
from starlette_wasm.components.typed import TypedCall, arguments
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits

PRICING = "docs:shop/pricing@1.2.0#"
ITEM = {"name": "tea", "in-stock": 1}


def call(plan: ComponentPlan, name: str, *given: Any, seconds: float = 30.0) -> tuple[Outcome, Any]:
    function = plan.component.functions[name]
    typed = TypedCall(function, arguments(function.type, given, {}))
    invocation = begin(plan, b"", typed=typed)
    outcome = asyncio.run(invocation.run(time.monotonic() + seconds, nullcontext))
    return outcome, typed.value


def hostile(body: str, name: str) -> ComponentPlan:
    """SHOP with another body of a function of its core module; ``name`` is how that begins."""
    at = SHOP.index(name) + len(name)
    end = SHOP.index("(func (export", at) if "realloc" not in name else SHOP.index("(data", at)
    return ComponentPlan(assembled(f"{SHOP[:at]} {body})\n{SHOP[end:]}"), Limits())


REALLOC = '(func (export "realloc") (param i32 i32 i32 i32) (result i32)'
THREE = '(func (export "three") (param i32 i32 i32) (result i32)'
TWO = '(func (export "two") (param i32 i32) (result i32)'


def test_an_endless_realloc_ends_at_the_deadline() -> None:
    outcome, _ = call(hostile("(loop $l (br $l)) unreachable", REALLOC), f"{PRICING}same", ITEM, seconds=0.3)
    assert outcome.end is End.TIMEOUT


@pytest.mark.parametrize("place", ["0xfffffff0", "65536", "-1"])
def test_rooms_beyond_the_memory_are_traps(place: str) -> None:
    outcome, value = call(hostile(f"(i32.const {place})", REALLOC), f"{PRICING}same", ITEM)
    assert (outcome.end, value) == (End.TRAP, None)


@pytest.mark.parametrize(("place", "length"), [("65530", "100"), ("0", "0xffffffff"), ("0xfffffffc", "8")])
def test_forged_strings_are_traps(place: str, length: str) -> None:
    body = (
        f"(i32.store (i32.const 16) (i32.const {place})) (i32.store (i32.const 20) (i32.const {length})) (i32.const 16)"
    )
    outcome, value = call(hostile(body, THREE), f"{PRICING}same", ITEM)
    assert (outcome.end, value) == (End.TRAP, None)
    assert outcome.reason in ("out of bounds memory access", "string is too long")


@pytest.mark.parametrize("count", ["0x7fffffff", "5462"])
def test_forged_lists_are_traps(count: str) -> None:
    body = f"(i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const {count})) (i32.const 16)"
    outcome, value = call(hostile(body, TWO), f"{PRICING}list-all", [ITEM])
    assert (outcome.end, outcome.reason, value) == (End.TRAP, "out of bounds memory access", None)


def test_unaligned_results_are_traps() -> None:
    outcome, _ = call(hostile("(i32.const 17)", THREE), f"{PRICING}same", ITEM)
    assert (outcome.end, outcome.reason.partition(":")[0]) == (End.TRAP, "unaligned pointer")


def test_nothing_that_a_call_leaves_is_found_by_the_next() -> None:
    """In a global, in memory, and where memory has grown."""
    left = """(i32.store (i32.const 4096) (i32.add (i32.const 1) (i32.load (i32.const 4096))))
      (if (i32.gt_u (local.get 0) (i32.const 8)) (then (drop (memory.grow (i32.const 1)))))
      (i32.add (i32.load (i32.const 4096)) (i32.mul (i32.const 100) (memory.size)))"""
    plan = hostile(left, '(func (export "add") (param i32 i32) (result i32)')
    for given in (1, 2, 9, 1, 9, 3):
        outcome, value = call(plan, "add", given, 0)
        assert (outcome.end, value) == (End.OK, 101 if given < 9 else 201)
    for _ in range(3):
        assert call(plan, f"{PRICING}next")[1] == 1
