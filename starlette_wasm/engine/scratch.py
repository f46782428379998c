"""``Scratch``: what the C library and wasmtime write about one invocation, and Python reads."""

from __future__ import annotations

import ctypes
import struct
from ctypes import Structure, c_char, c_char_p, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

from . import capi

SPARE = 8192
"""Bytes of stdout that invoke.c copies."""


class ScratchMemory(Structure):
    """``struct scratch`` of invoke.c."""

    _fields_ = (
        ("trap", c_void_p),
        ("error", c_void_p),
        ("io", capi.Extern),
        ("main", capi.Extern),
        ("memory", capi.Extern),
        ("table", capi.Extern),
        ("other", capi.Extern),
        ("value", capi.Value),
        ("instance", capi.Instance),
        ("name", c_void_p),
        ("length", c_size_t),
        ("store", c_void_p),
        ("context", c_void_p),
        ("future", c_void_p),
        ("base", c_void_p),
        ("ran_ns", c_uint64),
        ("pages", c_uint32),
        ("out_len", c_uint32),
        ("asked", c_uint32),
        ("arguments", c_uint32 * 4),
        ("answered", c_uint32),
        ("result", c_int32),
        ("uses", c_uint32),
        ("given", c_char_p),
        ("given_len", c_size_t),
        ("results", c_void_p),
        ("out", c_char * SPARE),
    )


_OWNED = struct.Struct("@4P")  # store, context, future, base
_RESULT = struct.Struct("@Q2I")  # ran_ns, pages, out_len
_ASKED = struct.Struct("@5I")  # asked, arguments
_OWNED_AT, _RESULT_AT, _OUT_AT = (getattr(ScratchMemory, name).offset for name in ("store", "ran_ns", "out"))
_ASKED_AT = ScratchMemory.asked.offset


class Scratch:
    """Memory for one invocation's out parameters, with their addresses as integers."""

    __slots__ = ("_memory", "_view", "at", "error", "error_at", "extern_at", "instance_at", "io_at", "length_at",
                 "main_at", "name_at", "table_at", "trap", "trap_at", "value_at")  # fmt: skip

    def __init__(self) -> None:
        self._memory = memory = ScratchMemory()
        self._view = memoryview(memory).cast("B")
        self.at = at = ctypes.addressof(memory)
        self.trap_at, self.error_at, self.io_at, self.main_at, self.table_at, self.extern_at = (
            at + getattr(ScratchMemory, name).offset for name in ("trap", "error", "io", "main", "table", "other")
        )
        self.value_at, self.instance_at, self.name_at, self.length_at = (
            at + getattr(ScratchMemory, name).offset for name in ("value", "instance", "name", "length")
        )
        self.trap, self.error = c_void_p.from_address(self.trap_at), c_void_p.from_address(self.error_at)
        memory.value.kind = capi.FUNCREF

    def owned(self) -> tuple[int, int, int, int]:
        """Return store, context, future and where the io memory is, as invoke.c left them; 0 if there is none."""
        found: tuple[int, int, int, int] = _OWNED.unpack_from(self._view, _OWNED_AT)
        return found

    def result(self) -> tuple[int, int, bytes]:
        """Return what invoke.c left of a guest that ended well: nanoseconds, pages, stdout."""
        ran, pages, length = _RESULT.unpack_from(self._view, _RESULT_AT)
        return ran, pages, bytes(self._view[_OUT_AT : _OUT_AT + length])

    def asked(self) -> tuple[int, int, int, int, int]:
        """Return what the guest waits for, as native.h numbers it, with its arguments; 0 if it waits for nothing."""
        found: tuple[int, int, int, int, int] = _ASKED.unpack_from(self._view, _ASKED_AT)
        self._memory.asked = 0
        return found

    def forget_calls(self) -> None:
        """Forget what the last guest asked."""
        self._memory.asked = self._memory.answered = 0
        self.give(None)

    def answer(self, result: int) -> None:
        """Let the guest go on with the result of what it asked."""
        self._memory.result = result
        self._memory.answered = 1

    def give(self, given: bytes | None) -> None:
        """Let it take this."""
        self._memory.given_len = len(given or b"")
        self._memory.given = given or b""  # this lets go of what was given before, which None does not
        if given is None:
            self._memory.given = None

    def not_granted(self) -> int:
        """Return which directory could not be opened."""
        number: int = self._memory.out_len
        return number

    def take_failure(self) -> tuple[int | None, int | None]:
        """Return the trap and the error of the last call, which the caller frees."""
        trap, error = self.trap.value, self.error.value
        self.trap.value = self.error.value = None
        return trap, error

    def set_funcref(self) -> None:
        """Copy the function in ``extern`` into ``value``."""
        ctypes.memmove(
            self.value_at + capi.Value.of.offset,
            self.extern_at + capi.EXTERN_OF,
            ctypes.sizeof(capi.Func),
        )


def drop_failure(scratch: Scratch) -> None:
    """Free the trap and the error of a call that nobody looked at."""
    trap, error = scratch.take_failure()
    if trap:
        capi.trap_delete(trap)
    if error:
        capi.error_delete(error)
