"""Instances that are restored are as good as fresh ones: in every place where a guest can leave something."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import mmap
import os
import platform
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pytest
from running import compiled, engine
from texts import ALLOCATOR

from starlette_wasm.components import module as module_
from starlette_wasm.components import restore
from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.comparison import Comparison
from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.components.module import ComponentModule
from starlette_wasm.components.snapshot import Snapshot
from starlette_wasm.engine import capi
from starlette_wasm.engine.loop_time import LoopTime
from starlette_wasm.engine.native.library import NativeLibrary, native
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.pages import PAGE, Pages, pages_of
from starlette_wasm.engine.plan import Limits
from starlette_wasm.engine.restore_checks import place

AT_ONCE = 1 << 20  # of restore.c
JS = Path(__file__).parents[1] / "guests" / "components" / "edge_js.wasm"


def guest(body: str, more: str = "") -> str:
    """A component of the world edge that answers the number which its body leaves, as one byte."""
    return f"""(component
     (core module $m {ALLOCATOR} {more}
      (func (export "handle") (param i32 i32) (result i32)
       (i32.store8 (i32.const 80) {body})
       (i32.store (i32.const 16) (i32.const 80)) (i32.store (i32.const 20) (i32.const 1)) (i32.const 16)))
     (core instance $i (instantiate $m))
     (func (export "handle") (param "request" string) (result string)
      (canon lift (core func $i "handle") (memory (core memory $i "mem")) (realloc (core func $i "realloc")))))"""


def load(text: str) -> ComponentModule:
    """Compiled anew, with nothing kept."""
    return ComponentModule(engine(), *compile_component(engine().ptr, capi.assemble(text)))


def answers(module: ComponentModule, requests: Sequence[str], limits: Limits | None = None) -> list[Outcome]:
    """One request after the other, under one plan."""
    plan = ComponentPlan(module, limits or Limits())

    async def go() -> list[Outcome]:
        found = []
        for request in requests:
            invocation = ComponentInvocation(plan, request.encode())
            found.append(await invocation.run(time.monotonic() + 30, nullcontext))
            await asyncio.sleep(0)  # what is kept is restored now
        return found

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("body", "more"),
    [
        pytest.param("(block (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1)))"
                     " (i32.add (i32.const 64) (global.get $n)))", "(global $n (mut i32) (i32.const 0))", id="i32"),
        pytest.param("(block (result i32) (global.set $n (f64.add (global.get $n) (f64.const 1)))"
                     " (i32.add (i32.const 64) (i32.trunc_f64_s (global.get $n))))",
                     "(global $n (mut f64) (f64.const 0))", id="f64"),
        pytest.param("(block (result i32) (global.set $n (i64x2.add (global.get $n) (v128.const i64x2 0 1)))"
                     " (i32.add (i32.const 64) (i32.wrap_i64 (i64x2.extract_lane 1 (global.get $n)))))",
                     "(global $n (mut v128) (v128.const i64x2 0 0))", id="v128"),
        pytest.param("(block (result i32) (i32.store8 (i32.const 60000) (i32.add (i32.load8_u (i32.const 60000))"
                     " (i32.const 1))) (i32.add (i32.const 64) (i32.load8_u (i32.const 60000))))", "", id="memory"),
        pytest.param("(block (result i32) (i32.store8 (i32.const 9000) (i32.add (i32.load8_u (i32.const 9000))"
                     " (i32.const 1))) (i32.load8_u (i32.const 9000)))", '(data (i32.const 9000) "@")', id="data"),
    ],
)  # fmt: skip
def test_nothing_reaches_the_next_request(body: str, more: str) -> None:
    module = load(guest(body, more))
    found = answers(module, ["x"] * 20)
    assert [outcome.stdout for outcome in found] == [b"A"] * 20
    assert module.keeper.restored == 19


def test_javascript_counts_from_one_each_time() -> None:
    module = compiled(JS.read_bytes())
    before = module.keeper.restored
    found = answers(module, [json.dumps({"path": f"/{i}"}) for i in range(40)])
    assert [json.loads(outcome.stdout)["body"] for outcome in found] == [f"hello /{i} 1 1 é" for i in range(40)]
    assert module.keeper.restored - before == 39


def test_memory_is_the_same_byte_for_byte() -> None:
    module = compiled(JS.read_bytes())
    plan = ComponentPlan(module, Limits())

    async def go() -> None:
        invocation = ComponentInvocation(plan, b'{"path": "/"}')
        assert (await invocation.run(time.monotonic() + 30, nullcontext)).end is End.OK
        await asyncio.sleep(0)
        for _ in range(20):
            kept = module.keeper.take(plan)
            assert kept is not None
            assert kept.plan.snapshot is not None
            now = [capi.string_at(base, size) for base, size in kept.cores.ranges()]
            first = kept.plan.snapshot
            assert now == [each[:size] for each, size in zip(first.memories, first.sizes, strict=True)]
            assert module.keeper.offer(kept)
            invocation = ComponentInvocation(plan, b'{"path": "/again"}')
            assert (await invocation.run(time.monotonic() + 30, nullcontext)).end is End.OK
            await asyncio.sleep(0)

    asyncio.run(go())


def test_instances_that_have_grown_are_thrown_away() -> None:
    module = load(guest("(i32.add (i32.const 64) (memory.grow (i32.const 1)))"))
    found = answers(module, ["x"] * 5)
    assert [(outcome.stdout, outcome.memory_bytes) for outcome in found] == [(b"A", 2 * 65536)] * 5
    assert not module.keeper.restored


def test_refused_growth_is_forgotten() -> None:
    body = """(block (result i32) (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 120)) (then unreachable))
      (i32.add (i32.const 66) (memory.grow (i32.const 1000))))"""
    module = load(guest(body))
    first, second = answers(module, ["a", "x"])
    assert first.stdout == b"A"
    assert module.keeper.restored == 1
    assert (second.end, second.refused_pages) == (End.TRAP, 0)


def test_instances_that_trapped_are_thrown_away() -> None:
    module = load(guest("(block (result i32) (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 120))"
                        " (then unreachable)) (i32.const 65))"))  # fmt: skip
    found = answers(module, ["x", "a", "x", "a"])
    assert [outcome.end for outcome in found] == [End.TRAP, End.OK, End.TRAP, End.OK]
    assert module.keeper.restored == 1


def test_instances_that_wrote_much_are_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "MAX_WRITTEN", 3)
    module = load(guest("(block (result i32) (memory.fill (i32.const 16384) (i32.const 1) (i32.const 40960))"
                        " (i32.const 65))"))  # fmt: skip
    assert [outcome.stdout for outcome in answers(module, ["x"] * 3)] == [b"A"] * 3
    assert not module.keeper.restored


def test_instances_are_used_so_often_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "MAX_USES", 3)
    module = load(guest("(i32.const 65)"))
    answers(module, ["x"] * 7)
    assert module.keeper.restored == 4  # two after each of two fresh ones


TABLE = (
    '(table $t 2 funcref) (func $a (result i32) (i32.const 65)) (elem $e func $a) (elem declare func $a) (data $d "x")'
)


@pytest.mark.parametrize(
    "instruction",
    [
        "(table.set $t (i32.const 0) (ref.func $a))",
        "(drop (table.grow $t (ref.func $a) (i32.const 1)))",
        "(table.fill $t (i32.const 0) (ref.func $a) (i32.const 1))",
        "(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 1))",
        "(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))",
        "(elem.drop $e)",
        "(data.drop $d)",
    ],
)
def test_what_changes_tables_or_segments_is_not_restored(instruction: str) -> None:
    module = load(guest(f"(block (result i32) {instruction} (i32.const 65))", TABLE))
    assert not module.restorable
    assert [outcome.stdout for outcome in answers(module, ["x"] * 3)] == [b"A"] * 3
    assert not module.keeper.restored


def test_changes_of_a_ninth_table_are_seen() -> None:
    """A core module may import more tables than it may have of its own."""
    numbers = range(8)
    imports = " ".join(f'(import "e" "t{number}" (table 1 funcref))' for number in numbers)
    body = """(block (result i32) (i32.sub (i32.const 66) (ref.is_null (table.get $own (i32.const 0))))
      (table.set $own (i32.const 0) (ref.func $f)))"""
    text = guest(body, "(table $own 1 funcref) (func $f) (elem declare func $f)")
    text = text.replace("(core module $m", f"(core module $m {imports}").replace(
        "(component", f"""(component
         (core module $a (table (export "t") 1 funcref))
         (core instance $a (instantiate $a))
         (alias core export $a "t" (core table $t))
         (core instance $e {" ".join(f'(export "t{number}" (table $t))' for number in numbers)})""", 1
    ).replace("(instantiate $m)", '(instantiate $m (with "e" (instance $e)))')  # fmt: skip
    module = load(text)
    assert not module.restorable
    assert [outcome.stdout for outcome in answers(module, ["x"] * 3)] == [b"A"] * 3


def test_reading_tables_and_segments_is_no_change() -> None:
    body = """(block (result i32) (memory.init $d (i32.const 9000) (i32.const 0) (i32.const 1))
      (drop (table.size $t)) (drop (table.get $t (i32.const 0))) (i32.const 65))"""
    module = load(guest(body, TABLE))
    assert module.restorable
    answers(module, ["x"] * 3)
    assert module.keeper.restored == 2


def test_passive_segments_stay_whole() -> None:
    """And what a request has taken of one is gone for the next."""
    body = """(block (result i32)
      (if (i32.load8_u (i32.const 9000)) (then unreachable))
      (memory.init $d (i32.const 9000) (i32.const 0) (i32.const 3))
      (i32.store8 (i32.const 9000) (i32.add (i32.load8_u (i32.const 9000)) (i32.const 1)))
      (i32.load8_u (i32.const 9000)))"""
    module = load(guest(body, '(data $d "@bc")'))
    assert [outcome.stdout for outcome in answers(module, ["x"] * 6)] == [b"A"] * 6
    assert module.keeper.restored == 5


def test_all_memories_are_restored() -> None:
    """Those of a module beside, and of a component within: each counts to one."""
    text = f"""(component
     (component $within
      (core module $m (memory (export "mem") 1) (data (i32.const 40000) "@")
       (func (export "count") (result i32)
        (i32.store8 (i32.const 40000) (i32.add (i32.load8_u (i32.const 40000)) (i32.const 1)))
        (i32.load8_u (i32.const 40000))))
      (core instance $i (instantiate $m))
      (func (export "count") (result u32) (canon lift (core func $i "count"))))
     (instance $w (instantiate $within))
     (core func $inner (canon lower (func $w "count")))
     (core module $beside (memory (export "mem") 2) (data (i32.const 40000) "@")
      (global $calls (mut i32) (i32.const 64))
      (func (export "count") (result i32)
       (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
       (i32.store8 (i32.const 40000) (i32.add (i32.load8_u (i32.const 40000)) (i32.const 1)))
       (i32.and (i32.load8_u (i32.const 40000)) (global.get $calls))))
     (core instance $b (instantiate $beside))
     (core module $m (import "" "inner" (func $inner (result i32))) (import "b" "count" (func $count (result i32)))
      {ALLOCATOR} (data (i32.const 40000) "@")
      (func (export "handle") (param i32 i32) (result i32)
       (i32.store8 (i32.const 40000) (i32.add (i32.load8_u (i32.const 40000)) (i32.const 1)))
       (i32.store8 (i32.const 80) (i32.load8_u (i32.const 40000)))
       (i32.store8 (i32.const 81) (call $inner))
       (i32.store8 (i32.const 82) (call $count))
       (i32.store (i32.const 16) (i32.const 80)) (i32.store (i32.const 20) (i32.const 3)) (i32.const 16)))
     (core instance $i (instantiate $m (with "" (instance (export "inner" (func $inner)))) (with "b" (instance $b))))
     (func (export "handle") (param "request" string) (result string)
      (canon lift (core func $i "handle") (memory (core memory $i "mem")) (realloc (core func $i "realloc")))))"""
    module = load(text)
    found = answers(module, ["x"] * 6)
    assert [outcome.stdout for outcome in found] == [b"AAA"] * 6, found[0]
    assert module.keeper.restored == 5


def test_references_in_globals_are_not_restored() -> None:
    more = "(global $f (mut funcref) (ref.null func)) (func $a) (elem declare func $a)"
    assert not load(guest("(block (result i32) (global.set $f (ref.func $a)) (i32.const 65))", more)).restorable


def test_start_functions_are_part_of_the_first_state() -> None:
    more = "(func $s (i32.store8 (i32.const 9000) (i32.const 64))) (start $s)"
    body = """(block (result i32) (i32.store8 (i32.const 9000) (i32.add (i32.load8_u (i32.const 9000)) (i32.const 1)))
      (i32.load8_u (i32.const 9000)))"""
    module = load(guest(body, more))
    assert [outcome.stdout for outcome in answers(module, ["x"] * 5)] == [b"A"] * 5
    assert module.keeper.restored == 4


def test_policies_have_instances_of_their_own() -> None:
    module = load(guest("(i32.const 65)"))
    for pages in (5, 6):
        answers(module, ["x"], Limits(memory_pages=pages))
    assert not module.keeper.restored


def snapshot_of(plan: ComponentPlan, request: bytes = b"x") -> Snapshot:
    invocation = ComponentInvocation(plan, request)
    asyncio.run(invocation.run(time.monotonic() + 30, nullcontext))
    assert plan.snapshot is not None
    return plan.snapshot


def test_policies_share_their_snapshot() -> None:
    module = load(guest("(i32.const 65)"))
    plans = [ComponentPlan(module, Limits(memory_pages=pages)) for pages in (5, 6)]
    first, second = map(snapshot_of, plans)
    assert first is second


def test_snapshots_that_differ_are_apart() -> None:
    start = "(start $s) (func $s (i32.store8 (i32.const 90) (memory.grow (i32.const 4))))"
    module = load(guest("(i32.load8_u (i32.const 90))", start))
    first, second = (snapshot_of(ComponentPlan(module, Limits(memory_pages=pages))) for pages in (2, 6))
    assert first.sizes != second.sizes


def test_instances_keep_the_snapshot_that_they_return_to() -> None:
    """Two threads may each have taken one for a plan, of which the plan keeps the last."""
    module = load(guest("(i32.const 65)"))
    answers(module, ["x"])
    (kept,) = module.keeper.kept
    assert kept.plan.snapshot is not None
    there = weakref.ref(kept.plan.snapshot)
    kept.plan.snapshot = None
    gc.collect()
    assert there() is not None
    assert kept.restore()


@pytest.mark.native
def test_pages_that_do_not_change_are_let_go() -> None:
    """What an instance had written once, or got at first, is not put back for ever, and stays what it was."""
    fills = """(block (result i32)
      (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 119))
       (then (memory.fill (i32.const 65536) (i32.const 1) (i32.const 400000))))
      (i32.const 65))"""
    text = guest(fills, '(data (i32.const 300000) "data")')
    module = load(text.replace('(memory (export "mem") 1)', '(memory (export "mem") 8)'))
    requests = ["w", *"x" * (restore.TRIM_AT + 1)]
    assert [each.stdout for each in answers(module, requests)] == [b"A"] * len(requests)
    (kept,), pages = module.keeper.kept, pages_of(os.getpid())
    assert kept.restore()
    ((base, size),), snapshot = kept.cores.ranges(), kept.plan.snapshot
    assert snapshot is not None
    assert pages is not None
    if pages.scan:
        assert sum(end - start for start, end in pages.written(base, size)) < 200_000
    assert ctypes.string_at(base, size) == ctypes.string_at(snapshot.places[0], size)


@pytest.mark.native
def test_pages_are_let_go_in_steps() -> None:
    """The event loop waits for it: each time for a part of the memory, until it has come through."""
    text = guest("(i32.const 65)").replace('(memory (export "mem") 1)', '(memory (export "mem") 64)')
    module = load(text)
    assert [each.stdout for each in answers(module, ["x"])] == [b"A"]
    (kept,), pages = module.keeper.kept, pages_of(os.getpid())
    assert pages is not None
    ((base, size),), snapshot, own = kept.cores.ranges(), kept.plan.snapshot, []
    ctypes.memset(base + 65536, 1, 4_000_000)
    for _ in range(restore.TRIM_AT + size // AT_ONCE):
        own.append(sum(end - start for start, end in pages.written(base, size)))
        assert kept.restore()
    assert own[0] > 4_000_000
    assert max(before - after for before, after in pairwise(own)) <= AT_ONCE
    assert own[-1] < AT_ONCE + 200_000
    assert snapshot is not None
    assert ctypes.string_at(base, size) == ctypes.string_at(snapshot.places[0], size)


@pytest.mark.native
def test_pages_that_cannot_be_let_go_end_an_instance() -> None:
    """The kernel takes back pages up to the first that is locked; what start functions wrote there would be lost."""
    module = load(guest("(i32.load8_u (i32.const 9000))",
                        "(func $s (i32.store8 (i32.const 9000) (i32.const 65))) (start $s)"))  # fmt: skip
    assert [each.stdout for each in answers(module, ["x"] * 2)] == [b"A"] * 2
    (kept,), libc = module.keeper.kept, ctypes.CDLL(None)
    ((base, size),) = kept.cores.ranges()
    last = ctypes.c_void_p(base + size - PAGE)
    lock, unlock = (149, 150) if platform.machine() == "x86_64" else (228, 229)  # that of ASan does nothing
    assert not libc.syscall(ctypes.c_long(lock), last, ctypes.c_size_t(PAGE))
    try:
        kept.state.uses = restore.TRIM_AT - 1
        assert not kept.restore()
    finally:
        assert not libc.syscall(ctypes.c_long(unlock), last, ctypes.c_size_t(PAGE))


def test_zeros_in_snapshots_take_no_room() -> None:
    text = guest("(i32.const 65)", '(data (i32.const 40000000) "data")')
    plan = ComponentPlan(load(text.replace('(memory (export "mem") 1)', '(memory (export "mem") 1024)')),
                         Limits(memory_pages=1024))  # fmt: skip
    snapshot = snapshot_of(plan)
    pages = pages_of(os.getpid())
    assert pages is not None
    assert snapshot.sizes == [64 << 20]
    written = pages.written(snapshot.places[0], snapshot.sizes[0])
    assert 0 < sum(end - start for start, end in written) <= 2 << 20
    assert ctypes.string_at(snapshot.places[0] + 40_000_000, 4) == b"data"


@pytest.mark.parametrize(("pages", "restored"), [(1024, True), (1025, False)])
def test_large_memories_are_not_restored(pages: int, restored: bool) -> None:
    text = guest("(i32.const 65)").replace('(memory (export "mem") 1)', f'(memory (export "mem") {pages})')
    assert load(text).restorable is restored


def test_policies_can_do_without() -> None:
    module = load(guest("(i32.const 65)"))
    answers(module, ["x"] * 3, Limits(restore=False))
    assert not module.keeper.restored


def test_closed_components_keep_nothing() -> None:
    module = load(guest("(i32.const 65)"))
    plan = ComponentPlan(module, Limits())

    async def go() -> None:
        await ComponentInvocation(plan, b"x").run(time.monotonic() + 30, nullcontext)

    asyncio.run(go())
    assert module.close()
    assert module.keeper.take(plan) is None
    assert not module.busy


def test_what_was_used_last_is_kept() -> None:
    modules = [load(guest("(i32.const 65)")) for _ in range(restore.KEPT + 2)]
    for module in modules:
        answers(module, ["x"])
    assert [len(module.keeper.kept) for module in modules] == [0, 0] + [1] * restore.KEPT
    for module in modules:
        assert module.close()
        assert not module.keeper.kept


def test_one_function_takes_no_kept_instances_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "KEPT", 4)
    module = load(guest("(i32.const 65)"))
    quiet, busy = (ComponentPlan(module, Limits(memory_pages=pages)) for pages in (5, 6))

    async def together(plan: ComponentPlan, count: int) -> None:
        end = time.monotonic() + 30
        await asyncio.gather(*[ComponentInvocation(plan, b"x").run(end, nullcontext) for _ in range(count)])
        await asyncio.sleep(0)

    def kept(plan: ComponentPlan) -> list[restore.Kept]:
        return [each for each in module.keeper.kept if each.plan is plan]

    def offered(plan: ComponentPlan) -> restore.Kept:
        found = module.keeper.take(plan)
        if found is None:
            asyncio.run(together(plan, 1))
            found = module.keeper.take(plan)
        assert found is not None
        return found

    mine = offered(quiet)
    others = [offered(busy) for _ in range(4)]
    assert module.keeper.offer(mine)
    assert all(module.keeper.offer(each) for each in others)
    assert kept(quiet) == [mine]
    assert kept(busy) == others[1:]
    assert module.close()


def test_instances_side_by_side_are_apart() -> None:
    body = """(block (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1)))
      (i32.add (i32.const 64) (global.get $n)))"""
    module = load(guest(body, "(global $n (mut i32) (i32.const 0))"))
    plan = ComponentPlan(module, Limits())

    async def one() -> bytes:
        outcome = await ComponentInvocation(plan, b"x").run(time.monotonic() + 30, nullcontext)
        return outcome.stdout

    async def go() -> None:
        for _ in range(10):
            assert await asyncio.gather(*(one() for _ in range(8))) == [b"A"] * 8
            assert len(module.keeper.kept) <= restore.KEPT_OF_PLAN

    asyncio.run(go())


@pytest.mark.parametrize("scan", [True, False])
def test_written_pages_are_found(scan: bool, tmp_path: Path) -> None:
    pages, size = Pages(scan=scan), 8 * PAGE
    (tmp_path / "image").write_bytes(b"x" * size)
    with (tmp_path / "image").open("rb") as file:
        memory = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    here = ctypes.c_char.from_buffer(memory)
    start = ctypes.addressof(here)
    try:
        assert bytes(memory) == b"x" * size
        assert pages.written(start, size) == []
        for number in (1, 2, 5):
            memory[number * PAGE] = 7
        found = [(begin - start, end - start) for begin, end in pages.written(start, size)]
        assert found == [(PAGE, 3 * PAGE), (5 * PAGE, 6 * PAGE)]
    finally:
        del here
        memory.close()


def test_instances_that_are_taken_at_once_keep_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    module = compiled(JS.read_bytes())
    plan = ComponentPlan(module, Limits())
    offer, taken = module.keeper.offer, []

    def offer_and_take(kept: restore.Kept) -> bool:
        """Another thread takes it before whoever offers it goes on."""
        assert offer(kept)
        found = module.keeper.take(plan)
        assert found is not None
        engine().live[found.number] = taken  # type: ignore[assignment]
        taken.append(found)
        return True

    monkeypatch.setattr(module.keeper, "offer", offer_and_take)
    invocation = ComponentInvocation(plan, json.dumps({"path": "/"}).encode())
    assert asyncio.run(invocation.run(time.monotonic() + 30, nullcontext)).end is End.OK
    assert engine().live.pop(taken[0].number, None) is taken
    capi.store_delete(taken[0].store)


COUNTED = "(block (result i32) (global.set $n (f32.add (global.get $n) (f32.const 1))) (i32.const 65))"
LIBRARIES = [pytest.param(native, marks=pytest.mark.native, id="C"), pytest.param(None, id="Python")]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("every", "fewest", "most"), [(1, 9, 20), (4, 2, 5), (0, 0, 0), (10_000, 0, 0)])
def test_restored_instances_are_compared_so_often(
    every: int, fewest: int, most: int, library: NativeLibrary | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_, "native", library)
    monkeypatch.setattr(engine().state, "check_every", every)
    found, module = engine().restore_checks, load(guest(COUNTED, "(global $n (mut f32) (f32.const 0))"))
    before = found.checks, found.faults
    assert {outcome.stdout for outcome in answers(module, ["x"] * 20)} == {b"A"}
    assert fewest <= found.checks - before[0] <= most
    assert found.faults == before[1]
    assert (module.keeper.restored == 19) is (most == 0)  # what was compared is used no more


def soil_memory(kept: restore.Kept) -> None:
    ((base, _),) = kept.cores.ranges()
    capi.memmove(base + 60_000, b"secret", 6)


def soil_global(kept: restore.Kept) -> None:
    at = next(at for at, value in kept.cores._saved if value.kind == 2)  # f32
    value = capi.Value(kind=2)
    value.of.i32 = 1
    capi.check(capi.global_set(kept.cores.context, at, ctypes.addressof(value)))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("soil", "place"),
    [(soil_memory, "memory 0, at offset 60000 (0xea60)"), (soil_global, "mutable global 1")],
    ids=["memory", "global"],
)
def test_differences_are_found_and_end_restoring(
    soil: Callable[[restore.Kept], None],
    place: str,
    library: NativeLibrary | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    back = restore.Kept.restore

    def soiled(self: restore.Kept) -> bool:
        done = back(self)
        soil(self)
        return done

    monkeypatch.setattr(module_, "native", library)
    monkeypatch.setattr(engine().state, "check_every", 2)
    monkeypatch.setattr(restore.Kept, "restore", soiled)
    module, faults = load(guest(COUNTED, "(global $n (mut f32) (f32.const 0))")), engine().restore_checks.faults
    module.label = "hello v1"
    assert {outcome.stdout for outcome in answers(module, ["x"] * 8)} == {b"A"}
    (error,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert error.startswith(f"hello v1: a restored instance differs from its first state in {place}. ")
    assert engine().restore_checks.faults == faults + 1
    assert module.keeper.faulty
    assert module.keeper.restored < 4  # before the one that was compared
    assert not module.keeper.kept


def restored(module: ComponentModule) -> restore.Kept:
    """An instance that was used and restored, and that nobody else uses."""
    answers(module, ["x"])
    (kept,) = module.keeper.kept
    found = module.keeper.take(kept.plan)
    assert found is kept
    return kept


def large() -> ComponentModule:
    return load(guest("(i32.const 65)").replace('(memory (export "mem") 1)', '(memory (export "mem") 64)'))


@pytest.mark.parametrize("soiled", [None, 64 * 65536 - 7])
def test_large_memories_are_compared_in_steps(soiled: int | None) -> None:
    """One step in a round of the event loop, which waits for it."""
    kept, found, rounds = restored(large()), [], [0]
    if soiled is not None:
        ((base, _),) = kept.cores.ranges()
        capi.memmove(base + soiled, b"x", 1)

    async def go() -> None:
        Comparison(kept, lambda _, fault: found.append(fault)).begin()
        while not found:
            assert kept.store
            rounds[0] += 1
            await asyncio.sleep(0)

    asyncio.run(go())
    assert found == [None if soiled is None else place("memory 0", soiled)]
    assert rounds[0] >= (4 << 20) // AT_ONCE - 1
    assert not kept.store


def test_comparisons_in_threads_are_not_divided() -> None:
    kept, found = restored(large()), []
    Comparison(kept, lambda _, fault: found.append(fault)).begin()
    assert found == [None]
    assert not kept.store


def test_what_is_compared_goes_with_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = large()
    kept, before = restored(module), engine().restore_checks.checks
    monkeypatch.setattr(engine().state, "check_every", 1)

    async def go() -> None:
        assert not module.keeper._restore(kept, idle=True)
        assert kept.store
        assert module.close()
        assert not kept.store
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(go())
    assert engine().restore_checks.checks == before
    assert module.keeper._room.comparison is None


def test_one_comparison_is_made_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = restored(large()), restored(large())
    monkeypatch.setattr(engine().state, "check_every", 1)

    async def go() -> None:
        assert not first.plan.component.keeper._restore(first, idle=True)
        assert second.plan.component.keeper._restore(second, idle=True)
        assert first.plan.component.close()

    asyncio.run(go())
    second.delete()


def test_comparisons_of_closed_loops_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that ends in the midst of one must not keep its instance, nor put an end to comparisons."""
    first, second = restored(large()), restored(large())
    monkeypatch.setattr(engine().state, "check_every", 1)

    async def begin() -> None:
        assert not first.plan.component.keeper._restore(first, idle=True)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    assert first.store
    assert not second.plan.component.keeper._restore(second, idle=True)
    assert not first.store
    assert not second.store, "it was compared at once, in this thread"
    assert second.plan.component.keeper._room.comparison is None


def test_a_request_seldom_waits_for_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(guest("(i32.const 65)"))
    answers(module, ["x"])
    (kept,) = module.keeper.kept
    monkeypatch.setattr(engine().state, "check_every", 1)
    module.keeper.state.unchecked = 0
    kept.state.dirty = True  # the loop had no time to restore it
    assert module.keeper.take(kept.plan) is kept
    kept.state.dirty = True
    assert module.keeper.offer(kept)
    assert module.keeper.take(kept.plan) is None


def test_a_guest_that_ran_in_a_thread_is_restored_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much there is to be put back is the guest's choice."""
    on_loop: list[bool] = []
    plain = restore.Keeper._restore

    def noted(keeper: restore.Keeper, found: restore.Kept, *, idle: bool) -> bool:
        on_loop.append(asyncio._get_running_loop() is not None)
        return plain(keeper, found, idle=idle)

    monkeypatch.setattr(restore.Keeper, "_restore", noted)
    plan = ComponentPlan(load(guest("(i32.const 65)")), Limits())
    plan.memory.cpu_score = 1 << 29  # much more than its share of the loop

    async def main() -> None:
        invocation = ComponentInvocation(plan, b"{}")
        assert (await invocation.run(time.monotonic() + 30, nullcontext)).stdout == b"A"
        async with asyncio.timeout(30):
            while not on_loop:
                await asyncio.sleep(0.001)

    asyncio.run(main())
    assert on_loop == [False]


def test_restoring_counts_as_time_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ComponentPlan(load(guest("(i32.const 65)")), Limits())
    booked: list[float] = []

    def slowly(_: restore.Kept) -> bool:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return True

    monkeypatch.setattr(restore.Kept, "restore", slowly)
    monkeypatch.setattr(LoopTime, "add", lambda _, seconds: booked.append(seconds))

    async def main() -> None:
        for _ in range(1000):  # a guest that the epoch's tick meets goes on in a thread
            await ComponentInvocation(plan, b"{}").run(time.monotonic() + 30, nullcontext)
            await asyncio.sleep(0)
            if any(each >= 0.02 for each in booked):
                return
        raise AssertionError(booked)

    asyncio.run(main())


@pytest.mark.native
def test_what_was_put_back_is_known() -> None:
    """How long that takes counts as the function's time of the event loop."""
    fill = "(block (result i32) (memory.fill (i32.const 131072) (i32.const 1) (i32.const 4194304)) (i32.const 65))"
    module = load(guest(fill).replace('(memory (export "mem") 1)', '(memory (export "mem") 80)'))
    answers(module, ["x"] * 2)
    for kept in module.keeper.kept:
        assert kept._first_state is not None
        assert 4 << 20 <= kept._first_state.put_back <= 5 << 20
    assert module.keeper.kept
