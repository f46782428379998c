"""hot.c and quick.c, where they were compiled when the package was installed.

Without it the same steps are taken from Python.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
from collections.abc import Callable
from ctypes import (
    CFUNCTYPE,
    Structure,
    c_bool,
    c_char_p,
    c_int,
    c_int64,
    c_long,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Any

from . import capi
from .library import address

logger = logging.getLogger("starlette_wasm.engine")

NOT_MADE, PAUSED, ENDED, ENDED_WELL = -1, 0, 1, 2
SOURCES = tuple(Path(__file__).with_name(name) for name in ("hot.h", "hot.c", "quick.c"))
LIBRARY = Path(__file__).with_name("_hot.so")
_FUNCTIONS = (
    "wasmtime_store_new",
    "wasmtime_store_context",
    "wasmtime_store_delete",
    "wasmtime_store_limiter",
    "wasmtime_context_set_epoch_deadline",
    "wasmtime_context_epoch_deadline_async_yield_and_update",
    "wasmtime_instance_pre_instantiate",
    "wasmtime_instance_export_nth",
    "wasmtime_memory_grow",
    "wasmtime_memory_data",
    "wasmtime_memory_data_size",
    "wasmtime_func_call_async",
    "wasmtime_call_future_poll",
    "wasmtime_call_future_delete",
    "wasmtime_engine_increment_epoch",
)
_INPUT = (c_char_p, c_uint32) + (c_char_p, c_size_t) * 2  # flags to arguments, environment, stdin


class PlanMemory(Structure):
    """``struct plan`` of hot.c."""

    _fields_ = (
        ("engine", c_void_p),
        ("pre", c_void_p),
        ("bound", c_int64),
        ("table_elements", c_int64),
        ("tables", c_int64),
        ("environ_at", c_uint32),
        ("out_cap", c_uint32),
        ("err_cap", c_uint32),
    )


class QuickMemory(Structure):
    """``struct quick`` of hot.h."""

    _fields_ = (
        ("plan", c_void_p),
        ("tail", c_char_p),
        ("about", c_char_p),
        ("offsets", c_char_p),
        ("environ", c_char_p),
        ("tail_len", c_uint32),
        ("about_len", c_uint32),
        ("variables", c_uint32),
        ("environ_len", c_uint32),
        ("resolution", c_uint64),
        ("reads_environ", c_uint32),
        ("reads_clock", c_uint32),
        ("reads_random", c_uint32),
    )


class Hot:
    """The functions of hot.c and quick.c.

    Raises OSError where they were not compiled, ValueError where they were from other sources.
    """

    def __init__(self, library: Path = LIBRARY) -> None:
        self._library = loaded = ctypes.CDLL(str(library))
        made_of = c_char_p(ctypes.addressof(ctypes.c_char.in_dll(loaded, "source"))).value
        sizes = list((c_size_t * 4).in_dll(loaded, "sizes"))
        ours = [ctypes.sizeof(each) for each in (capi.ScratchMemory, PlanMemory, QuickMemory)]
        if made_of != digest().encode() or sizes != [*ours, ctypes.sizeof(c_void_p) * len(_FUNCTIONS)]:
            raise ValueError(f"{library} was compiled from other sources")
        loaded.bind((c_void_p * len(_FUNCTIONS))(*map(address, _FUNCTIONS)))
        self.run: Callable[..., int] = self._function("run", c_int, c_void_p, c_void_p, *_INPUT)
        self.begin: Callable[..., int] = self._function("begin", c_int, c_void_p, c_void_p, c_size_t, *_INPUT)
        self.go: Callable[..., int] = self._function("go", c_int, c_void_p)
        functions = ctypes.PyDLL(str(library)).quick_functions
        functions.restype = ctypes.py_object
        self.ask: Callable[..., Any]
        """A request from ASGI's scope to the answer for ASGI: see quick.py."""
        self.head: Callable[[Any, int], int | None]
        """Of headers, with a limit to content-length: as serving._measure(); None for what is odd."""
        self.ask, self.head = functions()
        self.ticker_new = self._function("ticker_new", c_void_p, c_void_p, c_long)
        self.ticker_set = self._function("ticker_set", None, c_void_p, c_bool)

    def _function(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        return CFUNCTYPE(result, *arguments)((name, self._library))


def digest() -> str:
    """Of the sources, in the order in which scripts/build_hot.py takes them."""
    return hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()


def load() -> Hot | None:
    """The functions, or None, with the reason in the log."""
    try:
        return Hot()
    except (OSError, ValueError, AttributeError) as error:
        logger.info(
            "a request takes twice as long: %s; install the package where there is a C compiler",
            error,
        )
        return None


hot = load()
