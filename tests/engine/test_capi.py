"""The prototypes and structures against those that wasmtime-py generates from the headers."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest
from wasmtime import _bindings as generated

from starlette_wasm.engine import capi, engine

SOURCE = Path(capi.__file__ or "").read_text()
STRUCTURES = [
    (capi.Value, "wasmtime_val_t"),
    (capi.Extern, "wasmtime_extern_t"),
    (capi.Func, "wasmtime_func_t"),
    (capi.Instance, "wasmtime_instance_t"),
    (capi.Vector, "wasm_byte_vec_t"),
    (capi.Vector, "wasm_frame_vec_t"),
    (capi.Vector, "wasm_valtype_vec_t"),
    (capi.Continuation, "wasmtime_async_continuation_t"),
]


@pytest.mark.parametrize(("ours", "name"), STRUCTURES, ids=[name for _, name in STRUCTURES])
def test_structures_are_those_of_the_headers(ours: type[ctypes.Structure], name: str) -> None:
    theirs = getattr(generated, name)
    assert ctypes.sizeof(ours) == ctypes.sizeof(theirs)
    assert ctypes.alignment(ours) == ctypes.alignment(theirs)
    for (mine, _), (other, *_) in zip(ours._fields_, theirs._fields_, strict=True):  # type: ignore[misc]
        assert getattr(ours, mine).offset == getattr(theirs, other).offset
        assert getattr(ours, mine).size == getattr(theirs, other).size


def test_prototypes_have_the_sizes_of_the_headers() -> None:
    functions = {
        name: made
        for name, made in vars(capi).items()
        if isinstance(made, ctypes._CFuncPtr) and name not in ("string_at", "memmove")
    }
    names = dict(re.findall(r'^(\w+) = function\(\s*"(\w+)"', SOURCE, re.MULTILINE))
    assert len(names) > 40
    assert functions.keys() == names.keys()
    for name, ours in functions.items():
        theirs = getattr(generated, f"_{names[name]}")
        assert [ctypes.sizeof(each) for each in ours.argtypes] == [ctypes.sizeof(each) for each in theirs.argtypes], (
            name
        )
        size = None if theirs.restype is None else ctypes.sizeof(theirs.restype)
        if name != "yield_on_epoch":  # declared as returning an error
            assert size == (None if ours.restype is None else ctypes.sizeof(ours.restype)), name


def test_settings_are_of_the_sizes_that_the_engine_gives() -> None:
    config = engine.EngineConfig()
    for pooled in (True, False):
        settings, pool = engine._configuration(config, pooled)
        for name, value in settings.items():
            kind = getattr(generated, f"_wasmtime_config_{name}_set").argtypes[1]
            assert ctypes.sizeof(kind) == (1 if isinstance(value, bool) else 8), name
        for name, value in (pool or {}).items():
            kind = getattr(generated, f"_wasmtime_pooling_allocation_config_{name}_set").argtypes[1]
            assert value < 1 << 8 * ctypes.sizeof(kind), name


def test_the_python_of_wasmtime_is_not_loaded() -> None:
    code = "import sys, starlette_wasm; sys.exit('wasmtime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
