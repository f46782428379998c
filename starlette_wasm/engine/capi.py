"""The few functions of wasmtime's C API that the engine uses, with unchecked prototypes: integers for pointers.

``Any`` stays in here.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from ctypes import (
    Structure,
    Union,
    c_bool,
    c_char,
    c_char_p,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

from ..sync import copies
from .library import MAJOR, VERSION, address, function
from .printable import escape

logger = logging.getLogger("starlette_wasm.engine")

__all__ = ["MAJOR", "VERSION"]

store_new = function("wasmtime_store_new", c_void_p, c_void_p, c_void_p, c_void_p)
store_context = function("wasmtime_store_context", c_void_p, c_void_p)
store_delete = function("wasmtime_store_delete", None, c_void_p)
store_limiter = function("wasmtime_store_limiter", None, c_void_p, *[c_int64] * 5)
context_data = function("wasmtime_context_get_data", c_void_p, c_void_p)
context_set_wasi = function("wasmtime_context_set_wasi", c_void_p, c_void_p, c_void_p)
set_epoch_deadline = function("wasmtime_context_set_epoch_deadline", None, c_void_p, c_uint64)
# Declared in the header as returning an error, but it returns nothing: what would come back is garbage.
yield_on_epoch = function("wasmtime_context_epoch_deadline_async_yield_and_update", None, c_void_p, c_uint64)
increment_epoch = function("wasmtime_engine_increment_epoch", None, c_void_p)
pre_instantiate = function("wasmtime_instance_pre_instantiate", c_void_p, *[c_void_p] * 4)
export_nth = function("wasmtime_instance_export_nth", c_bool, c_void_p, c_void_p, c_size_t, *[c_void_p] * 3)
func_call_async = function(
    "wasmtime_func_call_async",
    c_void_p,
    c_void_p,
    c_void_p,
    c_void_p,
    c_size_t,
    c_void_p,
    c_size_t,
    *[c_void_p] * 2,
)
future_poll = function("wasmtime_call_future_poll", c_bool, c_void_p)
future_delete = function("wasmtime_call_future_delete", None, c_void_p)
memory_data = function("wasmtime_memory_data", c_void_p, c_void_p, c_void_p)
memory_size = function("wasmtime_memory_data_size", c_size_t, c_void_p, c_void_p)
memory_grow = function("wasmtime_memory_grow", c_void_p, c_void_p, c_void_p, c_uint64, c_void_p)
table_set = function("wasmtime_table_set", c_void_p, c_void_p, c_void_p, c_uint64, c_void_p)
linker_get = function(
    "wasmtime_linker_get", c_bool, c_void_p, c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_void_p
)
caller_context = function("wasmtime_caller_context", c_void_p, c_void_p)
wasi_config_new = function("wasi_config_new", c_void_p)
wasi_config_delete = function("wasi_config_delete", None, c_void_p)
wasi_preopen = function("wasi_config_preopen_dir", c_bool, c_void_p, c_char_p, c_char_p, c_bool)
error_message = function("wasmtime_error_message", None, c_void_p, c_void_p)
error_delete = function("wasmtime_error_delete", None, c_void_p)
trap_code = function("wasmtime_trap_code", c_bool, c_void_p, c_void_p)
trap_message = function("wasm_trap_message", None, c_void_p, c_void_p)
trap_trace = function("wasm_trap_trace", None, c_void_p, c_void_p)
trap_delete = function("wasm_trap_delete", None, c_void_p)
frame_func_name = function("wasmtime_frame_func_name", c_void_p, c_void_p)
frame_func_offset = function("wasm_frame_func_offset", c_size_t, c_void_p)
frame_func_index = function("wasm_frame_func_index", c_uint32, c_void_p)
byte_vec_delete = function("wasm_byte_vec_delete", None, c_void_p)
frame_vec_delete = function("wasm_frame_vec_delete", None, c_void_p)
module_new = function("wasmtime_module_new", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
module_validate = function("wasmtime_module_validate", c_void_p, c_void_p, c_char_p, c_size_t)
module_serialize = function("wasmtime_module_serialize", c_void_p, c_void_p, c_void_p)
module_deserialize = function("wasmtime_module_deserialize", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
module_deserialize_file = function("wasmtime_module_deserialize_file", c_void_p, c_void_p, c_char_p, c_void_p)
module_delete = function("wasmtime_module_delete", None, c_void_p)
instance_new = function("wasmtime_instance_new", c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_void_p)
export_get = function("wasmtime_instance_export_get", c_bool, c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
global_get = function("wasmtime_global_get", None, *[c_void_p] * 3)
global_set = function("wasmtime_global_set", c_void_p, *[c_void_p] * 3)
component_new = function("wasmtime_component_new", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
component_delete = function("wasmtime_component_delete", None, c_void_p)
linker_new = function("wasmtime_linker_new", c_void_p, c_void_p)
linker_delete = function("wasmtime_linker_delete", None, c_void_p)
linker_instantiate_pre = function("wasmtime_linker_instantiate_pre", c_void_p, *[c_void_p] * 3)
instance_pre_delete = function("wasmtime_instance_pre_delete", None, c_void_p)
linker_define_wasi = function("wasmtime_linker_define_wasi", c_void_p, c_void_p)

engine_new = function("wasm_engine_new_with_config", c_void_p, c_void_p)
config_new = function("wasm_config_new", c_void_p)
pool_new = function("wasmtime_pooling_allocation_config_new", c_void_p)
pool_delete = function("wasmtime_pooling_allocation_config_delete", None, c_void_p)
pool_set = function("wasmtime_pooling_allocation_strategy_set", None, c_void_p, c_void_p)
linker_allow_shadowing = function("wasmtime_linker_allow_shadowing", None, c_void_p, c_bool)
linker_define_async = function(
    "wasmtime_linker_define_async_func", c_void_p, c_void_p, *[c_char_p, c_size_t] * 2, *[c_void_p] * 4
)
wat2wasm = function("wasmtime_wat2wasm", c_void_p, c_char_p, c_size_t, c_void_p)
value_type = function("wasm_valtype_new", c_void_p, c_uint8)
value_types = function("wasm_valtype_vec_new", None, c_void_p, c_size_t, c_void_p)
function_type = function("wasm_functype_new", c_void_p, c_void_p, c_void_p)
function_type_delete = function("wasm_functype_delete", None, c_void_p)
INCREMENT_EPOCH = address("wasmtime_engine_increment_epoch")


class Instance(Structure):
    _fields_ = (("store_id", c_uint64), ("index", c_size_t))


class Func(Structure):
    _fields_ = (("store_id", c_uint64), ("index", c_void_p))


class _ExternUnion(Union):
    _fields_ = (("func", Func), ("space", c_uint64 * 3))


class Extern(Structure):
    _fields_ = (("kind", c_uint8), ("of", _ExternUnion))


class _ValueUnion(Union):
    _fields_ = (("i32", c_int32), ("i64", c_int64), ("funcref", Func), ("space", c_uint64 * 3))


class Value(Structure):
    _fields_ = (("kind", c_uint8), ("of", _ValueUnion))

    @property
    def number(self) -> bytes:
        """The bytes of a number or vector: behind them may be anything."""
        return bytes(self.of)[: _VALUE_SIZES[self.kind]]


class Vector(Structure):
    """``wasm_byte_vec_t`` and the other vectors of wasm.h."""

    _fields_ = (("size", c_size_t), ("data", c_void_p))


class Continuation(Structure):
    _fields_ = (("callback", c_void_p), ("env", c_void_p), ("finalizer", c_void_p))


I32, I64, FUNCREF = 0, 1, 5
"""Kinds of Value."""
_VALUE_SIZES = (4, 8, 4, 8, 16)
"""Of i32, i64, f32, f64 and v128, by kind."""
EXTERN_OF: int = Extern.of.offset


class EngineError(Exception):
    """What wasmtime complains of, by its message alone."""


def take_error(error: int) -> str:
    """Return the message of an error, and free that."""
    text = _message(error_message, error)
    error_delete(error)
    return text


def take_failure(error: int) -> str:
    """Explain why one of wasmtime's own functions ended a guest, and free the error.

    The message is a backtrace, which names the guest's functions, and then the cause, on the last line.
    """
    text = _message(error_message, error, tail=True).rstrip().rpartition("\n")[2].strip()
    error_delete(error)
    return TRAPS[1] if "Pointer out of bounds" in text else escape(text, keep="")[:256]


def check(error: int | None) -> None:
    """Raise EngineError if a C function gave an error."""
    if error:
        raise EngineError(take_error(error))


def _message(function: Callable[..., Any], of: int, *, tail: bool = False) -> str:
    vector = Vector()
    function(of, ctypes.addressof(vector))
    size = min(vector.size, 4096)
    skipped = vector.size - size if tail else 0
    data = ctypes.string_at(vector.data + skipped, size) if size else b""
    byte_vec_delete(ctypes.addressof(vector))
    return data.decode("utf-8", "replace").rstrip("\0")


TRAPS = {
    0: "call stack exhausted",
    1: "out of bounds memory access",
    2: "misaligned memory access",
    3: "out of bounds table access",
    4: "indirect call to null",
    5: "indirect call type mismatch",
    6: "integer overflow",
    7: "integer divide by zero",
    8: "invalid conversion to integer",
    9: "unreachable",
    10: "interrupt",
}


def take_trap(trap: int, most: int = 32) -> tuple[str, tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Return the reason of a trap, its frames, innermost first, and their functions and offsets; free the trap."""
    code = c_uint8()
    if trap_code(trap, ctypes.addressof(code)):
        reason = TRAPS.get(code.value, f"code {code.value}")
    else:
        reason = _message(trap_message, trap).partition("\n")[0]
    vector = Vector()
    trap_trace(trap, ctypes.addressof(vector))
    frames, places = [], []
    for i in range(min(vector.size, most)):
        frame = c_void_p.from_address(vector.data + 8 * i).value
        name = frame_func_name(frame)
        text = _byte_vec(name) if name else None
        index = frame_func_index(frame)
        frames.append(escape(text, keep="") if text else f"func[{index}]")
        places.append((index, frame_func_offset(frame)))
    if vector.size > most:
        frames.append(f"... {vector.size - most} more")
    frame_vec_delete(ctypes.addressof(vector))
    trap_delete(trap)
    return reason, tuple(frames), tuple(places)


def _byte_vec(at: int) -> str:
    vector = Vector.from_address(at)
    return ctypes.string_at(vector.data, min(vector.size, 256)).decode("utf-8", "replace") if vector.size else ""


def compile_module(engine: int, wasm: bytes) -> int:
    out = c_void_p()
    check(module_new(engine, wasm, len(wasm), ctypes.addressof(out)))
    assert out.value is not None
    return out.value


def new_component(engine: int, component: bytes) -> int:
    """Make a component, validated and compiled by wasmtime."""
    out = c_void_p()
    check(component_new(engine, component, len(component), ctypes.addressof(out)))
    assert out.value is not None
    return out.value


Code = bytes | memoryview
"""Compiled code; a view is of a buffer that can be written to, of which a part need not be copied."""


_SEALS = 0x1 | 0x2 | 0x4 | 0x8
"""F_SEAL_SEAL, SHRINK, GROW and WRITE: from now on it stays what it is."""
_AS_FILE = 4 << 20
"""Bytes of code from which it is mapped from a file of its own."""
CODE_FILE = "starlette-wasm-code"
"""The name of that file, as /proc/PID/maps shows it."""


def deserialize_module(engine: int, data: Code) -> int:
    """Copy code that is large into a file in memory that nobody can change, and map it from there.

    What of it is not used is not resident, and the memories that instances begin with are mapped from it too.
    """
    if len(data) >= _AS_FILE and sys.platform == "linux":
        with suppress(OSError, EngineError):  # a kernel that is configured otherwise
            return _deserialize_as_file(engine, data)
    out = c_void_p()
    given: Any = data
    if isinstance(data, memoryview):
        given = c_char_p(ctypes.addressof(c_char.from_buffer(data)) if data else None)
    check(module_deserialize(engine, given, len(data), ctypes.addressof(out)))
    assert out.value is not None
    return out.value


def _deserialize_as_file(engine: int, data: Code) -> int:
    descriptor = os.memfd_create(CODE_FILE, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        out = c_void_p()
        check(module_deserialize_file(engine, f"/proc/self/fd/{descriptor}".encode(), ctypes.addressof(out)))
    finally:
        os.close(descriptor)
    assert out.value is not None
    return out.value


def serialize_module(module: int) -> bytes:
    vector = Vector()
    check(module_serialize(module, ctypes.addressof(vector)))
    data = ctypes.string_at(vector.data, vector.size)
    byte_vec_delete(ctypes.addressof(vector))
    return data


def instantiate_pre(engine: int, module: int) -> int:
    """Make the pre-instantiation of a module without imports."""
    linker, out = linker_new(engine), c_void_p()
    try:
        check(linker_instantiate_pre(linker, module, ctypes.addressof(out)))
    finally:
        linker_delete(linker)
    assert out.value is not None
    return out.value


def assemble(text: str) -> bytes:
    """Assemble the binary form of a module in the text format."""
    given, vector = text.encode(), Vector()
    check(wat2wasm(given, len(given), ctypes.addressof(vector)))
    wasm = ctypes.string_at(vector.data, vector.size)
    byte_vec_delete(ctypes.addressof(vector))
    return wasm


def new_engine(
    settings: Mapping[str, int | bool], pool: Mapping[str, int] | None, target: tuple[str, str] | None = None
) -> int:
    """Make an engine with these settings of ``wasmtime/config.h``, and of its pooling allocator if there is one.

    It compiles for this machine, or for ``target`` and the level of it, if that is not empty.
    """
    config = config_new()
    for name, value in settings.items():
        kind = c_bool if isinstance(value, bool) else c_uint64
        function(f"wasmtime_config_{name}_set", None, c_void_p, kind)(config, value)
    if pool is not None:
        limits = pool_new()
        for name, value in pool.items():
            function(f"wasmtime_pooling_allocation_config_{name}_set", None, c_void_p, c_size_t)(limits, value)
        pool_set(config, limits)
        pool_delete(limits)
    if target is not None:
        triple, level = target
        check(function("wasmtime_config_target_set", c_void_p, c_void_p, c_char_p)(config, triple.encode()))
        if level:
            function("wasmtime_config_cranelift_flag_enable", None, c_void_p, c_char_p)(config, level.encode())
    engine: int = engine_new(config)  # takes the config
    return engine


string_at = copies.read
memmove = copies.write
first_difference = copies.first_difference
