"""Instances of core modules that are restored are as good as fresh ones, wherever a guest can leave something.

A guest here answers with a letter, the one behind ``@`` in the alphabet by the number that its body leaves.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from asking import SCOPE, ask, fast_path, fresh_engine, run, swept
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import GUESTS, command

from starlette_wasm.engine import capi, link
from starlette_wasm.engine.engine import Engine
from starlette_wasm.engine.fast_path import Completed, FastPath, Speech, Started
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.native.library import InstanceState, ModuleState
from starlette_wasm.engine.pages import pages_of
from starlette_wasm.engine.plan import Limits, Plan, Preopen
from starlette_wasm.engine.ticker import HotTimer
from starlette_wasm.protocols.edge import EdgeProtocol

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(pages_of(os.getpid()) is None, reason="the kernel does not say which pages were written"),
]
ANSWER = json.dumps({"status_code": 200, "body": "@"})
AT = ANSWER.index("@")
READ = """(i32.store (i32.const 400) (i32.const 512)) (i32.store (i32.const 404) (i32.const 50000))
  (drop (call $fd_read (i32.const 0) (i32.const 400) (i32.const 1) (i32.const 408)))"""
ASKED_TWICE = "(i32.eq (i32.load8_u (i32.const 522)) (i32.const 50))"
"""Whether the path of the request, which READ has read, is ``/2``."""
ROOT = GUESTS.parents[1]
USES = 1000  # of restore.c
OFTEN = 40


@contextmanager
def standing_still(engine: Engine) -> Iterator[None]:
    """Let the epoch stand still: an instance whose guest is met by a tick, as on a busy machine, is not restored."""
    engine.ticker.rest()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(HotTimer, "arm", lambda timer: setattr(timer, "ticks", True))
        yield
    engine.ticker.rest()


@pytest.fixture
def still(engine: Engine) -> Iterator[None]:
    with standing_still(engine):
        yield


def guest(body: str, more: str = "", *imports: str, pages: int = 1) -> str:
    return command(
        f"""(i32.store8 (i32.const {AT}) (i32.add (i32.const 64) {body}))
            (call $print (i32.const 0) (i32.const {len(ANSWER)}))""",
        *imports,
        more=f"(data (i32.const 0) {json.dumps(ANSWER)}) {more}",
        pages=pages,
    )


async def completed(asked: FastPath, path: str = "/", body: bytes = b"") -> Completed:
    """One answer, whose instance is yet to be restored."""
    end = time.monotonic() + 60
    while time.monotonic() < end:  # on a busy machine the epoch may tick in any guest
        found = ask(asked, body, path)
        if isinstance(found, Completed):
            return found
        if isinstance(found, Started):
            found.invocation.drop()
        await asyncio.sleep(0.01)
    raise AssertionError("no guest has ended")


async def answer(asked: FastPath, path: str = "/", body: bytes = b"") -> str:
    """One answer, once the instance that gave it is restored, or is gone."""
    found = await completed(asked, path, body)
    await swept()
    return found.body.decode()


def answers(engine: Engine, text: str, limits: Limits = Limits()) -> set[str]:  # noqa: B008
    asked = fast_path(engine, text, limits=limits)

    async def main() -> set[str]:
        return {await answer(asked) for _ in range(OFTEN)}

    found: set[str] = run(main)
    return found


def count(kind: str, add: str, as_i32: str, zero: str) -> Any:
    """What counts in a global of that type."""
    body = f"(block (result i32) (global.set $n {add}) {as_i32})"
    return pytest.param(body, f"(global $n (mut {kind}) {zero})", id=kind)


@pytest.mark.parametrize(
    ("body", "more"),
    [
        count("i32", "(i32.add (global.get $n) (i32.const 1))", "(global.get $n)", "(i32.const 0)"),
        count("i64", "(i64.add (global.get $n) (i64.const 1))", "(i32.wrap_i64 (global.get $n))", "(i64.const 0)"),
        count("f32", "(f32.add (global.get $n) (f32.const 1))", "(i32.trunc_f32_s (global.get $n))", "(f32.const 0)"),
        count("f64", "(f64.add (global.get $n) (f64.const 1))", "(i32.trunc_f64_s (global.get $n))", "(f64.const 0)"),
        count("v128", "(i64x2.add (global.get $n) (v128.const i64x2 0 1))",
              "(i32.wrap_i64 (i64x2.extract_lane 1 (global.get $n)))", "(v128.const i64x2 0 0)"),
        pytest.param("(block (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))",
                     "(global $n (mut i32) (i32.sub (i32.const 1) (i32.const 1)))",
                     id="constant expression"),
        pytest.param("(block (result i32) (i32.store8 (i32.const 60000) (i32.add (i32.load8_u (i32.const 60000))"
                     " (i32.const 1))) (i32.load8_u (i32.const 60000)))", "", id="memory"),
        pytest.param("(block (result i32) (i32.store8 (i32.const 9000) (i32.add (i32.load8_u (i32.const 9000))"
                     " (i32.const 1))) (i32.sub (i32.load8_u (i32.const 9000)) (i32.const 64)))",
                     '(data (i32.const 9000) "@")', id="data"),
        pytest.param("(block (result i32) (i32.store8 (i32.const 9000) (i32.add (i32.load8_u (i32.const 9000))"
                     " (i32.const 1))) (i32.sub (i32.load8_u (i32.const 9000)) (i32.const 64)))",
                     "(func $s (i32.store8 (i32.const 9000) (i32.const 64))) (start $s)", id="start function"),
    ],
)  # fmt: skip
def test_nothing_reaches_the_next_request(body: str, more: str) -> None:
    engine = fresh_engine()
    assert answers(engine, guest(body, more)) == {"A"}
    assert engine.state.restored > OFTEN // 2


GROWN = """(block (result i32) (local.set $at (i32.mul (memory.size) (i32.const 65536)))
  (if (i32.or (i32.ne (memory.size) (i32.const 1)) (i32.ne (memory.grow (i32.const {by})) (i32.const 1)))
    (then (return)))
  (i32.store8 (local.get $at) (i32.add (i32.load8_u (local.get $at)) (i32.const 1)))
  (i32.load8_u (local.get $at)))"""


def grown(by: int) -> str:
    """A guest that counts in memory by which it has grown."""
    return guest("(call $grown)", f"(func $grown (result i32) (local $at i32) {GROWN.format(by=by)})".replace(
        "(return)", "(return (i32.const 9))"))  # fmt: skip


@pytest.mark.parametrize("by", [1, 32])
def test_memory_that_grows_is_small_and_zero_again(by: int) -> None:
    engine = fresh_engine()
    assert answers(engine, grown(by), Limits(spare_pages=32)) == {"A"}
    assert engine.state.restored > OFTEN // 2


@pytest.mark.parametrize(("by", "spare"), [(1, 0), (33, 32)], ids=["restored", "growing"])
def test_memory_that_grows_far_is_thrown_away(by: int, spare: int) -> None:
    engine = fresh_engine()
    assert answers(engine, grown(by), Limits(spare_pages=spare)) == {"A"}
    assert not engine.state.restored


TRIES = """(func $try (result i32)
  (if (i32.lt_s (memory.grow (i32.const 2)) (i32.const 0)) (then (return (i32.const 9))))
  (i32.add (memory.grow (i32.const 1)) (memory.size)))"""


@pytest.mark.parametrize(("most", "pages", "refused"), [("", 3, 1), ("3", 256, 0)], ids=["policy", "module"])
def test_growth_ends_where_policy_and_module_say(most: str, pages: int, refused: int) -> None:
    text = guest("(call $try)", TRIES).replace('(memory (export "memory") 1)', f'(memory (export "memory") 1 {most})')
    asked = fast_path(fresh_engine(), text, limits=Limits(memory_pages=pages, spare_pages=32))
    assert asked._plan.memory.spare == 2

    async def main() -> None:
        for _ in range(OFTEN):
            found = ask(asked)
            if isinstance(found, Completed):
                letter, refusals = found.body.decode(), 0
            else:  # what was refused is left to Python
                assert isinstance(found, Started)
                outcome = await found.invocation.run(asyncio.get_running_loop().time() + 30, nullcontext)
                letter, refusals = json.loads(outcome.stdout)["body"], outcome.refused_pages
            assert (letter, refusals) == ("B", refused)  # -1, and 3 pages
            await swept()

    run(main)


BEYOND = guest(
    "(call $beyond)",
    """(func $beyond (result i32) (drop (memory.grow (i32.const 0)))
      (i32.add (i32.const 1) (i32.load8_u (i32.mul (memory.size) (i32.const 65536)))))""",
)


def test_memory_beyond_its_end_is_zero_if_it_has_spare_pages() -> None:
    """In the first instance as in those restored: so nobody learns whether an earlier guest has grown."""
    assert answers(fresh_engine(), BEYOND, Limits(spare_pages=32)) == {"A"}


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (BEYOND, Limits()),
        (BEYOND, Limits(restore=False, spare_pages=32)),
        (BEYOND.replace("(drop (memory.grow (i32.const 0)))", ""), Limits(spare_pages=32)),
    ],
    ids=["restored", "fresh", "never grows"],
)
def test_memory_ends_where_it_says(text: str, limits: Limits) -> None:
    asked = fast_path(fresh_engine(), text, limits=limits)

    async def main() -> None:
        found = ask(asked)
        assert isinstance(found, Started)
        outcome = await found.invocation.run(asyncio.get_running_loop().time() + 30, nullcontext)
        assert "out of bounds" in (outcome.reason or "")

    run(main)


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
    engine = fresh_engine()
    assert answers(engine, guest(f"(block (result i32) {instruction} (i32.const 1))", TABLE)) == {"A"}
    assert not engine.state.restored


def test_reading_tables_and_segments_is_no_change() -> None:
    body = """(block (result i32) (memory.init $d (i32.const 9000) (i32.const 0) (i32.const 1))
      (drop (table.size $t)) (drop (table.get $t (i32.const 0))) (i32.const 1))"""
    engine = fresh_engine()
    assert answers(engine, guest(body, TABLE)) == {"A"}
    assert engine.state.restored


def test_references_in_globals_are_not_restored() -> None:
    more = "(global $f (mut funcref) (ref.null func)) (func $a) (elem declare func $a)"
    engine = fresh_engine()
    assert answers(engine, guest("(block (result i32) (global.set $f (ref.func $a)) (i32.const 1))", more)) == {"A"}
    assert not engine.state.restored


def test_policies_can_do_without() -> None:
    engine = fresh_engine()
    assert answers(engine, guest("(i32.const 1)"), Limits(restore=False)) == {"A"}
    assert not engine.state.restored


def test_guests_with_directories_are_not_restored(tmp_path: Path) -> None:
    engine = fresh_engine()
    module = Module.compile(engine, capi.assemble(guest("(i32.const 1)", "", "path_open")))
    plan = Plan(module, Limits(), preopens=(Preopen(str(tmp_path), "/d", True),))
    assert not plan.memory.restores
    assert Plan(module, Limits()).memory.restores


def test_an_instance_has_so_many_requests_only() -> None:
    engine = fresh_engine()
    asked = fast_path(engine, guest("(i32.const 1)"))

    async def main() -> None:
        await answer(asked)
        asked._memory.ready.uses = USES - 1
        await answer(asked)
        assert not engine.state.pending.store
        assert asked._memory.ready.uses == 0  # another one is prepared
        restored = engine.state.restored
        await answer(asked)
        assert engine.state.restored == restored + 1

    run(main)


ENDS = guest(
    f"""(block (result i32) {READ}
      (if {ASKED_TWICE} (then {{end}}))
      (i32.store8 (i32.const 60000) (i32.add (i32.load8_u (i32.const 60000)) (i32.const 1)))
      (i32.load8_u (i32.const 60000)))""",
    "",
    "fd_read",
    "proc_exit",
)


@pytest.mark.parametrize(
    "end",
    [
        "unreachable",
        "(call $proc_exit (i32.const 0))",
        "(drop (call $fd_write (i32.const 2) (i32.const 400) (i32.const 1) (i32.const 408)))",
        "(loop $on (br $on))",
    ],
    ids=["trap", "exit", "log", "interrupted"],
)
def test_guests_that_end_otherwise_are_thrown_away(end: str) -> None:
    engine = fresh_engine()
    asked = fast_path(engine, ENDS.replace("{end}", end))

    async def main() -> None:
        for _ in range(5):
            assert await answer(asked) == "A"
        before = engine.state.restored
        assert before
        found = ask(asked, b"", "/2")
        assert isinstance(found, Started)
        assert not asked._memory.ready.store
        found.invocation.drop()
        await swept()
        assert engine.state.restored == before
        assert await answer(asked) == "A"

    run(main)


def memory(instance: InstanceState, name: str) -> bytes:
    at = ctypes.addressof(getattr(instance, name)) + capi.EXTERN_OF
    return capi.string_at(capi.memory_data(instance.context, at), capi.memory_size(instance.context, at))


def first(asked: FastPath) -> bytes:
    state: ModuleState = asked._plan.module.state
    return capi.string_at(state.first, state.first_size)


def check(asked: FastPath) -> None:
    """Both memories of the instance that is ready are what they are at first."""
    ready = asked._memory.ready
    assert ready.store
    guest_memory, io = memory(ready, "memory"), memory(ready, "io")
    known = first(asked)
    assert guest_memory[: len(known)] == known
    assert not any(guest_memory[len(known) :])
    assert not any(io)


def of_file(engine: Engine, file: Path) -> FastPath:
    plan = Plan(Module.compile(engine, file.read_bytes()), Limits(spare_pages=32))
    return FastPath(plan, Speech("edge", EdgeProtocol().end("f", "1", 5000)), ())


@pytest.mark.parametrize("scans", [True, False], ids=["scan", "read"])
@pytest.mark.parametrize(
    "name",
    ["benchmarks/guests/body", "benchmarks/guests/stdio", "sample_app/functions/edge-processor/v2/edge-processor"],
    ids=lambda name: name.rpartition("/")[2],
)
def test_memories_are_the_same_byte_for_byte(name: str, scans: bool) -> None:
    engine = fresh_engine()
    engine.state.pagemap.scans &= scans
    asked = of_file(engine, ROOT / f"{name}.wasm")
    assert asked._plan.memory.restores

    async def main() -> None:
        uses = set()
        for size in (0, 1, 10, 5_000, 0, 40_000, 300_000, 0, 3_000, 700_000, 20, 0):
            await asyncio.sleep(0)
            found = asked.dispatch(SCOPE | {"method": "POST"}, "/", {}, b"b" * size, "")
            if isinstance(found, Started):
                found.invocation.drop()
            await swept()
            if asked._memory.ready.store:
                check(asked)
                uses.add(asked._memory.ready.uses)
        assert max(uses) > 1

    run(main)
    assert engine.state.restored


PIECES = st.lists(st.tuples(st.integers(0, 36 * 65536 - 4096), st.binary(min_size=1, max_size=4096)), max_size=8)


EDGES = [
    (page * 4096 + at, b"\1")
    for page in (0, 48, 300)  # zeros, data, and what the memory has to spare
    for at in (0, 63, 64, 2111, 4095)
]


@settings(deadline=None, max_examples=50)
@given(requests=st.lists(PIECES, min_size=2, max_size=6), scans=st.booleans())
@example(requests=[[], EDGES, EDGES[::2], []], scans=True)
def test_whatever_is_written_is_put_back(requests: list[list[tuple[int, bytes]]], scans: bool) -> None:
    engine = fresh_engine()
    engine.state.pagemap.scans &= scans
    asked = fast_path(engine, guest("(memory.grow (i32.const 0))", '(data (i32.const 200000) "data")', pages=4),
                      limits=Limits(spare_pages=32))  # fmt: skip

    async def main() -> None:
        await answer(asked)
        for pieces in requests:
            await completed(asked)
            at = ctypes.addressof(engine.state.pending.memory) + capi.EXTERN_OF
            base = capi.memory_data(engine.state.pending.context, at)
            for begin, piece in pieces:
                capi.memmove(base + begin, piece, len(piece))
            await swept()
            check(asked)

    with standing_still(engine):
        run(main)


def test_data_that_is_no_image_is_copied_again() -> None:
    """wasmtime maps the data of a module, or copies it; then a page that is given back is all zeros."""
    engine = fresh_engine()
    asked = fast_path(engine, guest("(i32.const 1)"))

    async def main() -> None:
        await answer(asked)
        await answer(asked)
        state = asked._plan.module.state
        assert state.is_image
        ctypes.memset(state.first + AT, ord("A"), 1)  # the first state is another one than that of the image
        asked._memory.ready.uses = 0
        await answer(asked)
        check(asked)
        assert not state.is_image

    run(main)


def test_without_page_tables_nothing_is_restored() -> None:
    engine = fresh_engine()
    engine.state.pagemap.descriptor = -1
    assert answers(engine, guest("(i32.const 1)")) == {"A"}
    assert not engine.state.restored


def test_functions_in_turn_are_restored_each() -> None:
    engine = fresh_engine()
    counting = guest("(block (result i32) (i32.store8 (i32.const 60000) (i32.add (i32.load8_u (i32.const 60000))"
                     " (i32.const 1))) (i32.load8_u (i32.const 60000)))")  # fmt: skip
    asked = [fast_path(engine, counting) for _ in range(3)]

    async def main() -> None:
        for _ in range(OFTEN):
            assert [await answer(each) for each in asked] == ["A"] * 3
        assert engine.state.restored > OFTEN
        before = engine.state.restored
        found = {(await completed(each)).body for _ in range(OFTEN) for each in asked}  # nothing is swept in between
        assert found == {b"A"}
        assert engine.state.restored > before + OFTEN

    run(main)


@pytest.mark.usefixtures("still")
def test_the_first_state_goes_with_its_module() -> None:
    engine = fresh_engine()
    asked = fast_path(engine, guest("(i32.const 1)"))

    async def main() -> None:
        await answer(asked)
        assert asked._plan.module.state.first
        ask(asked)  # its instance is yet to be restored
        assert asked._plan.module.close()
        assert not asked._plan.module.state.first
        assert not engine.state.pending.store
        await swept()
        assert not asked._memory.ready.store

    run(main)


def test_an_end_of_its_target_leaves_nothing_to_restore() -> None:
    engine = fresh_engine()
    asked = fast_path(engine, guest("(i32.const 1)"))

    async def main() -> None:
        nonlocal asked
        await answer(asked)
        await completed(asked)
        assert engine.state.pending_of
        del asked
        gc.collect()
        assert not engine.state.pending_of
        await swept()
        assert not engine.state.pending.store

    run(main)


WAITS = guest(
    f"""(block (result i32) {READ}
      (i64.store (i32.const 56000) (i64.const 0)) (i32.store (i32.const 56016) (i32.const 1))
      (i64.store (i32.const 56024) (i64.const 1000000))
      (if {ASKED_TWICE} (then
        (drop (call $poll_oneoff (i32.const 56000) (i32.const 56100) (i32.const 1) (i32.const 56200)))))
      (i32.store8 (i32.const 60000) (i32.add (i32.load8_u (i32.const 60000)) (i32.const 1)))
      (i32.load8_u (i32.const 60000)))""",
    "",
    "fd_read",
    "poll_oneoff",
)


def test_restored_guests_can_call_the_host() -> None:
    engine = fresh_engine()
    asked = fast_path(engine, WAITS)
    assert asked._plan.memory.host_count

    async def main() -> None:
        for _ in range(3):
            for _ in range(5):
                assert await answer(asked) == "A"
            assert asked._memory.ready.uses
            found = ask(asked, b"", "/2")
            assert isinstance(found, Started)
            outcome = await found.invocation.run(asyncio.get_running_loop().time() + 30, nullcontext)
            assert json.loads(outcome.stdout)["body"] == "A"

    run(main)
    assert engine.state.restored


def test_linking_notes_what_can_be_restored() -> None:
    def linked(text: str) -> link.Linked:
        return link.link(capi.assemble(text), capi.assemble)

    grows = "(drop (memory.grow (i32.const 1)))"
    assert [linked(command(each)).room for each in ("", "(drop (memory.size))", grows)] == [0, 0, 65535]
    few = linked(command(grows).replace('"memory") 1)', '"memory") 1 3)'))
    assert (few.room, few.restorable) == (2, True)


WRITES = guest("(block (result i32) (i32.store8 (i32.const 50000) (i32.const 7)) (i32.const 1))")


def checked(every: int) -> FastPath:
    """A fast path of an engine that compares so often."""
    return fast_path(fresh_engine(check_restored_every=every), WRITES)


def checks(asked: FastPath) -> tuple[int, int]:
    """How many instances were compared, and how many of them differed."""
    found = asked._plan.module.engine.restore_checks
    return found.checks, found.faults


@pytest.mark.parametrize(("every", "fewest"), [(1, 1), (4, 1), (0, 0)])
def test_restored_instances_are_compared_so_often(every: int, fewest: int) -> None:
    asked = checked(every)

    async def main() -> None:
        for _ in range(OFTEN):
            assert await answer(asked) == "A"

    run(main)
    count, faults = checks(asked)
    assert not faults
    assert fewest <= count <= (OFTEN // every if every else 0)
    assert every == 1 or asked._plan.module.engine.state.restored


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]


ZEROS = os.open("/dev/zero", os.O_RDONLY)


def blind(asked: FastPath) -> None:
    """Let the page tables show that nothing was written."""
    pagemap = asked._plan.module.engine.state.pagemap
    pagemap.scans, pagemap.descriptor = False, ZEROS


def soil(asked: FastPath) -> None:
    """Write where nothing is cleared: behind the end of the output."""
    state = asked._plan.module.engine.state
    if state.pending.store:
        at = ctypes.addressof(state.pending.io) + capi.EXTERN_OF
        capi.memmove(capi.memory_data(state.pending.context, at) + 30_001, b"secret", 6)


@pytest.mark.parametrize(
    ("corrupt", "every", "place"),
    [
        (blind, 2, f"the memory, at offset {AT} ({AT:#x})"),
        (soil, 1, "the io memory, at offset 30001 (0x7531)"),
    ],
    ids=["memory", "io memory"],
)
def test_differences_are_found_and_end_restoring(
    corrupt: Callable[[FastPath], None], every: int, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = checked(every)
    module = asked._plan.module
    module.label = "hello v1"

    async def main() -> None:
        end = time.monotonic() + 60
        while not errors(caplog):
            assert time.monotonic() < end
            assert (await completed(asked)).body == b"A"
            corrupt(asked)
            await swept()
            await asyncio.sleep(0.001)
        (error,) = errors(caplog)
        assert error.startswith(f"hello v1: a restored instance differs from its first state in {place}. ")
        before = checks(asked), module.engine.state.restored
        assert before[0][1] == 1
        for _ in range(5):
            assert await answer(asked) == "A"
            assert not asked._memory.ready.uses
        assert (checks(asked), module.engine.state.restored) == before
        assert len(errors(caplog)) == 1

    run(main)


@pytest.mark.usefixtures("still")
def test_a_fault_ends_instances_that_were_restored_before() -> None:
    asked = checked(0)

    async def main() -> None:
        end = time.monotonic() + 60
        while not asked._memory.ready.uses:
            assert time.monotonic() < end
            await answer(asked)
        asked._plan.module.state.faulty = 1
        restored = asked._plan.module.engine.state.restored
        assert (await completed(asked)).body == b"A"
        await swept()
        assert not asked._memory.ready.uses
        assert asked._plan.module.engine.state.restored == restored

    run(main)


def test_busy_loops_compare_on_the_way() -> None:
    """If nothing is ever swept, a request waits for the comparison: when one is due for the second time."""
    asked = checked(5)

    async def main() -> None:
        end = time.monotonic() + 60
        while not checks(asked)[0]:
            assert time.monotonic() < end
            assert (await completed(asked)).body == b"A"  # with no pause for clean_up()
        assert not checks(asked)[1]

    run(main)


LARGE = guest("(i32.const 1)", pages=60)
AT_ONCE = 1 << 20  # of restore.c


async def compared(asked: FastPath) -> list[int]:
    """Up to where the first instance that is compared was, after each answer, until one more is due."""
    state, places = asked._plan.module.engine.state, []
    end = time.monotonic() + 60
    while not places or state.compared.store:
        assert time.monotonic() < end
        assert await answer(asked) == "A"
        if state.compared.store or places:
            places.append(int(state.compared_to))
    return places


def test_large_memories_are_compared_in_steps() -> None:
    """No callback compares more than AT_ONCE; meanwhile requests have other instances."""
    asked = fast_path(fresh_engine(check_restored_every=20), LARGE)

    async def main() -> None:
        places = await compared(asked)
        steps = [after - before for before, after in zip([0, *places], places, strict=False)]
        assert len(steps) > 3
        assert max(steps) <= AT_ONCE
        assert places[-1] == 60 * 65536 + len(memory(asked._memory.ready, "io"))
        assert checks(asked) == (1, 0)
        assert asked._memory.ready.store

    run(main)


def test_differences_in_the_last_step_are_found(caplog: pytest.LogCaptureFixture) -> None:
    asked = fast_path(fresh_engine(check_restored_every=20), LARGE)
    state, soiled = asked._plan.module.engine.state, 60 * 65536 - 7

    async def main() -> None:
        end = time.monotonic() + 60
        while not errors(caplog):
            assert time.monotonic() < end
            assert (await completed(asked)).body == b"A"
            await swept()
            if state.compared.store:
                at = ctypes.addressof(state.compared.memory) + capi.EXTERN_OF
                capi.memmove(capi.memory_data(state.compared.context, at) + soiled, b"x", 1)
        assert f"in the memory, at offset {soiled} " in errors(caplog)[0]
        assert checks(asked) == (1, 1)

    run(main)


@pytest.mark.parametrize("end", ["close", "rest"])
def test_what_is_compared_goes_with_its_module(end: str) -> None:
    asked = fast_path(fresh_engine(check_restored_every=1), LARGE)
    module = asked._plan.module

    async def main() -> None:
        until = time.monotonic() + 60
        while not module.engine.state.compared.store:
            assert time.monotonic() < until
            await completed(asked)
            await swept()
        if end == "close":
            assert module.close()
        else:
            await module.engine.rest(time.monotonic() + 30)
        assert not module.engine.state.compared.store
        assert not module.engine.state.compared_of

    run(main)
