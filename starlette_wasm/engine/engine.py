"""One wasmtime engine for a process: configuration, pool of instances, epoch ticker, threads, host functions."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import io
import logging
import mmap
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import capi, hostcall, library
from .bounds import TABLE_ELEMENTS, TABLES
from .configuration import WASI, code_settings, fingerprint
from .native.library import PREPARED, EngineState, FastPathState, PagemapState, native
from .pages import pages_of
from .processor import NATIVE, Processor
from .reclaim import Reclaimer
from .restore_checks import RestoreChecks
from .scratch import Scratch
from .ticker import Ticker
from .workers import Workers, niceness

if TYPE_CHECKING:
    from .invocation import Invocation

logger = logging.getLogger("starlette_wasm.engine")

_WASI = WASI.encode()
_SLOT = (4 << 30) + (64 << 20)  # what the pool reserves of address space for a memory, guard pages included
_STACK = 2 << 20
KEPT, KEPT_MEMORIES = 16, 8
"""Instances of components that are kept between requests, and how many memories, and tables, each may have."""
_CORE_INSTANCES = 50
"""Core instances that a component may have when all have as many."""


@dataclass(frozen=True)
class EngineConfig:
    """What distinguishes one engine from another. Engines are shared by all runtimes with the same."""

    max_instances: int = 1000
    """Guests alive at once; the pool is sized for them."""
    workers: int = 2
    """Threads for guests that run longer than a millisecond."""
    nice: int = 10
    """Niceness of those threads, 0 to 19 (Linux)."""
    clock_resolution_ns: int = 1_000_000
    """The step in ns to which the guests' clocks are coarsened."""
    keep_resident: int = 512 << 10
    """Bytes at the start of a memory that are cleared by writing rather than by unmapping, between guests.

    A page that was unmapped costs a fault when it is next touched, ten times what clearing it costs. Only what a guest
    has is cleared, so that small guests pay for nothing."""
    winch: bool = False
    """Whether wasmtime's baseline compiler makes the code: soon, and slower code."""
    processor: Processor = NATIVE
    """What guests are compiled for."""
    check_restored_every: int = 10_000
    """After how many restored instances of a function one is compared with its first state; 0 for never."""

    @property
    def prepared(self) -> int:
        """Instances that may be prepared at once, each of another function: see prepared.c."""
        return min(PREPARED, self.max_instances)

    @property
    def slots(self) -> int:
        """Instances that may be there at once: guests, those prepared, the one that is yet to be restored, and the one
        that is compared."""
        return self.max_instances + self.prepared + 2


class OutOfInstances(Exception):
    """As many guests are alive as the engine was made for."""


class Engine:
    """A wasmtime engine. Get it with Engine.shared(). It is never freed: its ticker may fire at any time."""

    _shared: dict[EngineConfig, Engine] = {}  # noqa: RUF012
    _lock = threading.Lock()
    _inherited: list[Engine] = []  # noqa: RUF012

    @classmethod
    def shared(cls, config: EngineConfig) -> Engine:
        with cls._lock:
            engine = cls._shared.get(config)
            if engine is None:
                engine = cls._shared[config] = cls(config)
            return engine

    def __init__(self, config: EngineConfig) -> None:
        _faulthandler_first()
        if library.too_old():
            logger.warning(
                "wasmtime %s is installed, and the lowest safe version is %s: pip install -U 'wasmtime<%d'",
                library.VERSION,
                ".".join(map(str, library.LOWEST_SAFE)),
                library.MAJOR + 1,
            )
        self.config = config
        self.pooled = _can_reserve(config.slots)
        self.dead = False
        self.ptr = capi.new_engine(*_configuration(config, self.pooled))
        self.state = EngineState(
            most=config.max_instances,
            slots=config.prepared,
            pagemap=_pagemap(),
            check_every=config.check_restored_every,
        )
        """What invoke.c knows of it; its ``live`` are the guests under way."""
        self.restore_checks = RestoreChecks(self.state)
        self.ticker = Ticker(self.ptr, self.state)
        self.workers = Workers(config.workers, config.nice)
        """The threads for guests whose policy gives no weight."""
        self._weighted: dict[int, Workers] = {config.nice: self.workers}
        self.reclaimer = Reclaimer(self, self.workers)
        self.live: dict[int, Invocation] = {}
        """Invocations whose guest calls host functions, by the number that their store carries."""
        self.scratches: list[Scratch] = []
        self._host: dict[bool, _HostFunctions] = {}
        """By whether wasmtime's file functions are among them, which take a megabyte."""
        self._lent = self.scratch()
        self.state.scratch = self._lent.at
        if not self.pooled:
            logger.warning(
                "cannot reserve address space for %d guests (about %d GiB): instances are allocated on demand, "
                "which is slower; lower max_instances or raise the limit (ulimit -v)",
                config.max_instances,
                config.slots * 2 * _SLOT >> 30,
            )

    @property
    def fingerprint(self) -> str:
        """What compiled code depends on: versions, code generation settings and the processor."""
        return fingerprint(self.pooled, self.config.winch, self.config.processor)

    def scratch(self) -> Scratch:
        """Take one that is free: to be put back into ``scratches``."""
        try:
            return self.scratches.pop()
        except IndexError:
            return Scratch()

    def workers_for(self, weight: int | None) -> Workers:
        """Return the threads for guests with that ``cpuWeight``: as many for each niceness, made when needed."""
        if weight is None:
            return self.workers
        nice = niceness(weight)
        return self._weighted.setdefault(nice, Workers(self.config.workers, nice))

    @property
    def pools(self) -> tuple[Workers, ...]:
        """The threads of all weights."""
        return tuple(self._weighted.values())

    @property
    def prepared(self) -> int:
        """Instances that are there for the next request."""
        found = (FastPathState.from_address(at) for at in self.state.prepared if at)
        return sum(bool(each.ready.store) for each in found)

    def detach(self) -> Scratch:
        """Take the scratch that fast_path.c has used, for a guest that goes on; it gets another."""
        lent, self._lent = self._lent, self.scratch()
        self.state.scratch = self._lent.at
        return lent

    async def rest(self, grace: float) -> None:
        """Stop what guests need, unless some are under way. Waits until ``grace``, on time.monotonic(), at most.

        What ended guests have left is freed first.
        """
        while self.reclaimer.waiting and not self.dead and time.monotonic() < grace:
            await asyncio.sleep(0.001)
        if not self.state.live and not self.dead:
            if native is not None:
                native.forget_all(ctypes.addressof(self.state))
            self.ticker.rest()
            for workers in self.pools:
                await workers.rest(grace)

    def host_function(self, context: int, name: bytes, extern_at: int) -> None:
        """Put the host function of that name into ``extern_at``."""
        linker = self.linker(files=True)
        found = capi.linker_get(linker, context, _WASI, len(_WASI), name, len(name), extern_at)
        assert found, name

    def linker(self, *, files: bool) -> int:
        """Return the linker that has the host's functions; those for files too, if they are wanted."""
        if files not in self._host:
            with self._lock:
                self._host.setdefault(files, _HostFunctions(self.ptr, self.live, files=files))
        return self._host[files].ptr


class _HostFunctions:
    """The host's functions, made when a guest first needs one."""

    def __init__(self, engine: int, live: dict[int, Invocation], *, files: bool) -> None:
        self.ptr: int = capi.linker_new(engine)
        if files:
            capi.check(capi.linker_define_wasi(self.ptr))
            capi.linker_allow_shadowing(self.ptr, True)
        self._callbacks = hostcall.define(self.ptr, live)


def _configuration(config: EngineConfig, pooled: bool) -> tuple[dict[str, int | bool], dict[str, int] | None]:
    settings = code_settings(pooled, config.winch) | {"async_stack_size": _STACK}
    if not pooled:
        return settings, None
    n = config.slots
    return settings, {
        "total_core_instances": _CORE_INSTANCES * n,  # only counted: memories and tables take the room
        "total_memories": 2 * n + KEPT * KEPT_MEMORIES,
        "total_tables": min(TABLES, 4) * n + KEPT * KEPT_MEMORIES,
        "total_stacks": n,
        "max_memories_per_module": 2,
        "max_tables_per_module": TABLES,
        "max_memory_size": 4 << 30,
        "table_elements": TABLE_ELEMENTS,
        "linear_memory_keep_resident": config.keep_resident,
        "table_keep_resident": 16 << 10,
        "max_unused_warm_slots": 100,
    }


def _pagemap() -> PagemapState:
    """Return what restore.c looks at this process's page tables by."""
    pages = pages_of(os.getpid())
    return PagemapState(-1, 0) if pages is None else PagemapState(pages.descriptor, pages.scan)


def _faulthandler_first() -> None:
    """Let faulthandler install its signal handlers before wasmtime does.

    Enabled later, by the app or a debugger, it would take a guest's out-of-bounds access for a crash of the
    process, and end it. Once enabled it stays in its place. If something handles signals already, such as an engine
    that the app has made with wasmtime itself, it is too late for that: on top, it would end the process.
    """
    if not faulthandler.is_enabled() and not _is_handled(signal.SIGILL):
        with contextlib.suppress(RuntimeError, ValueError, io.UnsupportedOperation):  # stderr is not a file
            faulthandler.enable()


def _is_handled(number: int) -> bool:
    """Return whether there is a handler for that signal, whoever has installed it."""
    found = ctypes.create_string_buffer(256)  # more than any struct sigaction takes; the handler comes first in it
    return ctypes.CDLL(None).sigaction(number, None, found) == 0 and any(found.raw[: ctypes.sizeof(ctypes.c_void_p)])


def _can_reserve(instances: int) -> bool:
    """Try the pool's reservation: wasmtime aborts the process if it fails."""
    size = instances * (2 * _SLOT + 2 * _STACK + TABLE_ELEMENTS * 8 * 4) + KEPT * KEPT_MEMORIES * _SLOT
    try:
        mmap.mmap(
            -1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0), prot=0
        ).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _after_fork() -> None:
    # No thread is there in the child: whoever needs an engine makes a new one.
    for engine in Engine._shared.values():
        engine.dead = True
        engine.state.dead = True
    Engine._inherited += Engine._shared.values()
    Engine._shared = {}
    Engine._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
