"""The bounds of an invocation, each to its last byte."""

from __future__ import annotations

import json
import random

import pytest
from support import answer, command, numbers, run

from starlette_wasm.engine import layout
from starlette_wasm.engine.capi import EngineError
from starlette_wasm.engine.engine import OutOfInstances
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits

PAGE = layout.PAGE


# Memory


@pytest.mark.parametrize("pages", [2, 3, 17, 256, 1000])
def test_memory_ends_at_its_last_page(wat, pages):
    body = f"""
      (call $print_i32 (memory.grow (i32.const {pages - 1})))
      (i32.store8 (i32.const {pages * PAGE - 1}) (i32.const 1))
      (call $print_i32 (memory.grow (i32.const 1)))
      (call $print_i32 (memory.grow (i32.const 0)))
      (call $print_i32 (memory.size))"""
    outcome = run(wat(command(body)), limits=Limits(memory_pages=pages))
    assert numbers(outcome) == [1, 0xFFFFFFFF, pages, pages]
    assert outcome.memory_bytes == pages * PAGE
    assert outcome.refused_pages == 1


@pytest.mark.parametrize("delta", [1, 2, 65535, 65536, 1 << 31, (1 << 32) - 1])
def test_growth_of_any_size_past_the_bound_is_refused(wat, delta):
    outcome = run(wat(command(f"(call $print_i32 (memory.grow (i32.const {delta})))")), limits=Limits(memory_pages=1))
    assert numbers(outcome) == [0xFFFFFFFF]
    assert outcome.refused_pages == delta


def test_a_maximum_of_the_guests_own_is_not_the_policys_refusal(wat):
    text = command("(drop (memory.grow (i32.const 1))) unreachable", pages="1 1")
    outcome = run(wat(text))
    assert (outcome.end, outcome.refused_pages) == (End.TRAP, 0)


@pytest.mark.parametrize(
    ("then", "end"),
    [
        ("", End.OK),
        ("(call $proc_exit (i32.const 0))", End.OK),
        ("(call $proc_exit (i32.const 1))", End.MEMORY),
        ("unreachable", End.MEMORY),
        ("(drop (i32.load (i32.const 65536)))", End.MEMORY),
    ],
)
def test_out_of_memory_is_a_refused_growth_with_an_abnormal_end(wat, then, end):
    outcome = run(
        wat(command(f"(drop (memory.grow (i32.const 9))) {then}", "proc_exit")), limits=Limits(memory_pages=9)
    )
    assert (outcome.end, outcome.refused_pages) == (end, 9)
    ordinary = run(
        wat(command(f"(drop (memory.grow (i32.const 8))) {then}", "proc_exit")), limits=Limits(memory_pages=9)
    )
    assert ordinary.end is not End.MEMORY


def test_allocators_of_a_real_compiler_meet_the_bound(guest):
    greedy = run(guest("alloc"), limits=Limits(memory_pages=64))
    assert greedy.end is End.MEMORY
    assert greedy.memory_bytes <= 64 * PAGE
    few, many = (answer(run(guest("alloc_soft"), limits=Limits(memory_pages=pages)))["mib"] for pages in (64, 256))
    assert 1 <= few < 4
    assert 12 <= many < 16


def test_a_module_that_starts_above_all_bounds_has_no_instance_and_leaks_none(engine, wat):
    module = wat(command("", pages=1000))
    assert module.min_pages == 1000
    with pytest.raises(OutOfInstances, match="1000 pages exceeds memory limits"):
        run(module, limits=Limits(memory_pages=10, stdout=1))
    assert engine.state.live == 0


def test_the_io_memory_does_not_count_as_the_guests(wat):
    stdin = random.Random(1).randbytes(300_000)
    body = """(local $n i32)
      (loop $on
        (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 8192))
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (local.set $n (i32.load (i32.const 8)))
        (if (local.get $n) (then (call $print (i32.const 64) (local.get $n)) (br $on))))
      (call $print_i32 (memory.grow (i32.const 1)))"""
    outcome = run(wat(command(body, "fd_read")), stdin, limits=Limits(memory_pages=1))
    assert outcome.stdout == stdin + b"\xff" * 4
    assert outcome.memory_bytes == PAGE


# stdin


@pytest.mark.parametrize("size", [0, 1, 60 << 10, 61_440 - 1500, 64 << 10, 70 << 10, 5 << 20])
def test_stdin_of_any_size_arrives_whole(guest, size):
    text = "".join(random.Random(size).choices("abcdefghijklmnopqrstuvwxyz \u00e9", k=size)).encode()[:size]
    text = text.decode(errors="ignore")
    outcome = run(guest("echo"), text.encode(), limits=Limits(memory_pages=1024, stdout=16 << 20))
    assert outcome.end is End.OK
    assert json.loads(outcome.stdout)["body"] == text


def test_stdin_of_every_size_around_the_end_of_the_first_page_arrives_whole(wat):
    body = """
      (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 100000))
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (call $print (i32.const 65536) (i32.load (i32.const 8)))"""
    module = wat(command(body, "fd_read", pages=4))
    pattern = random.Random(2).randbytes(70_000)
    for size in [*range(PAGE - 4096 - 1600, PAGE - 4096 + 64, 7), *range(PAGE - 1600, PAGE + 64, 7)]:
        assert run(module, pattern[:size]).stdout == pattern[:size], size


def test_streams_and_strings_do_not_overlap(guest):
    environ = ["V=" + "e" * 30_000]
    for size in (0, 30_000, 33_000, 40_000):
        got = answer(run(guest("environ"), b"i" * size, args=["a" * 3000], environ=environ))
        assert got == {"environ": environ, "argv": ["a" * 3000]}


# stdout


def printing(wat, size: int, *, pieces: int = 1, fd: int = 1):
    body = f"""(local $i i32)
      (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {size // pieces}))
      (loop $on
        (drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {pieces}))))"""
    return wat(command(body, pages=max(1, size // pieces // PAGE + 1)))


@pytest.mark.parametrize("limit", [0, 1, 10, 4096, 65536, 100_000])
@pytest.mark.parametrize("pieces", [1, 10])
def test_stdout_of_the_limit_is_whole_and_a_byte_more_ends_the_guest(wat, limit, pieces):
    size = limit // pieces * pieces
    exact = run(printing(wat, size, pieces=pieces), limits=Limits(stdout=size))
    assert (exact.end, len(exact.stdout)) == (End.OK, size)
    more = run(printing(wat, size + pieces, pieces=pieces), limits=Limits(stdout=size + pieces - 1))
    assert more.end is End.OUTPUT
    assert len(more.stdout) <= size + pieces - 1


def test_eight_mebibytes_of_stdout_are_whole(wat):
    outcome = run(printing(wat, 8 << 20, pieces=128), limits=Limits(memory_pages=2))
    assert (outcome.end, len(outcome.stdout)) == (End.OK, 8 << 20)


def test_stdout_has_its_bound_also_where_the_guest_has_one_page(wat):
    outcome = run(printing(wat, 8 << 20, pieces=1 << 10), b"x" * (1 << 20), limits=Limits(memory_pages=1))
    assert (outcome.end, len(outcome.stdout)) == (End.OK, 8 << 20)


def test_a_flood_on_stdout_ends_the_guest(guest):
    outcome = run(guest("flood_stdout"))
    assert outcome.end is End.OUTPUT
    assert len(outcome.stdout) <= 8 << 20


def test_a_length_that_wraps_around_ends_the_guest_too(wat):
    body = """
      (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const -1))
      (drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))"""
    assert run(wat(command(body.format(fd=1)))).end is End.OUTPUT
    assert run(wat(command(body.format(fd=2)))).end in (End.OK, End.TRAP)


# stderr


@pytest.mark.parametrize(("size", "limit"), [(0, 0), (10, 10), (11, 10), (70_000, 65_536), (500, 0), (65_536, 65_536)])
def test_stderr_past_its_bound_is_dropped_and_counted(wat, size, limit):
    outcome = run(printing(wat, size, fd=2), limits=Limits(stderr=limit))
    assert outcome.end is End.OK
    assert len(outcome.stderr) == min(size, limit)
    assert outcome.stderr_dropped == max(0, size - limit)


def test_a_flood_on_stderr_does_not_hurt_the_answer(guest):
    outcome = run(guest("flood_stderr"), limits=Limits(time=20))
    assert answer(outcome) == {"logged": 100_000_000}
    assert len(outcome.stderr) == 64 << 10
    assert outcome.stderr_dropped == 100_000_000 - (64 << 10)


def test_both_streams_filled_to_their_bounds_are_whole(wat):
    body = """
      (memory.fill (i32.const 64) (i32.const 0x6f) (i32.const 50000))
      (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 50000))
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (memory.fill (i32.const 64) (i32.const 0x65) (i32.const 50000))
      (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))"""
    module = wat(command(body))
    for stdin in (b"", b"i" * 100_000):
        outcome = run(module, stdin, limits=Limits(memory_pages=1, stdout=50_000, stderr=50_000))
        assert (outcome.stdout, outcome.stderr) == (b"o" * 50_000, b"e" * 50_000)


# Tables


def test_tables_grow_to_the_engines_bound_only(wat):
    body = """
      (call $print_i32 (table.grow (ref.null func) (i32.const 1000)))
      (call $print_i32 (table.grow (ref.null func) (i32.const 99001)))"""
    assert numbers(run(wat(command(body, more="(table 0 funcref)")))) == [0, 0xFFFFFFFF]


def test_a_module_that_traps_as_it_is_instantiated_is_an_error_each_time(wat):
    """A data segment out of bounds: the trap is freed once, and the next guest finds everything in order."""
    module = wat(command("", more='(data (i32.const 65536) "out")'))
    for _ in range(200):
        with pytest.raises(EngineError, match="out of bounds"):
            run(module)
    assert run(wat(command(""))).end is End.OK
