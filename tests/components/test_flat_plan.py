"""The flat plan: which core instances are made, of what, and what the host has to make for them."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from texts import ALLOCATOR, COMPOSED, ECHO, plan_of

from starlette_wasm.components.errors import ComponentError, UnsupportedComponentError
from starlette_wasm.components.flat_plan import CoreExport, HostFunction, LiftedFunction, flatten
from starlette_wasm.components.reader import read
from starlette_wasm.components.types import Resource
from starlette_wasm.engine.binary import COMPONENT_PREAMBLE, leb

JS = Path(__file__).parents[1] / "guests" / "components" / "edge_js.wasm"


def _signed(index: int) -> bytes:
    """An index as a signed LEB128: with one bit to spare."""
    out = bytearray()
    while index > 0x3F:
        out.append(index & 0x7F | 0x80)
        index >>= 7
    return bytes([*out, index])


def test_plan_of_one_module() -> None:
    plan = plan_of(ECHO)
    assert len(plan.steps) == 1
    assert not plan.hosts
    sort, handle = plan.exports["handle"]
    assert sort == "func"
    assert isinstance(handle, LiftedFunction)
    assert handle.core == CoreExport(0, "handle", "func")
    assert handle.options.memory == CoreExport(0, "mem", "memory")
    assert handle.type.text == "func(request: string) -> string"


def test_plan_of_a_composition() -> None:
    plan = plan_of(COMPOSED)
    assert Counter(host.kind for host in plan.hosts) == {"adapter": 3, "new": 1, "drop": 1}
    assert plan.instances == 3
    made = next(host for host in plan.hosts if host.kind == "new")
    dropped = next(host for host in plan.hosts if host.kind == "drop")
    assert isinstance(made.of, Resource)
    assert made.of is dropped.of
    assert made.of.destructor == CoreExport(0, "dtor", "func")
    assert (made.of.instance, made.instance, dropped.instance) == (1, 1, 2)


def test_plan_resolves_the_imports_of_a_step() -> None:
    plan = plan_of(COMPOSED)
    step = plan.steps[-1]
    assert step.item("l", "mem", "memory") == CoreExport(2, "mem", "memory")
    twice = step.item("", "twice", "func")
    assert isinstance(twice, HostFunction)
    assert twice.options.realloc == CoreExport(2, "realloc", "func")
    with pytest.raises(ComponentError, match="imports '' 'other', which is not given"):
        step.item("", "other", "func")


def test_plan_of_a_quickjs_component() -> None:
    plan = flatten(read(JS.read_bytes()))
    assert not plan.imports
    handle = plan.exports["handle"][1]
    assert isinstance(handle, LiftedFunction)
    assert handle.type.text == "func(request: string) -> string"
    assert len(plan.steps) == 11


def test_plan_names_imported_functions() -> None:
    plan = plan_of(
        """(component
         (import "wasi:io/streams@0.2.0" (instance $s
          (export "input-stream" (type $in (sub resource)))
          (type $e (variant (case "closed") (case "other" string)))
          (export "stream-error" (type $ee (eq $e)))
          (export "[method]input-stream.read" (func (param "self" (borrow $in)) (param "len" u64)
           (result (result (list u8) (error $ee))))))))"""
    )
    assert [str(each) for each in plan.imports] == ["wasi:io/streams@0.2.0 [method]input-stream.read"]
    assert plan.imports[0].type.text == (
        "func(self: borrow<input-stream>, len: u64) -> result<list<u8>, variant {closed, other(string)}>"
    )


def test_plan_shares_types_through_outer_aliases() -> None:
    plan = plan_of(
        """(component
         (type $pair (record (field "a" u8) (field "b" u32)))
         (component $inner
          (alias outer 1 $pair (type $p))
          (export "pair" (type $p)))
         (instance $i (instantiate $inner))
         (export "i" (instance $i)))"""
    )
    exported = plan.exports["i"][1]
    assert isinstance(exported, dict)
    assert str(exported["pair"][1]) == "record {a: u8, b: u32}"


def test_instances_that_double_are_refused() -> None:
    levels = "(component $c0)" + "".join(
        f"(component $c{i} (component $x) {''}"
        f"(alias outer 1 $c{i - 1} (component $p)) (instance (instantiate $p)) (instance (instantiate $p)))"
        for i in range(1, 30)
    )
    begin = time.monotonic()
    with pytest.raises(ComponentError, match="more than 1000 component instances"):
        plan_of(f"(component {levels} (instance (instantiate $c29)))")
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize("count", [10_000, 100_000])
def test_nested_types_are_refused(count: int) -> None:
    types = b"".join(b"\x70" + _signed(i) for i in range(count - 1))  # each a list of the one before
    data = leb(count) + b"\x70\x7f" + types
    begin = time.monotonic()
    with pytest.raises(ComponentError, match="a list is nested more than 64 deep"):
        flatten(read(COMPONENT_PREAMBLE + b"\x07" + leb(len(data)) + data))
    assert time.monotonic() - begin < 30


def test_records_that_double_are_refused() -> None:
    data, count = b"\x72\x01\x01a\x77", 40
    for i in range(count - 1):
        data += b"\x72\x02\x01a" + leb(i) + b"\x01b" + leb(i)
    data = leb(count) + data
    with pytest.raises(ComponentError, match=r"a record takes \d+ bytes, the most is"):
        flatten(read(COMPONENT_PREAMBLE + b"\x07" + leb(len(data)) + data))


def test_variants_that_double_their_text_are_bounded() -> None:
    data, count = b"\x72\x01\x01a\x77", 60
    for i in range(count - 1):
        data += b"\x71\x02\x01a\x01" + leb(i) + b"\0\x01b\x01" + leb(i) + b"\0"
    data = leb(count) + data
    plan = flatten(read(COMPONENT_PREAMBLE + b"\x07" + leb(len(data)) + data))
    assert not plan.steps


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("(component (core func $n (canon error-context.drop)))", "it uses error-context.drop of the async ABI"),
        ('(component (import "c" (component)))', "it imports the component 'c'"),
        ('(component (import "m" (core module)))', "it imports the core module 'm'"),
    ],
)
def test_what_is_not_run_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(UnsupportedComponentError) as caught:
        plan_of(text)
    assert problem in str(caught.value)


def test_unknown_indices_are_refused() -> None:
    body = b"\x01\x01\x00\x05\x00"  # lower function 5
    with pytest.raises(ComponentError, match="func 5 is named, and there are 0"):
        flatten(read(COMPONENT_PREAMBLE + b"\x08" + leb(len(body)) + body))


@pytest.mark.parametrize(
    ("options", "lack"),
    [("", "a memory"), ('(memory (core memory $i "mem"))', "a realloc")],
)
def test_lifts_without_their_options_are_refused(options: str, lack: str) -> None:
    text = f"""(component (core module $m {ALLOCATOR} (func (export "f") (param i32 i32)))
     (core instance $i (instantiate $m))
     (func (export "f") (param "s" string) (canon lift (core func $i "f") {options})))"""
    with pytest.raises(ComponentError, match=f"without {lack}"):
        plan_of(text)
