"""``CoreCall``: a call of one function of a guest, with flat values."""

from __future__ import annotations

import ctypes
import struct

from ..engine import capi
from ..engine.scratch import Scratch
from .types import Signature

FIRST_POLL = 2
"""Ticks, as in engine/instance.py."""
_KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3}
_BITS = {"i32": struct.Struct("<Ixxxx"), "i64": struct.Struct("<Q"), "f32": struct.Struct("<Ixxxx"),
         "f64": struct.Struct("<Q")}  # fmt: skip
_VALUE_OF = capi.Value.of.offset
_VALUE_SIZE = ctypes.sizeof(capi.Value)


class CoreCall:
    """A call that is under way as soon as it is made. It must be there for as long."""

    __slots__ = ("_form", "_values", "future")

    def __init__(self, context: int, function: int, flat: list[int], form: Signature, scratch: Scratch) -> None:
        """Take ``function``, the address of an extern."""
        count, results = len(form.params), len(form.results)
        self._form = form
        self._values = values = ctypes.create_string_buffer((count + results) * _VALUE_SIZE or 1)
        for index, (kind, bits) in enumerate(zip(form.params, flat, strict=True)):
            at = index * _VALUE_SIZE
            values[at] = bytes([_KINDS[kind]])
            _BITS[kind].pack_into(values, at + _VALUE_OF, bits)
        at = ctypes.addressof(values)
        capi.set_epoch_deadline(context, FIRST_POLL)
        self.future: int = capi.func_call_async(
            context, function + capi.EXTERN_OF, at, count, at + count * _VALUE_SIZE, results, scratch.trap_at,
            scratch.error_at,
        )  # fmt: skip

    def results(self) -> list[int]:
        """Return what it has returned, once it has."""
        first = len(self._form.params) * _VALUE_SIZE + _VALUE_OF
        return [
            _BITS[kind].unpack_from(self._values, first + index * _VALUE_SIZE)[0]
            for index, kind in enumerate(self._form.results)
        ]
