"""Components run: requests, composition, handles, bounds, and ends of all kinds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import Oracle, ask, assembled, call, compiled
from texts import ALLOCATOR, COMPOSED, ECHO

from starlette_wasm.engine import capi
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits

JS = Path(__file__).parents[1] / "guests" / "components" / "edge_js.wasm"


def edge(body: str, more: str = "") -> str:
    """A component of the world edge whose core function has this body; it answers what is at 16."""
    return f"""(component
     (core module $m {ALLOCATOR} {more}
      (func (export "handle") (param i32 i32) (result i32) {body}))
     (core instance $i (instantiate $m))
     (func (export "handle") (param "request" string) (result string)
      (canon lift (core func $i "handle") (memory (core memory $i "mem")) (realloc (core func $i "realloc")))))"""


def test_echo_answers_what_it_is_asked() -> None:
    outcome = ask(assembled(ECHO), "grüße 🎉")
    assert (outcome.end, outcome.stdout.decode()) == (End.OK, "grüße 🎉")
    assert outcome.memory_bytes == 65536


def test_large_strings_pass() -> None:
    text = "é" * 2_000_000
    outcome = ask(assembled(ECHO), text, Limits(memory_pages=200))
    assert outcome.stdout.decode() == text


def test_javascript_answers() -> None:
    outcome = ask(compiled(JS.read_bytes()), json.dumps({"path": "/a"}))
    assert json.loads(outcome.stdout)["body"] == "hello /a 1 1 é"


def test_javascript_errors_are_traps() -> None:
    outcome = ask(compiled(JS.read_bytes()), "no JSON")
    assert outcome.end is End.TRAP
    assert outcome.reason == "unreachable"


def test_every_instance_is_fresh() -> None:
    module = compiled(JS.read_bytes())
    for _ in range(3):
        assert json.loads(ask(module, '{"path": "/"}').stdout)["body"] == "hello / 1 1 é"


def test_composition_agrees_with_wasmtime() -> None:
    component = capi.assemble(COMPOSED)
    reference = Oracle(component)
    expected = [reference.call("run", "ab€", 4), reference.call("run", "", 9), reference.call("live")]
    outcome, invocation = call(compiled(component), ("run", ["ab€", 4]), ("run", ["", 9]), ("live", []))
    assert outcome.end is End.OK, outcome
    assert invocation.values == expected == [("ab€ab€", 40), ("", 90), 14]
    assert invocation.handles_left == 2
    assert invocation.host_calls > 10


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("unreachable", "unreachable"),
        ("(i32.const 17)", "unaligned pointer: 17 for string"),
        ("(i32.const 65536)", "out of bounds memory access"),
        ("(i32.store (i32.const 16) (i32.const 65530)) (i32.store (i32.const 20) (i32.const 7)) (i32.const 16)",
         "out of bounds memory access"),
        ("(i32.store (i32.const 20) (i32.const -1)) (i32.const 16)", "string is too long"),
        ("(i32.store (i32.const 16) (i32.const 0x7fffffff)) (i32.store (i32.const 20) (i32.const 9)) (i32.const 16)",
         "out of bounds memory access"),
        ("(i32.store8 (i32.const 99) (i32.const 0xff)) (i32.store (i32.const 16) (i32.const 99))"
         "(i32.store (i32.const 20) (i32.const 1)) (i32.const 16)", "invalid utf-8 in a string"),
    ],
)  # fmt: skip
def test_broken_rules_are_traps(body: str, reason: str) -> None:
    outcome = ask(assembled(edge(body)), "hello")
    assert (outcome.end, outcome.reason) == (End.TRAP, reason)


@pytest.mark.parametrize(
    ("at", "reason"),
    [("(i32.const -8)", "out of bounds memory access"), ("(i32.const 65536)", "out of bounds memory access")],
)
def test_places_that_realloc_gives_are_checked(at: str, reason: str) -> None:
    text = ECHO.replace("(local.get $at))", f"{at})")
    outcome = ask(assembled(text), "hello")
    assert (outcome.end, outcome.reason) == (End.TRAP, reason)


def test_endless_guests_end_at_the_deadline() -> None:
    outcome = ask(assembled(edge("(loop $l (br $l)) unreachable")), seconds=0.2)
    assert outcome.end is End.TIMEOUT


def test_endless_reallocs_end_at_the_deadline() -> None:
    text = ECHO.replace('(export "realloc")', '(export "realloc")').replace(
        "(local $at i32)\n", "(local $at i32) (loop $l (br $l))\n"
    )
    assert ask(assembled(text), "hello", seconds=0.2).end is End.TIMEOUT


def test_endless_start_functions_end_at_the_deadline() -> None:
    text = edge("(i32.const 16)", "(func $s (loop $l (br $l))) (start $s)")
    assert ask(assembled(text), seconds=0.2).end is End.TIMEOUT


def test_start_functions_run_before_the_entry() -> None:
    more = "(func $s (i32.store8 (i32.const 99) (i32.const 65))) (start $s)"
    body = "(i32.store (i32.const 16) (i32.const 99)) (i32.store (i32.const 20) (i32.const 1)) (i32.const 16)"
    assert ask(assembled(edge(body, more))).stdout == b"A"


def test_memory_is_bounded() -> None:
    grow = "(if (i32.eq (memory.grow (i32.const 9)) (i32.const -1)) (then unreachable)) (i32.const 16)"
    module = assembled(edge(grow))
    assert ask(module, limits=Limits(memory_pages=10)).end is End.OK
    outcome = ask(module, limits=Limits(memory_pages=9))
    assert (outcome.end, outcome.refused_pages, outcome.memory_bytes) == (End.MEMORY, 9, 65536)


def test_memories_share_one_bound() -> None:
    text = f"""(component
     (core module $a (memory (export "mem") 1)
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))
     (core module $m {ALLOCATOR} (import "a" "grow" (func $grow (param i32) (result i32)))
      (func (export "handle") (param i32 i32) (result i32) (local $n i32)
       (loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
       (loop $l (br_if $l (i32.ne (i32.const -1) (call $grow (i32.const 1)))))
       (i32.const 16)))
     (core instance $j (instantiate $a))
     (core instance $i (instantiate $m (with "a" (instance $j))))
     (func (export "handle") (param "request" string) (result string)
      (canon lift (core func $i "handle") (memory (core memory $i "mem")) (realloc (core func $i "realloc")))))"""
    text = text.replace(f'{ALLOCATOR} (import "a" "grow" (func $grow (param i32) (result i32)))',
                        f'(import "a" "grow" (func $grow (param i32) (result i32))) {ALLOCATOR}')  # fmt: skip
    outcome = ask(assembled(text), limits=Limits(memory_pages=18))
    assert (outcome.end, outcome.memory_bytes) == (End.OK, 18 * 65536)


def test_answers_are_bounded() -> None:
    assert ask(assembled(ECHO), "x" * 100, Limits(stdout=100)).end is End.OK
    assert ask(assembled(ECHO), "x" * 101, Limits(stdout=100)).end is End.OUTPUT


def test_tail_calls_do_not_use_the_stack() -> None:
    more = """(func $down (param i32) (result i32)
      (if (result i32) (local.get 0) (then (return_call $down (i32.sub (local.get 0) (i32.const 1)))) (else
       (i32.const 16))))"""
    assert ask(assembled(edge("(call $down (i32.const 1000000))", more))).end is End.OK
    endless = "(func $for_ever (result i32) (return_call $for_ever))"
    assert ask(assembled(edge("(call $for_ever)", endless)), seconds=0.2).end is End.TIMEOUT


def test_deep_recursion_is_a_trap() -> None:
    more = "(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))"
    outcome = ask(assembled(edge("(call $deep (i32.const 0))", more)))
    assert (outcome.end, outcome.reason) == (End.TRAP, "call stack exhausted")
