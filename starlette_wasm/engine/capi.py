"""The few functions of wasmtime's C API that the engine uses, with unchecked prototypes: integers for pointers.

Nothing else touches ctypes or the private names of wasmtime-py, and ``Any`` stays in here. The prototypes follow
the headers of wasmtime 50 (``wasmtime/*.h``); another major version is refused.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Sequence
from ctypes import CFUNCTYPE, c_bool, c_char_p, c_int64, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from importlib.metadata import version
from typing import Any

import wasmtime
from wasmtime import _bindings as _typed_bindings

logger = logging.getLogger("starlette_wasm.engine")

MAJOR = 50
VERSION = version("wasmtime")

if int(VERSION.partition(".")[0]) != MAJOR:  # pragma: no cover - needs another wasmtime
    raise ImportError(
        f"starlette-wasm needs wasmtime {MAJOR}.x, found {VERSION}; pip install 'wasmtime>={MAJOR},<{MAJOR + 1}'"
    )


_bindings: Any = _typed_bindings


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    return CFUNCTYPE(result, *arguments)((name, _bindings.dll))


store_new = _function("wasmtime_store_new", c_void_p, c_void_p, c_void_p, c_void_p)
store_context = _function("wasmtime_store_context", c_void_p, c_void_p)
store_delete = _function("wasmtime_store_delete", None, c_void_p)
store_limiter = _function("wasmtime_store_limiter", None, c_void_p, *[c_int64] * 5)
context_data = _function("wasmtime_context_get_data", c_void_p, c_void_p)
context_set_wasi = _function("wasmtime_context_set_wasi", c_void_p, c_void_p, c_void_p)
set_epoch_deadline = _function("wasmtime_context_set_epoch_deadline", None, c_void_p, c_uint64)
# Declared in the header as returning an error, but it returns nothing: what would come back is garbage.
yield_on_epoch = _function("wasmtime_context_epoch_deadline_async_yield_and_update", None, c_void_p, c_uint64)
increment_epoch = _function("wasmtime_engine_increment_epoch", None, c_void_p)
pre_instantiate = _function("wasmtime_instance_pre_instantiate", c_void_p, *[c_void_p] * 4)
export_nth = _function("wasmtime_instance_export_nth", c_bool, c_void_p, c_void_p, c_size_t, *[c_void_p] * 3)
func_call_async = _function(
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
future_poll = _function("wasmtime_call_future_poll", c_bool, c_void_p)
future_delete = _function("wasmtime_call_future_delete", None, c_void_p)
memory_data = _function("wasmtime_memory_data", c_void_p, c_void_p, c_void_p)
memory_size = _function("wasmtime_memory_data_size", c_size_t, c_void_p, c_void_p)
memory_grow = _function("wasmtime_memory_grow", c_void_p, c_void_p, c_void_p, c_uint64, c_void_p)
table_set = _function("wasmtime_table_set", c_void_p, c_void_p, c_void_p, c_uint64, c_void_p)
linker_get = _function(
    "wasmtime_linker_get", c_bool, c_void_p, c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_void_p
)
caller_context = _function("wasmtime_caller_context", c_void_p, c_void_p)
wasi_config_new = _function("wasi_config_new", c_void_p)
wasi_config_delete = _function("wasi_config_delete", None, c_void_p)
wasi_preopen = _function("wasi_config_preopen_dir", c_bool, c_void_p, c_char_p, c_char_p, c_bool)
error_message = _function("wasmtime_error_message", None, c_void_p, c_void_p)
error_delete = _function("wasmtime_error_delete", None, c_void_p)
trap_code = _function("wasmtime_trap_code", c_bool, c_void_p, c_void_p)
trap_message = _function("wasm_trap_message", None, c_void_p, c_void_p)
trap_trace = _function("wasm_trap_trace", None, c_void_p, c_void_p)
trap_delete = _function("wasm_trap_delete", None, c_void_p)
frame_func_name = _function("wasmtime_frame_func_name", c_void_p, c_void_p)
frame_func_index = _function("wasm_frame_func_index", c_uint32, c_void_p)
byte_vec_delete = _function("wasm_byte_vec_delete", None, c_void_p)
frame_vec_delete = _function("wasm_frame_vec_delete", None, c_void_p)
module_new = _function("wasmtime_module_new", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
module_validate = _function("wasmtime_module_validate", c_void_p, c_void_p, c_char_p, c_size_t)
module_serialize = _function("wasmtime_module_serialize", c_void_p, c_void_p, c_void_p)
module_deserialize = _function("wasmtime_module_deserialize", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
module_delete = _function("wasmtime_module_delete", None, c_void_p)
linker_new = _function("wasmtime_linker_new", c_void_p, c_void_p)
linker_delete = _function("wasmtime_linker_delete", None, c_void_p)
linker_instantiate_pre = _function("wasmtime_linker_instantiate_pre", c_void_p, *[c_void_p] * 3)
instance_pre_delete = _function("wasmtime_instance_pre_delete", None, c_void_p)
linker_define_wasi = _function("wasmtime_linker_define_wasi", c_void_p, c_void_p)

EXTERN = _bindings.wasmtime_extern_t
EXTERN_OF: int = EXTERN.of.offset
VALUE = _bindings.wasmtime_val_t
FUNCREF = 5
_Vector = _bindings.wasm_byte_vec_t
_Finalizer = CFUNCTYPE(None, c_void_p)


class Scratch:
    """Memory for one invocation's out parameters, with their addresses as integers."""

    __slots__ = ("_parts", "error", "error_at", "extern_at", "instance_at", "io_at", "length_at", "main_at", "name_at",
                 "table_at", "trap", "trap_at", "value_at")  # fmt: skip

    def __init__(self) -> None:
        self.trap, self.error = c_void_p(), c_void_p()
        externs = (EXTERN * 4)()
        instance, value, name, length = _bindings.wasmtime_instance_t(), VALUE(), c_void_p(), c_size_t()
        self._parts = (externs, instance, value, name, length)
        at, size = ctypes.addressof, ctypes.sizeof(EXTERN)
        self.trap_at, self.error_at = at(self.trap), at(self.error)
        self.io_at, self.main_at, self.table_at, self.extern_at = (at(externs) + i * size for i in range(4))
        self.instance_at, self.value_at, self.name_at, self.length_at = (
            at(instance),
            at(value),
            at(name),
            at(length),
        )
        value.kind = FUNCREF

    def set_funcref(self) -> None:
        """Copy the function in ``extern`` into ``value``."""
        ctypes.memmove(
            self.value_at + VALUE.of.offset,
            self.extern_at + EXTERN_OF,
            ctypes.sizeof(_bindings.wasmtime_func_t),
        )


def drop_failure(scratch: Scratch) -> None:
    """Free the trap and the error of a call that nobody looked at."""
    if scratch.trap.value:
        trap_delete(scratch.trap.value)
    if scratch.error.value:
        error_delete(scratch.error.value)
    scratch.trap.value = scratch.error.value = None


class EngineError(Exception):
    """What wasmtime said; only the message crosses over."""


def take_error(error: int) -> str:
    """The message of an error, which is freed."""
    text = _message(error_message, error)
    error_delete(error)
    return text


def take_failure(error: int) -> str:
    """Why one of wasmtime's own functions ended a guest; the error is freed.

    The message is a backtrace, which names the guest's functions, and then the cause, on the last line.
    """
    text = _message(error_message, error, tail=True).rstrip().rpartition("\n")[2].strip()
    error_delete(error)
    return TRAPS[1] if "Pointer out of bounds" in text else _printable(text)[:256]


def check(error: int | None) -> None:
    """Raise EngineError where a C function gave an error."""
    if error:
        raise EngineError(take_error(error))


def _message(function: Callable[..., Any], of: int, *, tail: bool = False) -> str:
    vector = _Vector()
    function(of, ctypes.addressof(vector))
    size = min(vector.size, 4096)
    skipped = vector.size - size if tail else 0
    data = ctypes.string_at(ctypes.addressof(vector.data.contents) + skipped, size) if size else b""
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


def take_trap(trap: int, most: int = 32) -> tuple[str, tuple[str, ...]]:
    """The reason of a trap and its frames, innermost first; the trap is freed."""
    code = c_uint8()
    if trap_code(trap, ctypes.addressof(code)):
        reason = TRAPS.get(code.value, f"code {code.value}")
    else:
        reason = _message(trap_message, trap).partition("\n")[0]
    vector = _bindings.wasm_frame_vec_t()
    trap_trace(trap, ctypes.addressof(vector))
    frames = []
    for i in range(min(vector.size, most)):
        frame = ctypes.cast(vector.data[i], c_void_p).value
        name = frame_func_name(frame)
        text = _byte_vec(name) if name else None
        frames.append(_printable(text) if text else f"func[{frame_func_index(frame)}]")
    if vector.size > most:
        frames.append(f"... {vector.size - most} more")
    frame_vec_delete(ctypes.addressof(vector))
    trap_delete(trap)
    return reason, tuple(frames)


def _byte_vec(at: int) -> str:
    vector = _Vector.from_address(at)
    return ctypes.string_at(vector.data, min(vector.size, 256)).decode("utf-8", "replace") if vector.size else ""


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def address(managed: Any) -> int:
    """The pointer that an object of wasmtime-py owns."""
    value = ctypes.cast(managed.ptr(), c_void_p).value
    assert value is not None
    return value


def compile_module(engine: int, wasm: bytes) -> int:
    out = c_void_p()
    check(module_new(engine, wasm, len(wasm), ctypes.addressof(out)))
    assert out.value is not None
    return out.value


def deserialize_module(engine: int, data: bytes) -> int:
    out = c_void_p()
    check(module_deserialize(engine, data, len(data), ctypes.addressof(out)))
    assert out.value is not None
    return out.value


def serialize_module(module: int) -> bytes:
    vector = _Vector()
    check(module_serialize(module, ctypes.addressof(vector)))
    data = ctypes.string_at(vector.data, vector.size)
    byte_vec_delete(ctypes.addressof(vector))
    return data


def instantiate_pre(engine: int, module: int) -> int:
    """The pre-instantiation of a module without imports."""
    linker, out = linker_new(engine), c_void_p()
    try:
        check(linker_instantiate_pre(linker, module, ctypes.addressof(out)))
    finally:
        linker_delete(linker)
    assert out.value is not None
    return out.value


def assemble(text: str) -> bytes:
    """The binary form of a module in the text format."""
    return bytes(wasmtime.wat2wasm(text))


AsyncHost = Callable[[int, int, Sequence[int]], int | None]
"""``(data, context, arguments)`` gives the result at once, or None: the guest waits until ``resume`` has one."""
Resume = Callable[[int], int | None]
"""``(data)`` gives the result of the call that the invocation ``data`` waits for, or None as long as there is none."""

_INTERNAL_ERROR = 29  # errno IO


def define_async(
    linker: Any, module: str, name: str, params: Sequence[str], host: AsyncHost, resume: Resume
) -> tuple[Any, ...]:
    """Define an asynchronous function with i32/i64 parameters and one i32 result.

    What is returned must live as long as the linker. Nothing raises across the boundary: an error in ``host``
    becomes errno IO.
    """
    pending: dict[int, Any] = {}

    def poll(data: int) -> bool:
        result = resume(data)
        if result is None:
            return False
        slot = pending[data]
        slot.kind, slot.of.i32 = 0, result
        return True

    def forget(data: int) -> None:
        pending.pop(data, None)

    def call(
        _env: Any, caller: Any, args: Any, n_args: int, results: Any, _n_results: int, _trap: Any, continuation: Any
    ) -> None:
        context = caller_context(ctypes.cast(caller, c_void_p))
        data = context_data(context) or 0
        try:
            values = [args[i].of.i32 if args[i].kind == 0 else args[i].of.i64 for i in range(n_args)]
            result = host(data, context, values)
        except Exception:
            logger.exception("host function %s.%s failed", module, name)
            result = _INTERNAL_ERROR
        then = continuation[0]
        if result is not None:
            results[0].kind, results[0].of.i32 = 0, result
            then.callback, then.env, then.finalizer = c_done, None, nothing
        else:
            pending[data] = results[0]
            then.callback, then.env, then.finalizer = c_poll, data, c_forget

    continuation_callback = _bindings.wasmtime_func_async_continuation_callback_t
    c_poll, c_done = continuation_callback(poll), continuation_callback(lambda _: True)
    c_call, c_forget = _bindings.wasmtime_func_async_callback_t(call), _Finalizer(forget)
    nothing = ctypes.cast(0, _Finalizer)
    kinds = {"i32": wasmtime.ValType.i32, "i64": wasmtime.ValType.i64}
    kind = wasmtime.FuncType([kinds[param]() for param in params], [wasmtime.ValType.i32()])
    error = _bindings.wasmtime_linker_define_async_func(
        linker.ptr(),
        module.encode(),
        len(module),
        name.encode(),
        len(name),
        kind.ptr(),
        c_call,
        None,
        nothing,
    )
    if error:
        raise EngineError(take_error(ctypes.cast(error, c_void_p).value or 0))
    return c_poll, c_done, c_call, c_forget


def pooling(config: wasmtime.Config, **values: int) -> None:
    """Switch a configuration to the pooling allocator with these limits."""
    pool = _bindings.wasmtime_pooling_allocation_config_new()
    for name, value in values.items():
        getattr(_bindings, f"wasmtime_pooling_allocation_config_{name}_set")(pool, value)
    _bindings.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
    _bindings.wasmtime_pooling_allocation_config_delete(pool)


def config_set(config: wasmtime.Config, name: str, value: int | bool) -> None:
    """A setting that wasmtime-py has no property for."""
    getattr(_bindings, f"wasmtime_config_{name}_set")(config.ptr(), value)


INCREMENT_EPOCH: int = ctypes.cast(_bindings.dll.wasmtime_engine_increment_epoch, c_void_p).value or 0

string_at = ctypes.string_at
memmove = ctypes.memmove
