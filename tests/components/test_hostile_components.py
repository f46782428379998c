"""Components that break the rules of the canonical ABI: each ends in a trap, here as in wasmtime."""

from __future__ import annotations

import pytest
import wasmtime
from running import Oracle, ask, assembled, call, compiled, engine
from texts import ALLOCATOR

from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.errors import OutOfTime
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.engine import capi
from starlette_wasm.engine.compile import InvalidModuleError
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits

HANDLES = """(component
 (component $A
  (type $r (resource (rep i32)))
  (export $re "thing" (type $r))
  (core func $new (canon resource.new $r))
  (core module $m (import "" "new" (func $new (param i32) (result i32)))
   (func (export "make") (result i32) (call $new (i32.const 7))))
  (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
  (func (export "make") (result (own $re)) (canon lift (core func $i "make"))))
 (instance $a (instantiate $A))
 (alias export $a "thing" (type $t))
 (component $B
  (import "thing" (type $t (sub resource)))
  (core func $drop (canon resource.drop $t))
  (core module $m (import "" "drop" (func $drop (param i32)))
   (func (export "keep") (param i32))
   (func (export "give-back") (param i32) (call $drop (local.get 0)))
   (func (export "give-back-twice") (param i32) (call $drop (local.get 0)) (call $drop (local.get 0)))
   (func (export "take") (param i32)))
  (core instance $i (instantiate $m (with "" (instance (export "drop" (func $drop))))))
  (func (export "keep") (param "t" (borrow $t)) (canon lift (core func $i "keep")))
  (func (export "give-back") (param "t" (borrow $t)) (canon lift (core func $i "give-back")))
  (func (export "give-back-twice") (param "t" (borrow $t)) (canon lift (core func $i "give-back-twice")))
  (func (export "take") (param "t" (own $t)) (canon lift (core func $i "take"))))
 (instance $b (instantiate $B (with "thing" (type $t))))
 (core func $make (canon lower (func $a "make")))
 (core func $keep (canon lower (func $b "keep")))
 (core func $give (canon lower (func $b "give-back")))
 (core func $twice (canon lower (func $b "give-back-twice")))
 (core func $take (canon lower (func $b "take")))
 (core func $drop (canon resource.drop $t))
 (core module $m
  (import "" "make" (func $make (result i32)))
  (import "" "keep" (func $keep (param i32)))
  (import "" "give" (func $give (param i32)))
  (import "" "twice" (func $twice (param i32)))
  (import "" "take" (func $take (param i32)))
  (import "" "drop" (func $drop (param i32)))
  (func (export "run") (local $h i32) (local.set $h (call $make)) BODY))
 (core instance $i (instantiate $m (with "" (instance (export "make" (func $make)) (export "keep" (func $keep))
  (export "give" (func $give)) (export "twice" (func $twice)) (export "take" (func $take))
  (export "drop" (func $drop))))))
 (func (export "run") (canon lift (core func $i "run"))))"""
H = "(local.get $h)"


@pytest.mark.parametrize("body", ["", f"(call $give {H})", f"(call $give {H}) (call $drop {H})", f"(call $take {H})"])
def test_handles_used_by_the_rules_pass(body: str) -> None:
    component = capi.assemble(HANDLES.replace("BODY", body))
    assert call(compiled(component), ("run", []))[0].end is End.OK
    Oracle(component).call("run")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"(call $keep {H})", "borrow handles still remain at the end of the call"),
        (f"(call $drop {H}) (call $drop {H})", "unknown handle index 1"),
        (f"(call $take {H}) (call $take {H})", "unknown handle index 1"),
        (f"(call $take {H}) (call $give {H})", "unknown handle index 1"),
        (f"(call $twice {H})", "unknown handle index 1"),
        ("(call $drop (i32.const 0))", "unknown handle index 0"),
        ("(call $drop (i32.const -1))", "unknown handle index 4294967295"),
        ("(call $give (i32.const 1000000))", "unknown handle index 1000000"),
    ],
)
def test_handles_used_against_the_rules_are_traps(body: str, reason: str) -> None:
    component = capi.assemble(HANDLES.replace("BODY", body))
    outcome, _ = call(compiled(component), ("run", []))
    assert (outcome.end, outcome.reason) == (End.TRAP, reason)
    with pytest.raises((wasmtime.WasmtimeError, wasmtime.Trap)):
        Oracle(component).call("run")


NESTED = """(component
 (core module $m (table (export "t") 2 funcref) (type $drop (func (param i32)))
  (type $new (func (param i32) (result i32)))
  (func (export "dtor") (param i32) (if (local.get 0) (then (call_indirect (type $drop)
   (call_indirect (type $new) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0)) (i32.const 1))))))
 (core instance $i (instantiate $m))
 (type $r (resource (rep i32) (dtor (core func $i "dtor"))))
 (core func $new (canon resource.new $r)) (core func $drop (canon resource.drop $r))
 (core module $k (import "" "new" (func $new (param i32) (result i32))) (import "" "drop" (func $drop (param i32)))
  (import "m" "t" (table 2 funcref)) (elem (i32.const 0) func $new $drop)
  (func (export "run") (param i32) (call $drop (call $new (local.get 0)))))
 (core instance $j (instantiate $k (with "m" (instance $i))
  (with "" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
 (func (export "run") (param "n" u32) (canon lift (core func $j "run"))))"""


@pytest.mark.parametrize(
    ("depth", "reason"), [(214, ""), (215, "call stack exhausted"), (5000, "call stack exhausted")]
)
def test_calls_nested_too_deeply_are_traps(depth: int, reason: str) -> None:
    """A resource whose destructor drops another, and so on: each call of the host that waits has its frame."""
    outcome, _ = call(assembled(NESTED), ("run", [depth]))
    assert (outcome.end, outcome.reason) == (End.TRAP if reason else End.OK, reason)


LEAVING = f"""(component
 (import "host" (func $host))
 (core func $h (canon lower (func $host)))
 (core module $m (import "" "h" (func $h)) {ALLOCATOR.replace("(local $at i32)", "(local $at i32) REALLOC", 1)}
  (func (export "f") (param i32 i32) (result i32) BODY (i32.const 16))
  (func (export "post") (param i32) POST))
 (core instance $i (instantiate $m (with "" (instance (export "h" (func $h))))))
 (func (export "f") (param "s" string) (result string)
  (canon lift (core func $i "f") (memory (core memory $i "mem")) (realloc (core func $i "realloc"))
   (post-return (core func $i "post")))))"""


@pytest.mark.parametrize("where", ["REALLOC", "POST"])
def test_leaving_from_realloc_or_post_return_is_a_trap(where: str) -> None:
    def component(at: str) -> bytes:
        text = LEAVING.replace(at, "(call $h)")
        for each in ("REALLOC", "BODY", "POST"):
            text = text.replace(each, "")
        return capi.assemble(text)

    functions = {"host": lambda: None}
    assert call(compiled(component("BODY")), ("f", ["x"]), functions=functions)[0].end is End.OK
    outcome, _ = call(compiled(component(where)), ("f", ["x"]), functions=functions)
    assert (outcome.end, outcome.reason) == (End.TRAP, "cannot leave component instance")
    with pytest.raises((wasmtime.WasmtimeError, wasmtime.Trap)):
        Oracle(component(where), functions).call("f", "x")


def test_functions_of_the_host_that_fail_are_no_traps_of_the_guest() -> None:
    text = LEAVING.replace("BODY", "(call $h)").replace("REALLOC", "").replace("POST", "")

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(capi.EngineError, match=r"a function of the host failed: KeyError\('x'\)"):
        call(assembled(text), ("f", ["x"]), functions={"host": fail})


def test_arguments_that_do_not_fit_their_import_are_refused() -> None:
    text = """(component
     (component $A (core module $m (func (export "f") (param i32 i32) (result i32) (i32.const 0)))
      (core instance $i (instantiate $m))
      (func (export "f") (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "f"))))
     (component $B (import "f" (func (param "a" u32) (result u32))))
     (instance $a (instantiate $A))
     (instance $b (instantiate $B (with "f" (func $a "f"))))
     (export "f" (func $a "f")))"""
    with pytest.raises(InvalidModuleError, match="not a valid component"):
        compile_component(engine().ptr, capi.assemble(text))


def test_large_lists_are_bounded_in_the_host() -> None:
    text = f"""(component
     (import "host" (func $host (param "l" (list (tuple u8 u8)))))
     (core module $mem {ALLOCATOR.replace('"mem") 1', '"mem") 200')})
     (core instance $l (instantiate $mem))
     (core func $h (canon lower (func $host) (memory (core memory $l "mem"))))
     (core module $m (import "" "h" (func $h (param i32 i32))) (func (export "f") (call $h (i32.const 0)
      (i32.const 6000000))))
     (core instance $i (instantiate $m (with "" (instance (export "h" (func $h))))))
     (func (export "f") (canon lift (core func $i "f"))))"""
    outcome, _ = call(assembled(text), ("f", []), functions={"host": lambda _: None})
    assert (outcome.end, outcome.reason) == (End.TRAP, "values of more than 4000000 parts")


def list_of_lists(element: str, count: int, size: int) -> str:
    """A component that gives the host a list, of which each element has the same bytes of its memory."""
    return f"""(component
     (import "host" (func $host (param "l" (list {element}))))
     (core module $mem {ALLOCATOR.replace('"mem") 1', '"mem") 32')})
     (core instance $l (instantiate $mem))
     (core func $h (canon lower (func $host) (memory (core memory $l "mem"))))
     (core module $m (import "" "h" (func $h (param i32 i32))) (import "" "mem" (memory 32)) (func (export "f")
      (local $i i32) (loop $on
       (i32.store (i32.add (i32.const 0x100004) (local.get $i)) (i32.const {size}))
       (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const {count * 8}))))
      (call $h (i32.const 0x100000) (i32.const {count}))))
     (core instance $i (instantiate $m (with "" (instance (export "h" (func $h)) (export "mem" (memory $l "mem"))))))
     (func (export "f") (canon lift (core func $i "f"))))"""


@pytest.mark.parametrize(
    ("element", "count", "size"),
    [
        ("(list u8)", 100, 1 << 20),
        ("string", 100, 1 << 20),
        ("(list u64)", 100, 1 << 15),
        ("(list (option u8))", 100, 1 << 12),
    ],
)
def test_pointers_to_the_same_bytes_are_bounded(element: str, count: int, size: int) -> None:
    outcome, _ = call(assembled(list_of_lists(element, count, size)), ("f", []), functions={"host": lambda _: None})
    assert outcome.end is End.TRAP
    assert outcome.reason.startswith("the values of a call take more than the ")
    outcome, _ = call(assembled(list_of_lists(element, 2, size)), ("f", []), functions={"host": lambda _: None})
    assert outcome.end is End.OK


@pytest.mark.parametrize("element", ["(list (option u8))", "(list u64)"])
def test_time_ends_within_one_list(element: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a list are read until its guest's time is over, not all of them."""
    looks: list[bool] = []

    def check_time(self: ComponentInvocation) -> None:
        looks.append(len(looks) == 2)
        if looks[-1]:
            raise OutOfTime("time limit exceeded")

    monkeypatch.setattr(ComponentInvocation, "_check_time", check_time)
    outcome, _ = call(assembled(list_of_lists(element, 1, 50_000)), ("f", []), functions={"host": lambda _: None})
    assert outcome.end is End.TIMEOUT
    assert looks == [False, False, True]


def test_a_guest_whose_time_is_over_reads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ComponentInvocation, "is_over", True)
    invocation = ComponentInvocation(ComponentPlan(assembled(list_of_lists("(list u64)", 1, 50_000)), Limits()), b"")
    with pytest.raises(OutOfTime):
        invocation._check_time()


def test_strings_of_a_guest_count_in_its_memory_only() -> None:
    text = f"""(component
     (core module $m {ALLOCATOR}
      (func (export "handle") (param i32 i32) (result i32)
       (i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const 0x0fffffff)) (i32.const 16)))
     (core instance $i (instantiate $m))
     (func (export "handle") (param "request" string) (result string)
      (canon lift (core func $i "handle") (memory (core memory $i "mem")) (realloc (core func $i "realloc")))))"""
    outcome = ask(assembled(text), limits=Limits(memory_pages=5))
    assert (outcome.end, outcome.reason) == (End.TRAP, "out of bounds memory access")
