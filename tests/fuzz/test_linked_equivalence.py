"""A linked module does what the unlinked one does under plain wasmtime, refused growth included.

Nothing here shares the decoder of the linker: modules are put together from text and bytes, and the other side is
wasmtime's own Python package. ``STARLETTE_WASM_LINK_EXAMPLES`` is how many modules are tried; the long form takes
100,000.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from contextlib import nullcontext

import wasmtime

from starlette_wasm.engine import capi
from starlette_wasm.engine.engine import Engine
from starlette_wasm.engine.invocation import Invocation
from starlette_wasm.engine.module import InvalidModuleError, Module, UnsupportedModuleError
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits, Plan

EXAMPLES = int(os.environ.get("STARLETTE_WASM_LINK_EXAMPLES", "400"))
PAGE = 64 << 10
PAGES = 8

# Each leaves the stack as it was. $g is what memory.grow gave last.
PIECES = (
    "(local.set $g (memory.grow (i32.const {n})))",
    "(drop (memory.grow (i32.const {n})))",
    "(global.set $sum (i32.add (global.get $sum) (memory.size)))",
    "(global.set $sum (i32.xor (global.get $sum) (memory.grow (i32.const {n}))))",
    "(block (result (ref null func)) (drop (memory.grow (i32.const {n}))) (ref.null func)) (drop)",
    "(drop (select (result (ref null func)) (ref.null func) (ref.null func) (memory.grow (i32.const {n}))))",
    "(drop (block (result i32) (memory.grow (i32.const {n}))))",
    "(if (i32.eq (memory.grow (i32.const {n})) (i32.const -1)) (then (global.set $sum (i32.const 7))))",
    "(drop (i64.const 4611686018427387968)) (drop (i32.const 64)) (drop (f32.const 2)) (drop (f64.const 2))",
    "(drop (v128.const i32x4 0x40004000 0x00400040 0x40 64))",
    "(i32.store8 offset=64 align=1 (i32.const {n}) (global.get $sum))",
    "(memory.fill (i32.const 64) (i32.const 64) (i32.const 0))",
    "(global.set $sum (i32.add (global.get $sum) (call $other (i32.const {n}))))",
    "(block (br_table 0 0 0 (i32.const 64))) (local.set $g (i32.const 64))",
    "(global.set $sum (i32.add (local.get $g) (i32.mul (global.get $sum) (i32.const 3))))",
)
LOCALS = ("", "(local funcref)", "(local i64 f32)", "(local (ref null extern) funcref externref)")
# Bytes that may take the place of others: prefixes, padded numbers, types of two bytes, memory.grow itself.
JUNK = (
    b"\x40\x00",
    b"\x40\x80\x00",
    b"\x63\x70",
    b"\x80\x00",
    b"\x40",
    b"\x63",
    b"\xfc\x80\x00",
    b"\x01",
    b"\x00",
    b"\x80",
)


def made(chance: random.Random) -> bytes:
    """A module whose _start grows its memory here and there, and ends by what it saw."""
    pieces = " ".join(chance.choice(PIECES).format(n=chance.choice([0, 1, 2, 3, 64, 65535])) for _ in range(12))
    text = f"""(module (memory (export "memory") 1 {chance.choice(["", "4", "100"])})
      (global $sum (mut i32) (i32.const 1))
      (func $other (param i32) (result i32) (memory.grow (i32.and (local.get 0) (i32.const 1))))
      (func (export "_start") (local $g i32) {chance.choice(LOCALS)} {pieces}
        (global.set $sum (i32.xor (global.get $sum) (i32.add (local.get $g) (memory.size))))
        (if (i32.and (global.get $sum) (i32.const 1)) (then unreachable))
        (if (i32.and (global.get $sum) (i32.const 2)) (then (drop (i32.div_u (i32.const 1) (i32.const 0)))))
        (if (i32.and (global.get $sum) (i32.const 4)) (then (drop (i32.load (i32.const -8)))))))"""
    return capi.assemble(text)


def changed(module: bytes, chance: random.Random) -> bytes:
    """The same with bytes of its second half replaced, or numbers and types written in a longer form."""
    data = bytearray(module)
    at = chance.randrange(len(data) // 3, len(data))
    how = chance.randrange(4)
    if how == 0:
        return module
    if how == 1:
        data[at] = chance.randrange(256)
    elif how == 2:
        junk = chance.choice(JUNK)
        data[at : at + len(junk)] = junk
    else:
        places = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\x41\x40" or data[i] == 0x40]
        if places:
            at = chance.choice(places)
            data[at : at + 2] = chance.choice([b"\x63\x70", b"\x40\x00", b"\x3f\x00"])
    return bytes(data)


def plain_engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.consume_fuel = True
    config.wasm_threads = False
    config.wasm_relaxed_simd = False
    return wasmtime.Engine(config)


def plainly(engine: wasmtime.Engine, module: bytes) -> tuple[str, int] | None:
    """How it ends under plain wasmtime and its pages then; None if it is not valid, too large or runs too long."""
    store = wasmtime.Store(engine)
    store.set_limits(memory_size=PAGES * PAGE)
    store.set_fuel(1_000_000)
    try:
        exports = wasmtime.Instance(store, wasmtime.Module(engine, module), []).exports(store)
    except (wasmtime.WasmtimeError, wasmtime.Trap):
        return None
    start, memory = exports["_start"], exports["memory"]
    assert isinstance(start, wasmtime.Func)
    assert isinstance(memory, wasmtime.Memory)
    try:
        start(store)
        end = ""
    except (wasmtime.Trap, wasmtime.WasmtimeError) as trap:
        end = str(trap)
    if "fuel" in end or "stack" in end:
        return None
    return end, memory.size(store)


def linked(engine: Engine, module: bytes) -> Outcome | None:
    try:
        compiled = Module.compile(engine, module)
    except (InvalidModuleError, UnsupportedModuleError):
        return None
    try:
        invocation = Invocation(Plan(compiled, Limits(memory_pages=PAGES, time=2)), b"")
        return asyncio.run(invocation.run(time.monotonic() + 2, nullcontext))
    finally:
        compiled.close()


def test_linked_modules_end_as_plain_wasmtime_has_them(engine: Engine) -> None:
    plain = plain_engine()
    chance = random.Random(11)
    compared = refused = 0
    for number in range(EXAMPLES):
        module = changed(made(chance), chance)
        wanted = plainly(plain, module)
        outcome = linked(engine, module) if wanted else None
        if wanted is None or outcome is None:
            continue
        end, pages = wanted
        assert (outcome.end is End.OK) == (not end), (number, module.hex(), outcome)
        assert outcome.reason in end, (number, module.hex(), outcome)
        assert outcome.memory_bytes == pages * PAGE, (number, module.hex(), outcome)
        compared += 1
        refused += bool(outcome.refused_pages)
    assert compared > EXAMPLES // 2
    assert refused > EXAMPLES // 10
