"""invoke.c, prepared.c, fast_path.c and component.c, if they were compiled when the package was installed.

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
    c_int32,
    c_int64,
    c_long,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
    py_object,
)
from pathlib import Path
from typing import Any

from .. import capi
from ..library import address
from ..scratch import ScratchMemory
from .component_state import STRUCTURES as OF_COMPONENTS

logger = logging.getLogger("starlette_wasm.engine")

NOT_GRANTED, INSTANTIATE_FAILED, PAUSED, EXITED, COMPLETED = -3, -1, 0, 1, 2
SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in (
        *("native.h", "text.h", "json.h", "python_abi.h", "component.h", "wasi_http.h", "answer.h"),
        *("invoke.c", "prepared.c", "text.c", "base64.c", "request.c", "edge.c", "environ.c", "answer.c", "http1.c"),
        *("fast_path.c", "component.c", "streams.c", "restore.c", "host_calls.c"),
        *("wasi_http.c", "http_objects.c", "http_results.c", "http_fields.c", "http_bodies.c", "http_answer.c"),
        *("component_path.c", "http_asgi.c", "otlp.c"),
    )
)
LIBRARY = Path(__file__).with_name("_native.so")
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
    "wasmtime_error_delete",
    "wasm_trap_delete",
    "wasmtime_caller_context",
    "wasmtime_context_get_data",
    "wasmtime_global_set",
    "wasmtime_context_set_data",
    "wasmtime_linker_get",
    "wasmtime_table_set",
    "wasi_config_new",
    "wasi_config_delete",
    "wasi_config_preopen_dir",
    "wasmtime_context_set_wasi",
)
_INPUT = (c_char_p, c_uint32) + (c_char_p, c_size_t) * 2  # flags to arguments, environment, stdin


class ModuleState(Structure):
    """``struct module`` of native.h."""

    _fields_ = (
        ("live", c_uint32),
        ("closed", c_uint32),
        ("first", c_void_p),
        ("first_size", c_uint64),
        ("filled", c_uint64 * 16),
        ("is_image", c_uint32),
        ("unchecked", c_uint32),
        ("faulty", c_uint32),
        ("fault_in_io", c_uint32),
        ("fault_at", c_uint64),
    )


class InstanceState(Structure):
    """``struct instance`` of native.h."""

    _fields_ = (
        ("store", c_void_p),
        ("context", c_void_p),
        ("instance", c_uint64 * 2),
        ("io", capi.Extern),
        ("main", capi.Extern),
        ("memory", capi.Extern),
        ("uses", c_uint32),
    )


class PagemapState(Structure):
    """``struct pagemap`` of native.h."""

    _fields_ = (("descriptor", c_int32), ("scans", c_uint32))


PREPARED = 16


class EngineState(Structure):
    """``struct engine`` of native.h."""

    _fields_ = (
        ("scratch", c_void_p),
        ("most_recent", c_void_p),
        ("prepared", c_void_p * PREPARED),
        ("pending", InstanceState),
        ("pending_of", c_void_p),
        ("compared", InstanceState),
        ("compared_of", c_void_p),
        ("compared_to", c_uint64),
        ("live", c_uint32),
        ("most", c_uint32),
        ("slots", c_uint32),
        ("starts_until_check", c_uint32),
        ("dead", c_uint32),
        ("asked", c_uint32),
        ("clock_hand", c_uint32),
        ("cleanup_scheduled", c_uint32),
        ("asked_at_schedule", c_uint32),
        ("asked_at_cleanup", c_uint32),
        ("busy", c_uint32),
        ("late", c_uint32),
        ("restored", c_uint32),
        ("unrestored", c_void_p),
        ("pagemap", PagemapState),
        ("check_every", c_uint32),
        ("checks", c_uint32),
        ("faults", c_uint32),
        ("unreported", c_uint32),
        ("report", c_void_p),
    )


class HostFunction(Structure):
    """``struct host_function`` of native.h."""

    _fields_ = (("name", c_char_p), ("slot", c_uint32))


class Grant(Structure):
    """``struct grant`` of native.h."""

    _fields_ = (("host", c_char_p), ("guest", c_char_p), ("writable", c_uint32))


class PlanState(Structure):
    """``struct plan`` of native.h."""

    _fields_ = (
        ("engine", c_void_p),
        ("pre", c_void_p),
        ("linker", c_void_p),
        ("hosts", c_void_p),
        ("grants", c_void_p),
        ("host_count", c_uint32),
        ("grant_count", c_uint32),
        ("bound", c_int64),
        ("table_elements", c_int64),
        ("tables", c_int64),
        ("tenant", c_uint64),
        ("environ_at", c_uint32),
        ("out_cap", c_uint32),
        ("err_cap", c_uint32),
        ("pages", c_uint32),
        ("cpu_score", c_uint32),
        ("calm", c_uint32),
        ("restores", c_uint32),
        ("spare", c_uint32),
        ("decayed_ns", c_uint64),
    )


class FastPathState(Structure):
    """``struct fast_path`` of native.h."""

    _fields_ = (
        ("plan", c_void_p),
        ("host", c_void_p),
        ("module", c_void_p),
        ("template", c_char_p),
        ("suffix", c_char_p),
        ("offsets", c_char_p),
        ("environ", c_char_p),
        ("route", c_char_p),
        ("template_len", c_uint32),
        ("suffix_len", c_uint32),
        ("variables", c_uint32),
        ("environ_len", c_uint32),
        ("route_len", c_uint32),
        ("protocol", c_uint32),
        ("segments", c_uint32),
        ("own_names", c_uint32),
        ("resolution", c_uint64),
        ("reads_environ", c_uint32),
        ("reads_args", c_uint32),
        ("reads_clock", c_uint32),
        ("reads_random", c_uint32),
        ("asked", c_uint32),
        ("used", c_uint32),
        ("slot", c_uint32),
        ("ready", InstanceState),
    )


class NativeLibrary:
    """The functions of invoke.c, prepared.c, fast_path.c and component.c.

    Raises OSError if they were not compiled, ValueError where they were from other sources.
    """

    def __init__(self, library: Path = LIBRARY) -> None:
        self._library = loaded = ctypes.CDLL(str(library))
        made_of = c_char_p(ctypes.addressof(ctypes.c_char.in_dll(loaded, "swasm_source"))).value
        if made_of != digest().encode() or _layout_of(loaded) != _expected_layout():
            raise ValueError(f"{library} was compiled from other sources")
        loaded.swasm_bind((c_void_p * len(_FUNCTIONS))(*map(address, _FUNCTIONS)))
        self.run: Callable[..., int] = self._function("swasm_run", c_int, c_void_p, c_void_p, *_INPUT)
        self.begin: Callable[..., int] = self._function("swasm_begin", c_int, c_void_p, c_void_p, *_INPUT)
        self.go: Callable[..., int] = self._function("swasm_go", c_int, c_void_p, c_void_p)
        self._held = held = ctypes.PyDLL(str(library))
        for name in (
            *("follows", "http1", "dispatch", "answer", "call", "run", "encode", "decode", "clean_up"),
            *("dispatch_component", "answer_component", "otlp_span"),
        ):
            getattr(held, f"swasm_{name}_function").restype = py_object
        self.follows: Callable[[Any, int, int], bool | None] = held.swasm_follows_function()
        """Whether a body follows: as serving.body_follows(); None if that does not know at once, or raises."""
        self.http1: Callable[[bytes, Any, Any, bytes], bytes | None] = held.swasm_http1_function()
        """An answer as HTTP/1.1 has it, from a status line, headers of the server, headers and body: see http1.c."""
        self.otlp_span: Callable[[bytes, Any, bytes], bytes | None] = held.swasm_otlp_span_function()
        """A span of a request of OTLP, from what is before its attributes, these, and what is behind: see otlp.c."""
        self.forget_fast_path: Callable[..., None] = self._held_function("swasm_forget_fast_path", c_void_p)
        self.forget_module: Callable[..., None] = self._held_function("swasm_forget_module", c_void_p, c_void_p)
        self.forget_all: Callable[..., None] = self._held_function("swasm_forget_all", c_void_p)
        self.ask: int = ctypes.cast(loaded.swasm_ask, c_void_p).value or 0
        """The address of the function that notes what a guest asks: see host_calls.c."""
        self.take: int = ctypes.cast(loaded.swasm_take, c_void_p).value or 0
        """That of ``edge.take``."""
        self.component_step: int = ctypes.cast(loaded.swasm_component_step, c_void_p).value or 0
        """The address of what a guest of a component calls of the host."""
        self.component_poll: Callable[..., int] = self._function("swasm_component_poll", c_int, c_void_p, c_void_p)
        self.component_retry: Callable[..., bool] = self._function("swasm_component_retry", c_bool, c_void_p)
        self.edge_begin: Callable[..., None] = self._function(
            "swasm_edge_begin", None, c_void_p, c_void_p, c_char_p, c_size_t
        )
        self.edge_poll: Callable[..., int] = self._function("swasm_edge_poll", c_int, c_void_p)
        self.edge_return: Callable[..., bool] = self._function("swasm_edge_return", c_bool, c_void_p)
        self.http_open: Callable[..., bool] = ctypes.PYFUNCTYPE(
            c_bool, c_void_p, *(c_char_p, c_size_t) * 4, c_bool, c_uint32, c_uint32, c_uint32
        )(("swasm_http_open", held))
        self.http_answer: Callable[[int], bytes | None] = ctypes.PYFUNCTYPE(py_object, c_void_p)(
            ("swasm_http_answer", held)
        )
        self.http_begin: Callable[..., None] = self._function(
            "swasm_http_begin", None, c_void_p, c_void_p, c_uint32, c_uint32
        )
        self.http_poll: Callable[..., int] = self._function("swasm_http_poll", c_int, c_void_p)
        self.restore: Callable[..., bool] = self._function("swasm_restore", c_bool, c_void_p, c_void_p, c_bool)
        self.kept_claim: Callable[[int], bool] = ctypes.PYFUNCTYPE(c_bool, c_void_p)(("swasm_kept_claim", held))
        """Whether nobody uses an instance between two requests; then the caller does."""
        self.kept_discard: Callable[..., None] = self._held_function("swasm_kept_discard", c_void_p)
        self.ticker_new = self._function("swasm_ticker_new", c_void_p, c_void_p, c_long)
        self.ticker_set = self._function("swasm_ticker_set", None, c_void_p, c_bool)

    def bound(self, name: str, fast_path: int) -> Callable[..., Any]:
        """Return a function of fast_path.c for one FastPath, such as ``dispatch``; ``name`` is as C has it."""
        function: Callable[..., Any] = getattr(self._held, f"swasm_{name}_function")(py_object(fast_path))
        return function

    def cleaner(self, engine: int) -> Callable[[], None]:
        """Return what is left to do when an answer is out: see prepared.c."""
        clean_up: Callable[[], None] = self._held.swasm_clean_up_function(py_object(engine))
        return clean_up

    def _held_function(self, name: str, *arguments: Any) -> Callable[..., Any]:
        """Find a function that is called with the GIL held."""
        return ctypes.PYFUNCTYPE(None, *arguments)((name, self._held))

    def _function(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        return CFUNCTYPE(result, *arguments)((name, self._library))


def _layout_of(loaded: ctypes.CDLL) -> list[int]:
    """Read the sizes and offsets that the compiler chose for the structures, and how many functions it binds."""
    count = c_size_t.in_dll(loaded, "swasm_layout_len").value
    functions = c_size_t.in_dll(loaded, "swasm_functions_len").value
    return [*(c_size_t * count).in_dll(loaded, "swasm_layout"), functions]


_STRUCTURES = (ScratchMemory, ModuleState, EngineState, PlanState, InstanceState, FastPathState)


def _expected_layout() -> list[int]:
    layout: list[int] = []
    for kind in (
        ScratchMemory,
        HostFunction,
        Grant,
        ModuleState,
        EngineState,
        PagemapState,
        PlanState,
        InstanceState,
        FastPathState,
        *OF_COMPONENTS,
    ):
        layout.append(ctypes.sizeof(kind))
        layout.extend(getattr(kind, name).offset for name, *_ in kind._fields_)
    return [*layout, len(_FUNCTIONS)]


def digest() -> str:
    """Return the SHA-256 of the sources, in the order in which scripts/build_native.py takes them."""
    return hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()


_why_missing: list[str] = []


def load() -> NativeLibrary | None:
    """Load the functions, or return None; warn_if_missing() then logs why."""
    try:
        return NativeLibrary()
    except (OSError, ValueError, AttributeError) as error:
        _why_missing.append(str(error))
        return None


native = load()


def warn_if_missing() -> None:
    """Say once in a process that the library is not there: everything works without it, and takes longer."""
    if native is None and _why_missing:
        logger.warning(
            "the C library of this package is missing, and requests take much longer: %s; install a "
            "wheel for this platform, or the package where there is a C compiler (apt-get install gcc libc6-dev)",
            _why_missing.pop(),
        )
