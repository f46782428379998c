"""What compiled code depends on: the same for the engine that runs it and for the process that compiles it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from . import capi
from .library import VERSION
from .processor import NATIVE, Processor, fingerprint_of, target_of

WASI = "wasi_snapshot_preview1"
OPENERS = frozenset({"path_open", "fd_prestat_get"})
"""Imports without one of which a guest is granted no files."""
LINK_DIGEST = hashlib.sha256(
    b"".join(
        Path(__file__).with_name(part).read_bytes()
        for part in (
            *("wasi.wat", "link.py", "binary.py", "layout.py", "bounds.py", "compile.py", "configuration.py"),
            *("dwarf.py", "line_table.py", "stack.py", "changes.py", "first_values.py"),
        )
    )
).hexdigest()
"""What a linked module depends on beside the guest."""

_CODE: dict[str, int | bool] = {
    "epoch_interruption": True,
    "wasm_multi_memory": True,  # for the io memory; a guest with a second one of its own is refused
    "wasm_custom_page_sizes": True,  # for the io memory, which is less than a page; a guest with one is refused
    "wasm_bulk_memory": True,
    "wasm_simd": True,
    "wasm_multi_value": True,
    "wasm_reference_types": True,  # for the host table
    "wasm_threads": False,
    "wasm_tail_call": True,  # what componentize-qjs makes has them
    "wasm_relaxed_simd": False,
    "wasm_memory64": False,
    "wasm_gc": False,
    "wasm_function_references": False,
    "wasm_exceptions": False,
    "wasm_component_model_more_async_builtins": True,  # reads and writes that wait, of which no code is made
    "wasm_component_model_async_stackful": True,  # functions that wait on their stack, likewise
    "parallel_compilation": False,  # its threads do not survive a fork; modules are compiled side by side
}
_ON_DEMAND: dict[str, int | bool] = {
    "memory_reservation": 0,
    "memory_guard_size": 64 << 10,
    "memory_reservation_for_growth": 16 << 20,
    "memory_may_move": True,
}


_WINCH: dict[str, int | bool] = {"strategy": 2}  # WASMTIME_STRATEGY_WINCH


def code_settings(pooled: bool, winch: bool = False) -> dict[str, int | bool]:
    """Return features and code generation. ``pooled``: whether memories come from a pool, with their guard pages.

    ``winch`` is wasmtime's other compiler, which takes a fifth of the time and makes slower code.
    """
    return _CODE | ({} if pooled else _ON_DEMAND) | (_WINCH if winch else {})


def compiling_engine(pooled: bool, winch: bool = False, processor: Processor = NATIVE) -> int:
    """Make an engine that compiles for one with that configuration, and reserves no pool. It is never freed."""
    return capi.new_engine(code_settings(pooled, winch), None, target_of(processor))


def fingerprint(pooled: bool, winch: bool = False, processor: Processor = NATIVE) -> str:
    """Fingerprint what compiled code depends on: versions, code generation settings and the processor."""
    return f"wasmtime {VERSION} pooled={pooled}{' winch' if winch else ''} {fingerprint_of(processor)}"
