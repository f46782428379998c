"""A compiled module: what it needs of the host, and its pre-instantiation."""

from __future__ import annotations

import json
from typing import Any

from . import capi, link
from .binary import COMPONENT_PREAMBLE, PREAMBLE, UnsupportedError
from .engine import Engine

HOST_CALLS = frozenset({"poll_oneoff", "edge_call", "edge_take"})
"""Imports that wait for the host; the others of the host table are wasmtime's, for files."""
_SLOW = frozenset({"fd_readdir", "fd_sync", "fd_datasync"})
"""Imports that may keep a thread for long: wasmtime reads a directory whole, at each call, and waits for disks."""
# What the engine says of features that are off; of damaged bytes it says other things.
_LACKING = ("support", "enabled", "disabled", "proposal", "references required")


class InvalidModuleError(Exception):
    """The bytes are no WebAssembly module, or a damaged one."""


class UnsupportedModuleError(Exception):
    """A valid module that uses what the engine lacks, or that is no WASI command."""


class Module:
    """Owns the compiled code. close() frees it once no instance is left; instances under way keep it alive."""

    def __init__(self, engine: Engine, ptr: int, facts: dict[str, Any]) -> None:
        self.engine = engine
        self._ptr: int | None = ptr
        self.facts = facts
        self.live: set[int] = set()
        """The instances that are not closed yet, in whatever thread."""
        self.host: tuple[str, ...] = tuple(facts["host"])
        self.min_pages: int = facts["min_pages"]
        imports = frozenset(facts["imports"])
        self.reads_args = "args_get" in imports
        self.reads_environ = "environ_get" in imports
        self.reads_random = "random_get" in imports
        self.reads_clock = bool({"clock_time_get", "poll_oneoff"} & imports)
        self.calls_host = bool(HOST_CALLS & imports)
        self.uses_edge = "edge_call" in imports
        self.uses_files = "path_open" in imports or "fd_prestat_get" in imports
        self.slow_files = bool(_SLOW & imports)
        self.host_names = tuple((i, name.encode()) for i, name in enumerate(self.host))
        self.host_call_names = tuple((i, name) for i, name in self.host_names if name.decode() in HOST_CALLS)
        try:
            self.pre: int | None = capi.instantiate_pre(engine.ptr, ptr)
        except capi.EngineError as error:
            capi.module_delete(ptr)
            raise UnsupportedModuleError(str(error)) from None

    @classmethod
    def compile(cls, engine: Engine, guest: bytes) -> Module:
        """Validate, link and compile a guest's bytes.

        Raises InvalidModuleError and UnsupportedModuleError.
        """
        if guest.startswith(COMPONENT_PREAMBLE):
            raise UnsupportedModuleError("it is a component; build it as a core module (a WASI preview 1 command)")
        if not guest.startswith(PREAMBLE):
            raise InvalidModuleError("it does not begin like a WebAssembly module")
        try:
            capi.check(capi.module_validate(engine.ptr, guest, len(guest)))
        except capi.EngineError as error:
            text = str(error)
            unsupported = any(word in text for word in _LACKING)
            raise (UnsupportedModuleError if unsupported else InvalidModuleError)(_one_line(text)) from None
        try:
            linked = link.link(guest, capi.assemble)
            ptr = capi.compile_module(engine.ptr, linked.wasm)
        except (UnsupportedError, capi.EngineError) as error:
            raise UnsupportedModuleError(_one_line(str(error))) from None
        facts = {"host": linked.host, "imports": linked.imports, "min_pages": linked.min_pages}
        return cls(engine, ptr, json.loads(json.dumps(facts)))

    @classmethod
    def load(cls, engine: Engine, code: bytes, facts: dict[str, Any]) -> Module:
        """From what serialize() gave, which must be trusted: it is native code. Raises InvalidModuleError."""
        try:
            ptr = capi.deserialize_module(engine.ptr, code)
        except capi.EngineError as error:
            raise InvalidModuleError(_one_line(str(error))) from None
        return cls(engine, ptr, facts)

    def serialize(self) -> bytes:
        assert self._ptr is not None, "the module is closed"
        return capi.serialize_module(self._ptr)

    def close(self) -> None:
        if self._ptr is not None:
            ptr, self._ptr = self._ptr, None
            capi.instance_pre_delete(self.pre)
            self.pre = None
            capi.module_delete(ptr)


def _one_line(text: str) -> str:
    return " ".join(text.split())
