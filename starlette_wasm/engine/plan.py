"""What of an invocation does not depend on the request."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Hashable
from dataclasses import dataclass

from . import layout
from .bounds import TABLE_ELEMENTS, TABLES
from .loop_time import LoopTime
from .module import Module
from .native.library import Grant, HostFunction, PlanState

NO_STRINGS = layout.strings([])
NO_KEY = bytes(32)
SPARE_PAGES = 32
"""What ``spare_pages`` is for guests that grow."""
_PAGES_ON_LOOP = 256
"""Pages that a guest may have on the event loop: one memory.fill of more takes longer than a turn of it may."""


@dataclass(frozen=True, slots=True)
class Preopen:
    """A directory of the host that the guest finds under ``guest``."""

    host: str
    guest: str
    writable: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one invocation."""

    memory_pages: int = 256
    """Pages of 64 KiB, of the guest's memory."""
    time: float = 5.0
    """Seconds of wall clock."""
    stdout: int = 8 << 20
    """Bytes; more ends the guest."""
    stderr: int = 64 << 10
    """Bytes; more is counted and dropped."""
    fds: int = 64
    """Files and directories open at once, beside the granted ones."""
    file_bytes: int = 64 << 20
    """Bytes written to files, and how large one may get."""
    entries: int = 256
    """Files, directories and links created."""
    cpu_weight: int | None = None
    """Share of a CPU beside a busy event loop, which has 100; None for what the engine's niceness gives."""
    restore: bool = True
    """Whether instances may be restored, and used again."""
    spare_pages: int = 0
    """Pages that the memory of a guest has to grow into: one that has really grown cannot shrink, and is not restored.
    Before the guest has grown they read as zeros."""


class Plan:
    """What of an invocation does not depend on the request: the module, its bounds and grants, and most of the
    bytes that the io memory begins with.

    ``args`` is a block of layout.strings().
    """

    __slots__ = (
        *("args", "at", "bound", "dynamic", "environ_at", "granted", "hosts", "limits", "loop_time", "memory"),
        *("module", "pre", "preopens", "slow", "template", "tenant", "workers"),
    )

    def __init__(
        self,
        module: Module,
        limits: Limits,
        args: bytes = NO_STRINGS,
        preopens: tuple[Preopen, ...] = (),
        tenant: Hashable = None,
    ) -> None:
        self.module = module
        self.tenant = self if tenant is None else tenant
        """Whose share of the threads and prepared instances its guests use; without one, that of this plan alone."""
        self.pre = module.pre
        """Valid for as long as the module counts a live guest, also once it is closed."""
        self.limits = limits
        self.workers = module.engine.workers_for(limits.cpu_weight)
        """The threads for its guests."""
        self.preopens = preopens
        self.args = args
        self.environ_at = layout.DATA + len(args)
        # Both memories are under it; the guest's own bound is exact, in memory_grow of wasi.wat.
        self.bound = max(limits.memory_pages * layout.PAGE, 2 * layout.PAGE + limits.stdout + limits.stderr)
        self.dynamic = module.reads_clock or module.reads_random
        self.slow = bool(module.slow_files and preopens) or limits.memory_pages > _PAGES_ON_LOOP
        """Whether guests may wait for a disk, or for one instruction on much memory. Nothing of them is on the loop."""
        self.template = self.make_template(0, 0, NO_KEY)
        names = module.host_names if preopens else module.host_call_names
        self.hosts = (HostFunction * len(names))(*(HostFunction(name, slot) for slot, name in names))
        self.granted = (Grant * len(preopens))(
            *(Grant(os.fsencode(each.host), each.guest.encode(), each.writable) for each in preopens)
        )
        self.memory = PlanState(
            *(module.engine.ptr, module.pre, module.engine.linker(files=bool(preopens)) if names else None),
            *(ctypes.addressof(self.hosts), ctypes.addressof(self.granted), len(names), len(preopens)),
            *(self.bound, TABLE_ELEMENTS, TABLES, hash(self.tenant)),
            *(self.environ_at, limits.stdout, limits.stderr, module.min_pages),
            restores=self._restores,
            spare=self._spare,
        )
        """What invoke.c knows of it; its ``cpu_score`` is that of loop_time.py."""
        self.at = ctypes.addressof(self.memory)
        self.loop_time = LoopTime(self.memory)

    @property
    def _restores(self) -> bool:
        """Whether prepared.c may bring its instances back. Not if they have directories: open files are wasmtime's."""
        module = self.module
        wanted = module.one_instance and self.limits.restore and not self.preopens
        return wanted and module.restorable and module.engine.pooled

    @property
    def _spare(self) -> int:
        """Pages that a memory has beyond what its guest sees. None if functions of the host may look at it, too."""
        if not self._restores or self.hosts:
            return 0
        limits, module = self.limits, self.module
        return max(min(limits.spare_pages, module.room, limits.memory_pages - module.min_pages), 0)

    def make_template(self, realtime: int, monotonic: int, key: bytes) -> bytes:
        """Make all from the flags to the arguments."""
        fixed = layout.HEADER_TAIL.pack(
            *(0, 0, 0, 0, 0, 0, 0, 0, self.module.min_pages),
            *(self.limits.memory_pages, 1 if self.preopens else 0, self.limits.fds),
            *(layout.DATA, self.environ_at),
            *(self.module.engine.config.clock_resolution_ns, monotonic, realtime, monotonic),
            *(self.limits.file_bytes, self.limits.file_bytes, self.limits.entries),
            key,
        )
        return b"".join((fixed, layout.HEADER_PADDING, self.args))
