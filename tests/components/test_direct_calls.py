"""Calls of the host whose types are plain: the same comes of them as step by step, traps included."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext

import pytest
from running import engine
from texts import ALLOCATOR

from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.components.module import ComponentModule
from starlette_wasm.engine import capi
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits

NAMES = {
    "make": ("[constructor]fields", "(result i32)"),
    "append": ("[method]fields.append", "(param i32 i32 i32 i32 i32 i32)"),
    "has": ("[method]fields.has", "(param i32 i32 i32) (result i32)"),
    "clone": ("[method]fields.clone", "(param i32) (result i32)"),
    "get": ("[method]fields.get", "(param i32 i32 i32 i32)"),
    "answer": ("[constructor]outgoing-response", "(param i32) (result i32)"),
    "status": ("[method]outgoing-response.set-status-code", "(param i32 i32) (result i32)"),
    "status_of": ("[method]outgoing-response.status-code", "(param i32) (result i32)"),
    "body": ("[method]outgoing-response.body", "(param i32 i32)"),
}
_OPTIONS = '(memory (core memory $l "mem")) (realloc (core func $l "realloc"))'


def component(body: str) -> bytes:
    """``body`` leaves a number, which is its answer as one character behind @; a name is at 80, invalid UTF-8 at 90."""
    lowered = "\n".join(f'(core func ${core} (canon lower (func $h "{name}") {_OPTIONS}))'
                        for core, (name, _) in NAMES.items())  # fmt: skip
    given = " ".join(f'(export "{core}" (func ${core}))' for core, (name, _) in NAMES.items())
    imports = "\n".join(f'(import "" "{core}" (func ${core} {kind}))' for core, (name, kind) in NAMES.items())
    return capi.assemble(f"""(component
     (import "wasi:http/types@0.2.0" (instance $h
      (export "fields" (type $f (sub resource)))
      (export "outgoing-response" (type $r (sub resource)))
      (export "outgoing-body" (type $b (sub resource)))
      (type $he (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
      (export "header-error" (type $e (eq $he)))
      (export "[constructor]fields" (func (result (own $f))))
      (export "[method]fields.append" (func (param "self" (borrow $f)) (param "name" string)
       (param "value" (list u8)) (result (result (error $e)))))
      (export "[method]fields.has" (func (param "self" (borrow $f)) (param "name" string) (result bool)))
      (export "[method]fields.clone" (func (param "self" (borrow $f)) (result (own $f))))
      (export "[method]fields.get" (func (param "self" (borrow $f)) (param "name" string) (result (list (list u8)))))
      (export "[constructor]outgoing-response" (func (param "headers" (own $f)) (result (own $r))))
      (export "[method]outgoing-response.set-status-code"
       (func (param "self" (borrow $r)) (param "status-code" u16) (result (result))))
      (export "[method]outgoing-response.status-code" (func (param "self" (borrow $r)) (result u16)))
      (export "[method]outgoing-response.body" (func (param "self" (borrow $r)) (result (result (own $b)))))))
     (core module $mem {ALLOCATOR})
     (core instance $l (instantiate $mem))
     {lowered}
     (core module $m {imports} (import "l" "mem" (memory 1)) (data (i32.const 80) "name") (data (i32.const 90) "\\ff")
      (func (export "handle") (param i32 i32) (result i32) (local $x i32) (local $y i32)
       (i32.store8 (i32.const 96) (i32.add (i32.const 64) {body}))
       (i32.store (i32.const 16) (i32.const 96)) (i32.store (i32.const 20) (i32.const 1)) (i32.const 16)))
     (core instance $i (instantiate $m (with "l" (instance $l)) (with "" (instance {given}))))
     (func (export "handle") (param "request" string) (result string)
      (canon lift (core func $i "handle") {_OPTIONS})))""")


def outcomes(component: bytes) -> tuple[Outcome, Outcome]:
    """By direct calls, and step by step."""
    module = ComponentModule(engine(), *compile_component(engine().ptr, component))
    assert any(module.direct_calls)
    one = _ask(module)
    module.direct_calls = [None] * len(module.direct_calls)
    return one, _ask(module)


def _ask(module: ComponentModule) -> Outcome:
    invocation = ComponentInvocation(ComponentPlan(module, Limits(time=30)), b"{}")
    outcome = asyncio.run(invocation.run(time.monotonic() + 30, nullcontext))
    outcome.cpu_s = 0
    return outcome


MADE = "(local.set $x (call $make))"
APPENDED = f"""{MADE} (call $append (local.get $x) (i32.const 80) (i32.const 4) (i32.const 80) (i32.const 2)
 (i32.const 32))"""
ANSWER = f"{MADE} (local.set $x (call $answer (local.get $x)))"


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (f"(block (result i32) {MADE} (local.get $x))", b"A"),
        (f"(block (result i32) {APPENDED} (call $has (local.get $x) (i32.const 80) (i32.const 4)))", b"A"),
        (f"(block (result i32) {APPENDED} (call $has (local.get $x) (i32.const 80) (i32.const 3)))", b"@"),
        (f"(block (result i32) {APPENDED} (i32.load8_u (i32.const 32)))", b"@"),
        (f"(block (result i32) {MADE} (i32.store (i32.const 32) (i32.const -1)) (call $append (local.get $x)"
         " (i32.const 96) (i32.const 1) (i32.const 80) (i32.const 2) (i32.const 32))"
         " (i32.load8_u (i32.const 33)))", b"@"),
        (f"(block (result i32) {MADE} (call $clone (local.get $x)))", b"B"),
        (f"(block (result i32) {APPENDED} (call $get (local.get $x) (i32.const 80) (i32.const 4) (i32.const 32))"
         " (i32.load8_u offset=4 (i32.load (i32.const 32))))", b"B"),
        (f"(block (result i32) {ANSWER} (local.get $x))", b"A"),
        (f"(block (result i32) {ANSWER} (drop (call $status (local.get $x) (i32.const 65746)))"
         " (i32.sub (call $status_of (local.get $x)) (i32.const 200)))", b"J"),
        (f"(block (result i32) {ANSWER} (call $status (local.get $x) (i32.const 7)))", b"A"),
        (f"(block (result i32) {ANSWER} (call $body (local.get $x) (i32.const 32)) (i32.load (i32.const 36)))", b"B"),
        (f"(block (result i32) {ANSWER} (call $body (local.get $x) (i32.const 32)) (call $body (local.get $x)"
         " (i32.const 32)) (i32.load8_u (i32.const 32)))", b"A"),
    ],
)  # fmt: skip
def test_direct_calls_come_to_the_same(body: str, answer: bytes) -> None:
    one, other = outcomes(component(body))
    assert one == other
    assert (one.end, one.stdout) == (End.OK, answer), one


@pytest.mark.parametrize(
    "body",
    [
        "(call $clone (i32.const 1))",
        f"(block (result i32) {MADE} (call $clone (i32.const 0)))",
        f"(block (result i32) {MADE} (call $clone (i32.const -1)))",
        f"(block (result i32) {MADE} (call $status_of (local.get $x)))",
        f"(block (result i32) {MADE} (call $has (local.get $x) (i32.const 65535) (i32.const 2)))",
        f"(block (result i32) {MADE} (call $has (local.get $x) (i32.const -1) (i32.const 2)))",
        f"(block (result i32) {MADE} (call $has (local.get $x) (i32.const 80) (i32.const -1)))",
        f"(block (result i32) {MADE} (call $has (local.get $x) (i32.const 0) (i32.const 200000)))",
        f"(block (result i32) {MADE} (call $has (local.get $x) (i32.const 90) (i32.const 1)))",
        f"(block (result i32) {ANSWER} (call $body (local.get $x) (i32.const 33)) (i32.const 1))",
        f"(block (result i32) {ANSWER} (call $body (local.get $x) (i32.const 65532)) (i32.const 1))",
        f"(block (result i32) {ANSWER} (call $body (local.get $x) (i32.const -4)) (i32.const 1))",
        f"(block (result i32) {MADE} (local.set $y (call $answer (local.get $x))) (call $answer (local.get $x)))",
    ],
)
def test_direct_calls_trap_as_they_should(body: str) -> None:
    one, other = outcomes(component(body))
    assert (one.end, one.reason) == (other.end, other.reason)
    assert one.end is End.TRAP
    assert one.reason
