"""What compiled code depends on: the same for the engine that runs it and for the process that compiles it."""

from __future__ import annotations

import wasmtime

from . import capi


def code_configuration(pooled: bool) -> wasmtime.Config:
    """Features and code generation. ``pooled`` is whether memories come from a pool, with their guard pages."""
    c = wasmtime.Config()
    c.epoch_interruption = True
    c.wasm_multi_memory = True  # for the io memory; a guest with a second one of its own is refused
    c.wasm_bulk_memory = True
    c.wasm_simd = True
    c.wasm_multi_value = True
    c.wasm_reference_types = True  # for the host table
    c.wasm_threads = False
    c.wasm_tail_call = False
    c.wasm_relaxed_simd = False
    c.wasm_memory64 = False
    c.wasm_gc = False
    c.wasm_function_references = False
    c.wasm_exceptions = False
    c.parallel_compilation = False  # its threads do not survive a fork; modules are compiled side by side
    if not pooled:
        c.memory_reservation = 0
        c.memory_guard_size = 64 << 10
        c.memory_reservation_for_growth = 16 << 20
        c.memory_may_move = True
    return c


def compiling_engine(pooled: bool) -> int:
    """An engine that compiles for one with that configuration, and reserves no pool. It is never freed."""
    engine = wasmtime.Engine(code_configuration(pooled))
    _engines.append(engine)
    return capi.address(engine)


_engines: list[wasmtime.Engine] = []


def fingerprint(pooled: bool) -> str:
    """What compiled code depends on, beside the machine: versions and code generation settings."""
    return f"wasmtime {capi.VERSION} pooled={pooled}"
