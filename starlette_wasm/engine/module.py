"""A compiled module: what it needs of the host, and its pre-instantiation."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

from . import capi
from .compile import InvalidModuleError, UnsupportedModuleError, compile_guest, one_line
from .configuration import OPENERS
from .engine import Engine
from .line_table import LineTable
from .native.library import ModuleState, native

HOST_CALLS = frozenset({"poll_oneoff", "edge_call", "edge_take"})
"""Imports that wait for the host; the others of the host table are wasmtime's, for files."""
_SLOW = frozenset({"fd_readdir", "fd_sync", "fd_datasync"})
"""Imports that may keep a thread for long: wasmtime reads a directory whole, at each call, and waits for disks."""


class Module:
    """Owns the compiled code, until close() or until nobody holds this; instances under way keep the code alive."""

    one_instance = True
    """Whether it is one core instance, as invoke.c and fast_path.c make them; a component is many."""

    def __init__(self, engine: Engine, ptr: int, facts: dict[str, Any]) -> None:
        self.engine = engine
        self._ptr: int | None = ptr
        self._facts = {**facts, "lines": None}
        self.lines = LineTable.from_facts(facts.get("lines"))
        """Where in the sources a trap was."""
        self.lines_left_out: str | None = facts.get("lines_left_out")
        self.label = "an unnamed module"
        """What to call it in the log."""
        self.live: set[int] = set()
        """The instances of instance.py that are not closed yet, in whatever thread."""
        self.state = ModuleState()
        """What invoke.c knows of it."""
        self.host: tuple[str, ...] = tuple(facts["host"])
        self.min_pages: int = facts["min_pages"]
        self.stack_pages: int = facts.get("stack_pages", 0)
        self.restorable: bool = facts["restorable"]
        """Whether an instance can be brought back to its first state: see restore.c."""
        self.room: int = facts["room"]
        """Pages by which its memory can grow, whatever a policy allows."""
        imports = frozenset(facts["imports"])
        self.reads_args = bool({"args_get", "args_sizes_get"} & imports)
        self.reads_environ = bool({"environ_get", "environ_sizes_get"} & imports)
        self.reads_random = "random_get" in imports
        self.reads_clock = bool({"clock_time_get", "poll_oneoff"} & imports)
        self.calls_host = bool(HOST_CALLS & imports)
        self.calls_are_noted = self.calls_host and native is not None
        """Whether host_calls.c takes down what a guest asks of the host, so that no Python runs on its stack."""
        self.uses_edge = "edge_call" in imports
        self.uses_files = bool(OPENERS & imports)
        self.slow_files = bool(_SLOW & imports)
        self.host_names = tuple((i, name.encode()) for i, name in enumerate(self.host))
        self.host_call_names = tuple((i, name) for i, name in self.host_names if name.decode() in HOST_CALLS)
        try:
            self.pre: int | None = capi.instantiate_pre(engine.ptr, ptr)
        except capi.EngineError as error:
            capi.module_delete(ptr)
            raise UnsupportedModuleError(str(error)) from None
        free = weakref.finalize(self, _free, engine, self.state, self.pre, ptr)
        free.atexit = False  # the process frees it with everything else
        self._free: Callable[[], object] = free
        engine.restore_checks.modules.add(self)

    @classmethod
    def compile(cls, engine: Engine, guest: bytes) -> Module:
        """Compile a guest's bytes in this process, without limits: for bytes that are trusted.

        Raises InvalidModuleError and UnsupportedModuleError.
        """
        return cls(engine, *compile_guest(engine.ptr, guest))

    @classmethod
    def load(cls, engine: Engine, code: capi.Code, facts: dict[str, Any]) -> Module:
        """Load what serialize() gave, which must be trusted: it is native code. Raises InvalidModuleError."""
        try:
            ptr = capi.deserialize_module(engine.ptr, code)
        except capi.EngineError as error:
            raise InvalidModuleError(one_line(str(error))) from None
        return cls(engine, ptr, facts)

    @property
    def facts(self) -> dict[str, Any]:
        """What load() needs beside the code, as JSON can hold it."""
        return {**self._facts, "lines": self.lines.facts() if len(self.lines) else None}

    @property
    def busy(self) -> bool:
        """Whether a guest is in it."""
        return bool(self.live or self.state.live)

    def serialize(self) -> bytes:
        assert self._ptr is not None, "the module is closed"
        return capi.serialize_module(self._ptr)

    def close(self) -> bool:
        """Free it, and take no more guests. False if one is in it: then it is freed when nobody holds this."""
        self._ptr = self.pre = None
        self.state.closed = True
        if self.busy:
            return False
        self._free()
        return True


def _free(engine: Engine, state: ModuleState, pre: int, ptr: int) -> None:
    if not engine.dead:  # in a forked child another thread may have held a lock of the engine, for ever
        if native is not None:
            native.forget_module(ctypes.addressof(engine.state), ctypes.addressof(state))
        capi.instance_pre_delete(pre)
        capi.module_delete(ptr)
