from __future__ import annotations

import struct
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import GUESTS, SIGNATURES, WASI, command, imported, numbers, run

from starlette_wasm.engine import binary, capi
from starlette_wasm.engine.binary import leb
from starlette_wasm.engine.engine import OutOfInstances
from starlette_wasm.engine.module import InvalidModuleError, Module, UnsupportedModuleError
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits

MINIMAL = '(memory (export "memory") 1) (func (export "_start"))'


# What can be imported


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_function_of_preview_1_can_be_imported_and_called(wat, name):
    zeros = " ".join(f"({'i32' if kind == 'i' else 'i64'}.const 0)" for kind in SIGNATURES[name])
    call = f"(call ${name} {zeros})"
    outcome = run(wat(command(call if name == "proc_exit" else f"(call $print_i32 {call})", name)))
    if name == "proc_exit":
        assert outcome.end is End.OK
    else:
        assert all(0 <= errno <= 76 for errno in numbers(outcome))


def test_all_functions_of_preview_1_fit_into_one_module(wat):
    every = "(drop (call $sched_yield)) (call $print_i32 (call $fd_close (i32.const 9)))"
    assert numbers(run(wat(command(every, *SIGNATURES)))) == [8]


def test_a_function_that_is_imported_twice_is_there_twice(wat):
    twice = f"""(module
      (import "{WASI}" "sched_yield" (func $a (result i32)))
      (import "{WASI}" "sched_yield" (func $b (result i32)))
      (memory (export "memory") 1)
      (func (export "_start") (if (i32.or (call $a) (call $b)) (then unreachable))))"""
    assert run(wat(twice)).end is End.OK


def test_equal_types_under_two_numbers_are_told_apart(wat):
    types = f"""(module (type (func)) (type (func)) (type $a (func (result i32))) (type $b (func (result i32)))
      (import "{WASI}" "sched_yield" (func $yield (type $b)))
      (table funcref (elem $yield))
      (memory (export "memory") 1)
      (func (export "_start") (if (call_indirect (type $a) (i32.const 0)) (then unreachable))))"""
    assert run(wat(types)).end is End.OK


@pytest.mark.parametrize("name", ["fd_write", "sched_yield", "proc_exit", "clock_time_get", "path_open"])
def test_an_import_with_the_wrong_type_is_refused_by_its_name(wat, name):
    with pytest.raises(UnsupportedModuleError, match=f"imports {WASI}.{name} with the wrong type"):
        wat(f'(module (import "{WASI}" "{name}" (func (param i64) (result i64))) {MINIMAL})')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('(import "env" "x" (func))', "imports env.x; build it with a WASI SDK"),
        ('(import "wasi_unstable" "sched_yield" (func (result i32)))', "imports wasi_unstable.sched_yield"),
        (f'(import "{WASI}" "sock_open" (func (result i32)))', f"imports {WASI}.sock_open"),
        (f'(import "{WASI}" "memory_grow" (func (param i32) (result i32)))', f"imports {WASI}.memory_grow"),
        (f'(import "{WASI}" "denied" (func (param i32 i32 i32 i32)))', f"imports {WASI}.denied"),
        (f'(import "{WASI}" "strings" (func (param i32 i32 i32)))', f"imports {WASI}.strings"),
        ('(import "env" "t" (table 1 funcref))', r"imports a table, env\.t"),
        ('(import "env" "g" (global i32))', r"imports a global, env\.g"),
    ],
)
def test_any_other_import_is_refused_by_its_name(wat, text, message):
    with pytest.raises(UnsupportedModuleError, match=message):
        wat(f"(module {text} {MINIMAL})")


def test_an_imported_memory_is_refused_by_its_name(wat):
    with pytest.raises(UnsupportedModuleError, match=r"imports a memory, env\.memory"):
        wat('(module (import "env" "memory" (memory 1)) (export "memory" (memory 0)) (func (export "_start")))')


# What shape a module must have


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"(module (memory 1) {MINIMAL})", "has 2 memories; build it with one"),
        ('(module (func (export "_start")))', "has no memory; build it with one, exported as 'memory'"),
        ('(module (memory (export "memory") 1))', "exports no function _start; build it as a WASI command"),
        (
            '(module (memory (export "memory") 1) (global (export "_start") i32 (i32.const 0)))',
            "exports no function _start",
        ),
        ('(module (memory 1) (func (export "_start")))', "does not export its memory"),
        ('(module (memory (export "memory") 1) (func (export "_start") (param i32)))', "_start takes parameters"),
        (
            f'(module (import "{WASI}" "sched_yield" (func (result i32))) (memory (export "memory") 1)'
            '(export "_start" (func 0)))',
            "_start takes parameters or gives results",
        ),
        ("(component)", "is a component; load it as one"),
        (f"(module {imported('fd_write')} {'(table 1 funcref)' * 8} {MINIMAL})", "it has 8 tables; the most is 7"),
    ],
)
def test_a_module_of_the_wrong_shape_is_refused_with_the_reason(wat, text, message):
    with pytest.raises(UnsupportedModuleError, match=message):
        wat(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('(module (memory (export "memory") i64 1) (func (export "_start")))', "memory64 must be enabled"),
        ('(module (memory (export "memory") 1 1 shared) (func (export "_start")))', "threads must be enabled"),
        ('(module (memory (export "memory") 1 1 (pagesize 1)) (func (export "_start")))', "page sizes"),
        (f"(module (type (struct)) {MINIMAL})", "gc"),
        (f"(module (tag) {MINIMAL})", "exceptions"),
        (f"(module (type $f (func)) (func (param (ref $f))) {MINIMAL})", "function references"),
        (f"(module (type $f (func)) (type (cont $f)) {MINIMAL})", "stack switching"),
        (
            '(module (memory (export "memory") 1)(func (export "_start") (drop (i32.atomic.load (i32.const 0)))))',
            "threads",
        ),
        (
            '(module (memory (export "memory") 1) (func (export "_start")'
            "(drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0)))))",
            "relaxed SIMD",
        ),
    ],
)
def test_a_feature_that_is_off_is_unsupported_not_damage(wat, text, message):
    with pytest.raises(UnsupportedModuleError, match=message):
        wat(text)


def test_a_guest_cannot_name_the_memory_and_table_put_behind_its_own(wat):
    for text in (
        command("(drop (memory.size 1))"),
        command("(drop (i32.load 1 (i32.const 0)))"),
        command("(memory.copy 0 1 (i32.const 0) (i32.const 0) (i32.const 0))"),
        command("(drop (memory.grow 1 (i32.const 0)))"),
        command("(drop (table.size 0))", "poll_oneoff"),
        command("(call_indirect 0 (i32.const 0))", "poll_oneoff"),
        command("(call 50)"),
    ):
        with pytest.raises(InvalidModuleError, match=r"unknown (memory|table|function)"):
            wat(text)


@pytest.mark.parametrize("data", [b"", b"\0asm", b"MZ", b"\0asm\2\0\0\0", b"\0asm\1\0\0\0\xff\xff\xff"])
def test_bytes_that_are_no_module_are_invalid(engine, data):
    with pytest.raises(InvalidModuleError):
        Module.compile(engine, data)


def test_a_module_cut_anywhere_before_the_end_of_its_code_is_refused(engine):
    sections, _ = binary.split(capi.assemble(command("(call $print_i32 (i32.const 1))")))
    whole = binary.join(sections, [])
    for size in range(len(whole)):
        with pytest.raises((InvalidModuleError, UnsupportedModuleError)):
            Module.compile(engine, whole[:size])


# What survives the linking


def test_functions_of_the_guest_keep_their_numbers(wat):
    more = """
      (table 3 3 funcref)
      (elem (i32.const 0) $one $two $sched_yield)
      (func $one (result i32) (i32.const 1))
      (func $two (result i32) (i32.const 2))
      (func $indirect (param i32) (result i32) (call_indirect (result i32) (local.get 0)))"""
    body = "".join(f"(call $print_i32 (call $indirect (i32.const {i})))" for i in range(3))
    assert numbers(run(wat(command(body, "sched_yield", "poll_oneoff", more=more)))) == [1, 2, 0]


def test_tables_segments_and_references_of_the_guest_work_beside_the_hosts(wat):
    more = """
      (table $a 2 funcref) (table $b 2 10 funcref) (table $c 1 externref)
      (elem $passive func $seven $sched_yield)
      (elem declare func $seven $fd_write)
      (func $seven (result i32) (i32.const 7))"""
    body = """
      (table.init $b $passive (i32.const 0) (i32.const 0) (i32.const 2))
      (elem.drop $passive)
      (table.copy $a $b (i32.const 0) (i32.const 0) (i32.const 2))
      (call $print_i32 (call_indirect $a (result i32) (i32.const 0)))
      (call $print_i32 (call_indirect $b (result i32) (i32.const 1)))
      (table.set $a (i32.const 1) (ref.func $seven))
      (call $print_i32 (call_indirect $a (result i32) (i32.const 1)))
      (call $print_i32 (table.grow $b (ref.func $fd_write) (i32.const 3)))
      (call $print_i32 (call_indirect $b (param i32 i32 i32 i32) (result i32)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 4)))
      (table.fill $c (i32.const 0) (ref.null extern) (i32.const 1))
      (call $print_i32 (table.size $b))"""
    assert numbers(run(wat(command(body, "sched_yield", "poll_oneoff", more=more)))) == [7, 0, 7, 2, 8, 5]


@pytest.mark.parametrize(
    ("imports", "host"),
    [
        ((), ()),
        (("fd_read", "fd_close", "fd_seek", "path_unlink_file"), ()),
        (("poll_oneoff",), ("poll_oneoff",)),
        (("fd_prestat_get",), ("fd_write", "fd_prestat_get", "fd_fdstat_get", "fd_filestat_get", "fd_tell")),
        (
            ("path_open",),
            ("fd_write", "path_open", "fd_fdstat_get", "fd_filestat_get", "fd_tell", "path_filestat_get"),
        ),
    ],
)
def test_a_guest_that_opens_no_files_has_none_of_the_hosts_functions_for_them(wat, imports, host):
    """And gets EBADF, as where none are granted."""
    body = """(call $print_i32 (call $fd_write (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0)))"""
    module = wat(command(body, *imports))
    assert module.host == host
    assert module.uses_files == ("fd_write" in host)
    assert numbers(run(module)) == [8]


def test_a_function_that_only_its_export_declares_can_be_referred_to(wat):
    more = """
      (table 2 funcref)
      (export "seven" (func $seven)) (export "yield" (func $sched_yield))
      (func $seven (result i32) (i32.const 7))"""
    body = """
      (table.set (i32.const 0) (ref.func $seven)) (table.set (i32.const 1) (ref.func $sched_yield))
      (call $print_i32 (call_indirect (result i32) (i32.const 0)))
      (call $print_i32 (call_indirect (result i32) (i32.const 1)))"""
    assert numbers(run(wat(command(body, "sched_yield", more=more)))) == [7, 0]


def test_a_function_is_declared_under_a_number_of_many_bytes_too(wat):
    many = "".join(f'(func $f{i} (export "f{i}") (result i32) (i32.const {i}))' for i in range(300))
    body = """(table.set (i32.const 0) (ref.func $f280)) (call $print_i32 (call_indirect (result i32) (i32.const 0)))"""
    assert numbers(run(wat(command(body, more=f"(table 1 funcref) {many}")))) == [280]


def test_globals_data_and_exports_of_the_guest_are_kept_or_dropped_without_harm(wat):
    more = """
      (global $g (mut i32) (i32.const 5)) (global i32 (i32.add (i32.const 1) (i32.const 2)))
      (global $f funcref (ref.func $fd_write))
      (export "g" (global $g)) (export "edge:io" (global $g)) (export "fd_write" (func $fd_write))
      (export "edge:main" (func $print)) (export "_initialize" (func $print))
      (data (i32.const 16) "\\2a\\00\\00\\00") (data $late "\\2b")"""
    body = """
      (call $print_i32 (global.get $g)) (call $print_i32 (i32.load (i32.const 16)))
      (memory.init $late (i32.const 16) (i32.const 0) (i32.const 1)) (data.drop $late)
      (call $print_i32 (i32.load (i32.const 16)))"""
    assert numbers(run(wat(command(body, more=more)))) == [5, 42, 43]


def test_the_start_function_runs_before__start(wat):
    more = "(start $first) (global $seen (mut i32) (i32.const 1)) (func $first (global.set $seen (i32.const 2)))"
    assert numbers(run(wat(command("(call $print_i32 (global.get $seen))", more=more)))) == [2]


def test_the_start_function_can_call_the_host_and_end_the_guest(wat):
    more = "(start $first) (func $first (call $proc_exit (i32.const 7)))"
    outcome = run(wat(command("unreachable", "proc_exit", more=more)))
    assert (outcome.end, outcome.exit_code) == (End.EXIT, 7)


def test_a_start_function_without_end_is_stopped_at_the_deadline(wat):
    begin = time.monotonic()
    outcome = run(wat(command("", more="(start $first) (func $first (loop (br 0)))")), limits=Limits(time=0.2))
    assert outcome.end is End.TIMEOUT
    assert time.monotonic() - begin < 30


def test_a_trap_names_the_guests_own_functions_although_some_were_put_in_front(wat):
    more = "(func $inner unreachable) (func $outer (call $inner))"
    outcome = run(wat(command("(call $outer)", "poll_oneoff", "random_get", "path_open", more=more)))
    assert (outcome.end, outcome.reason) == (End.TRAP, "unreachable")
    assert outcome.frames[:2] == ("inner", "outer")


def test_ten_thousand_exports_make_an_invocation_no_dearer(engine, wat):
    exports = "".join(f'(export "e{i}" (func $print))' for i in range(10_000))
    many = wat(command("(call $print_i32 (i32.const 1))", more=exports))
    few = wat(command("(call $print_i32 (i32.const 1))"))

    def fastest(module: Module) -> float:
        times = []
        for _ in range(20):
            begin = time.perf_counter()
            assert numbers(run(module)) == [1]
            times.append(time.perf_counter() - begin)
        return min(times)

    assert fastest(many) < 5 * fastest(few) + 0.002


def test_many_functions_link_and_run(engine):
    functions = "".join(f"(func $f{i} (result i32) (memory.grow (i32.const 0)))" for i in range(20_000))
    begin = time.monotonic()
    module = Module.compile(
        engine, capi.assemble(command("(call $print_i32 (call $f19999))", "poll_oneoff", more=functions))
    )
    assert time.monotonic() - begin < 60
    assert numbers(run(module)) == [1]
    module.close()


@pytest.mark.parametrize("file", sorted(GUESTS.glob("*.wasm")), ids=lambda file: file.stem)
def test_sections_split_and_joined_are_the_same_module(engine, file):
    module = file.read_bytes()
    again = binary.join(*binary.split(module))
    assert binary.split(again) == binary.split(module)
    Module.compile(engine, again).close()


# memory.grow


GROW = "(memory.grow (i32.const 1))"


@pytest.mark.parametrize(
    "body",
    [
        f"(drop {GROW})",
        f"(block (loop (if (i32.const 1) (then (drop {GROW})) (else nop))))",
        f"(block (block (block (drop {GROW}) (br_table 0 1 2 1 (i32.const 1)))))",
        f"(block (br 0) unreachable) (drop {GROW})",
        f"(block $empty (br $empty) (unreachable)) (drop {GROW}) (block (result i32) {GROW} (br 0)) drop",
        f"(drop (f64.const 0x1.0400040004000p+0)) (drop (f32.const 2.0)) (drop {GROW})",
        f"(drop (i64.const 0x4000400040004000)) (drop (i32.const 0x40004000)) (drop {GROW})",
        f"(drop (v128.const i8x16 0x40 0 0x40 0 0x40 0 0x40 0 0x40 0 0x40 0 0x40 0 0x40 0)) (drop {GROW})",
        f"(drop (select (result i32) {GROW} (i32.const 2) (i32.const 1)))",
        f"(drop (select {GROW} (i32.const 2) (i32.const 1)))",
        f"(memory.fill (i32.const 0) (i32.const 64) (i32.const 0)) (drop {GROW})",
        f"(memory.copy (i32.const 0) (i32.const 64) (i32.const 64)) (drop {GROW})",
        f"(memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop $d) (drop {GROW})",
        f"(table.init $e (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $e) (drop {GROW})",
        f"(table.copy (i32.const 0) (i32.const 0) (i32.const 1)) (drop (table.size)) (drop {GROW})",
        f"(table.fill (i32.const 0) (ref.func $print) (i32.const 1)) (drop (table.grow (ref.null func) {GROW}))",
        f"(drop (ref.is_null (table.get (i32.const 0)))) (table.set (i32.const 0) (ref.null func)) (drop {GROW})",
        f"(drop (i32.load8_u offset=64 (i32.const 64))) (drop {GROW})",
        f"(i64.store offset=16384 (i32.const 0) (i64.const 64)) (drop {GROW})",
        f"(drop (i32.trunc_sat_f64_u (f64.const 64))) (drop (i64.extend8_s (i64.const 64))) (drop {GROW})",
        f"(drop (v128.load8_lane offset=64 align=1 3 (i32.const 0) (v128.const i64x2 64 0))) (drop {GROW})",
        f"(drop (v128.load64_zero (i32.const 64))) (drop (i8x16.splat {GROW}))",
        f"(drop (i8x16.extract_lane_u 3 (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"
        f"(v128.const i64x2 64 0) (v128.const i64x2 64 0)))) (drop {GROW})",
        f"(drop (i32x4.dot_i16x8_s (i16x8.splat {GROW}) (i16x8.splat (i32.const 64))))",
        f"(call_indirect (param i32 i32) (i32.const 0) (i32.const 0) (i32.const 0)) (drop {GROW})",
        f"(drop (i64.add128 (i64.const 64) (i64.const 0) (i64.const 64) (i64.const 0))) drop (drop {GROW})",
        f"(local $a i64) (local $b f64) (local $c v128) (local externref) (local.set $a (i64.const 64)) (drop {GROW})",
    ],
)
def test_memory_grow_is_found_whatever_surrounds_it(wat, body):
    module = wat(
        command(body, more='(table 1 funcref) (elem $e func $print) (elem (i32.const 0) $print) (data $d "@")')
    )
    grown = run(module, limits=Limits(memory_pages=3))
    assert (grown.end, grown.refused_pages) == (End.OK, 0), grown
    refused = run(module, limits=Limits(memory_pages=1))
    assert refused.end is End.OK
    assert refused.refused_pages == 1


@pytest.mark.parametrize("padding", range(5))
def test_a_padded_memory_index_is_found_too(engine, padding):
    plain = capi.assemble(command(f"(drop {GROW})"))
    at = plain.index(b"\x41\x01\x40\x00\x1a")
    padded = plain[: at + 3] + b"\x80" * padding + b"\0" + plain[at + 4 :]
    # the sizes before it: of the body and of the code section, both below 128
    body_at = plain.rindex(bytes([plain.index(b"\x0b", at + 5) - at + 2, 0]), 0, at + 1)
    sections, _ = binary.split(plain)
    section_at = plain.index(sections[binary.CODE]) - 1
    patched = bytearray(padded)
    patched[body_at] += padding
    patched[section_at] += padding
    module = Module.compile(engine, bytes(patched))
    assert run(module, limits=Limits(memory_pages=1)).refused_pages == 1
    assert run(module, limits=Limits(memory_pages=2)).refused_pages == 0
    module.close()


def test_bytes_that_only_look_like_memory_grow_stay(wat):
    body = """
      (call $print_i32 (i32.const 0x00400040)) (call $print_i32 (i32.const 64))
      (block) (block (nop)) (if (i32.const 0) (then))
      (f64.store (i32.const 0) (f64.const 0x1.0004000400040p+0)) (call $print (i32.const 0) (i32.const 8))"""
    expected = struct.pack("<2Id", 0x00400040, 64, float.fromhex("0x1.0004000400040p+0"))
    outcome = run(wat(command(body)), limits=Limits(memory_pages=1))
    assert (outcome.stdout, outcome.refused_pages) == (expected, 0)


def test_a_block_without_type_before_unreachable_is_not_taken_for_memory_grow(engine):
    text = command("(block (br 0)) (if (i32.const 0) (then (block (unreachable))))")
    wasm = capi.assemble(text)
    assert b"\x02\x40\x00" in wasm
    outcome = run(Module.compile(engine, wasm), limits=Limits(memory_pages=1))
    assert (outcome.end, outcome.refused_pages) == (End.OK, 0)


# Bytes of strangers


def mutations():
    change = st.tuples(
        st.integers(8, 1 << 20), st.integers(0, 255), st.sampled_from(["set", "insert", "delete", "copy"])
    )
    return st.lists(change, min_size=1, max_size=6)


@pytest.mark.parametrize("name", ["hello", "recurse", "alloc", "exit3", "crash_after"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(changes=[(1153, 0, "set")])
@given(changes=mutations())
def test_a_damaged_module_is_refused_or_runs_within_its_limits(engine, name, changes):
    module = bytearray((GUESTS / f"{name}.wasm").read_bytes())
    for at, value, how in changes:
        at %= len(module)
        if how == "set":
            module[at] = value
        elif how == "insert":
            module.insert(at, value)
        elif how == "delete":
            del module[at]
        else:
            module[at:at] = module[at : at + value]
    try:
        compiled = Module.compile(engine, bytes(module))
    except (InvalidModuleError, UnsupportedModuleError):
        return
    try:
        outcome = run(compiled, limits=Limits(memory_pages=32, time=0.2, stdout=1 << 16))
    except OutOfInstances as error:  # more memory from the start than all of the limits
        if "exceeds" not in str(error):
            raise
        return
    except capi.EngineError as error:  # a segment that does not fit into its memory or table
        if "out of bounds" not in str(error):
            raise
        return
    finally:
        compiled.close()
    assert len(outcome.stdout) <= 1 << 16
    assert engine.state.live == 0


def test_a_reactor_whose_initialize_does_the_work_runs(wat):
    text = command("(call $print_i32 (i32.const 7))").replace('"_start"', '"_initialize"')
    assert numbers(run(wat(text))) == [7]
    both = command("(call $print_i32 (i32.const 7))", more='(func (export "_initialize") unreachable)')
    assert numbers(run(wat(both))) == [7]


def _with_locals(types: bytes, body: bytes) -> bytes:
    """A command whose _start has these locals and this body."""
    return binary.join(
        {
            binary.TYPE: b"\1\x60\0\0",
            binary.FUNCTION: b"\1\0",
            binary.MEMORY: b"\1\0\1",
            binary.EXPORT: leb(2) + binary.name("memory") + b"\2\0" + binary.name("_start") + b"\0\0",
            binary.CODE: b"\1" + leb(len(types + body) + 1) + types + body + b"\x0b",
        },
        [],
    )


@pytest.mark.parametrize("kind", [b"\x63\x70", b"\x63\x6f", b"\x70"])
@pytest.mark.parametrize("before", [b"", b"\x02\x63\x70\xd0\x70\x0b\x1a", b"\xd0\x70\xd0\x70\x41\0\x1c\1\x63\x70\x1a"])
def test_memory_grow_behind_types_of_two_bytes_is_seen(engine, kind, before):
    grow = bytes.fromhex("4180fd0c1a41204000417f460440000b01010101")
    locals_ = b"\3" + (b"\1" + kind) * 2 + b"\x43" + kind
    module = Module.compile(engine, _with_locals(locals_, before + grow))
    outcome = run(module, limits=Limits(memory_pages=2))
    assert outcome.refused_pages == 32


def test_locals_of_two_byte_types_are_counted(engine):
    with pytest.raises(UnsupportedModuleError, match="49,001 locals"):
        Module.compile(engine, _with_locals(b"\2\1\x63\x70" + leb(49_000) + b"\x63\x70", b""))


def test_tail_calls_run_and_end_at_the_deadline(wat):
    start = '(module (memory (export "memory") 1) (func (export "_start") (return_call {})) {})'
    assert run(wat(start.format(1, "(func)"))).end is End.OK
    assert run(wat(start.format(0, "")), limits=Limits(time=0.2)).end is End.TIMEOUT
