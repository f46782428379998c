"""Functions of the host that a guest awaits, as wasmtime wants them: callbacks that never raise."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import CFUNCTYPE, POINTER, c_bool, c_size_t, c_void_p
from typing import Any

from . import capi

AsyncHost = Callable[[int, int, Sequence[int]], int | None]
"""``(data, context, arguments)`` gives the result at once, or None: the guest waits until ``resume`` has one."""
Resume = Callable[[int], int | None]
"""``(data)`` gives the result of the call that the invocation ``data`` waits for, or None as long as there is none."""

Failed = Callable[[int, BaseException], None]
"""``(data, error)``: a host function raised; whoever polls the invocation ends it."""


_Call = CFUNCTYPE(None, c_void_p, c_void_p, POINTER(capi.Value), c_size_t, POINTER(capi.Value), c_size_t, c_void_p,
                  POINTER(capi.Continuation))  # fmt: skip
_Poll = CFUNCTYPE(c_bool, c_void_p)
_Finalizer = CFUNCTYPE(None, c_void_p)


def define_async(
    linker: int, module: str, name: str, params: Sequence[int], host: AsyncHost, resume: Resume, failed: Failed
) -> tuple[Any, ...]:
    """Define an asynchronous function with parameters of these kinds (capi.I32 or capi.I64) and one i32 result.

    What is returned must live as long as the linker. Nothing raises across the boundary: what ``host`` raises is
    given to ``failed``, and the guest waits until it is dropped.
    """
    pending: dict[int, Any] = {}

    def poll(data: int) -> bool:
        result = resume(data)
        if result is None:
            return False
        slot = pending[data]
        slot.kind, slot.of.i32 = capi.I32, result
        return True

    def forget(data: int) -> None:
        pending.pop(data, None)

    def call(
        _env: Any, caller: Any, args: Any, n_args: int, results: Any, _n_results: int, _trap: Any, continuation: Any
    ) -> None:
        context = capi.caller_context(caller)
        data = capi.context_data(context) or 0
        try:
            values = [args[i].of.i32 if args[i].kind == capi.I32 else args[i].of.i64 for i in range(n_args)]
            result = host(data, context, values)
        except BaseException as error:
            failed(data, error)  # no log here: a handler may need more stack than the guest's
            result = None
        then = continuation[0]
        if result is not None:
            results[0].kind, results[0].of.i32 = capi.I32, result
            then.callback, then.env, then.finalizer = done_at, None, None
        else:
            pending[data] = results[0]
            then.callback, then.env, then.finalizer = poll_at, data, forget_at

    c_call, c_poll, c_done, c_forget = _Call(call), _Poll(poll), _Poll(lambda _: True), _Finalizer(forget)
    call_at, poll_at, done_at, forget_at = (
        ctypes.cast(each, c_void_p).value for each in (c_call, c_poll, c_done, c_forget)
    )
    kind = _function_type(params, [capi.I32])
    try:
        capi.check(
            capi.linker_define_async(
                linker, module.encode(), len(module), name.encode(), len(name), kind, call_at, None, None
            )
        )
    finally:
        capi.function_type_delete(kind)
    return c_poll, c_done, c_call, c_forget


def define_native(linker: int, module: str, name: str, params: Sequence[int], function: int, env: int = 0) -> None:
    """Define an asynchronous function that the C library has, with one i32 result; it is given ``env``."""
    kind = _function_type(params, [capi.I32])
    try:
        capi.check(
            capi.linker_define_async(
                linker, module.encode(), len(module), name.encode(), len(name), kind, function, env, None
            )
        )
    finally:
        capi.function_type_delete(kind)


def _function_type(params: Sequence[int], results: Sequence[int]) -> int:
    vectors = capi.Vector(), capi.Vector()
    for vector, kinds in zip(vectors, (params, results), strict=True):
        types = (c_void_p * len(kinds))(*(capi.value_type(kind) for kind in kinds))
        capi.value_types(ctypes.addressof(vector), len(kinds), ctypes.addressof(types))
    made: int = capi.function_type(*(ctypes.addressof(vector) for vector in vectors))  # takes what is in them
    return made
