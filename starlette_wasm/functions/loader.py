"""From a source on disk to a module that can be run: read, look into the AOT cache, else compile."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..components.kinds import check_served, component_digest, load_module
from ..engine.binary import COMPONENT_PREAMBLE, PREAMBLE
from ..engine.compile import InvalidModuleError, UnsupportedModuleError
from ..engine.engine import Engine
from ..engine.module import Module
from ..engine.processor import NATIVE
from ..exceptions import CompileError, ModuleLoadError
from .aot import MOST_BYTES, AotCache, CacheError
from .catalog import Catalog, FunctionSource
from .compile_backoff import CompileBackoff
from .compile_limits import CompileLimits, CompilerError
from .compile_shares import CompileQueue, CpuBudget
from .load_cancellation import LoadCancellation

if TYPE_CHECKING:
    from .compiler import Compiler

logger = logging.getLogger("starlette_wasm")


@dataclass(frozen=True, slots=True)
class LoadedFunction:
    """A version of a function, compiled."""

    source: FunctionSource
    module: Module
    digest: str
    """SHA-256 of the file, hexadecimal."""
    size: int
    """Size of the file, in bytes."""
    cached: bool
    """Whether the code came from the AOT cache."""
    compiled: tuple[int, int] | None = None
    """From when to when it was compiled, in ns since the epoch; None if it came from the cache."""


def open_cache(directory: Path | None, most_bytes: int = MOST_BYTES, *, volume: bool = False) -> AotCache | None:
    """Open the cache, or return None with a warning if it cannot be used: modules are then compiled at each start."""
    if directory is None:
        return None
    try:
        return AotCache(directory, most_bytes, volume=volume)
    except CacheError as error:
        logger.warning("AOT cache not used: %s; modules are compiled at each start", error)
        return None


def load(
    engine: Engine,
    source: FunctionSource,
    cache: AotCache | None,
    limits: CompileLimits | None = None,
    backoff: CompileBackoff | None = None,
    known: Mapping[str, LoadedFunction] | None = None,
    compilers: list[Compiler] | None = None,
) -> LoadedFunction:
    """Load one function; it is compiled in a process of its own, unless ``known`` has it, which are by their digest.

    ``compilers`` are those that the caller keeps for the next load, and closes; one is added if there is none.

    Raises ModuleLoadError and CompileError.
    """
    with _Loader(engine, cache, limits, backoff, known) as loader:
        if compilers is None:
            return loader.load(source)
        loader.idle, mine = compilers, loader.idle
        try:
            return loader.load(source)
        finally:
            loader.idle = mine


def load_all(
    engine: Engine,
    sources: Iterable[FunctionSource],
    cache: AotCache | None,
    threads: int | None = None,
    limits: CompileLimits | None = None,
    backoff: CompileBackoff | None = None,
    known: Mapping[str, LoadedFunction] | None = None,
    stop: LoadCancellation | None = None,
) -> dict[tuple[str, str], LoadedFunction]:
    """Load all of them side by side, with progress in the log; the first error is raised when all have ended.

    Functions share the threads, each of which has one compile process, and each has a budget of CPU time.
    ``backoff`` remembers across calls which modules could not be compiled: they are not tried again at once. The
    modules of ``known``, which are functions of the same engine by their digest, are not compiled again. ``stop`` ends
    it early, with LoadCancelled. What is wrong in a catalog that leaves out what is bad, is left out there.
    """
    known = known or {}
    catalog = sources if isinstance(sources, Catalog) and sources.leave_out else None
    sources = tuple(sources)
    loaded: dict[tuple[str, str], LoadedFunction] = {}
    errors: list[tuple[FunctionSource, ModuleLoadError]] = []
    count = itertools.count(1)
    begin = time.perf_counter()

    def one(source: FunctionSource) -> None:
        try:
            function = loaded[source.name, source.version] = loader.load(source)
        except ModuleLoadError as error:
            errors.append((source, error))
            return
        if function.digest in known:
            return
        origin = "from the AOT cache" if function.cached else "compiled"
        logger.info("loaded %s (%d of %d, %s)", source, next(count), len(sources), origin)

    most = min(threads or os.cpu_count() or 1, max(len(sources), 1))
    with (
        _Loader(engine, cache, limits, backoff, known, stop) as loader,
        ThreadPoolExecutor(most, "starlette-wasm-load") as pool,
    ):
        queue = CompileQueue(sources, most)
        for thread in [pool.submit(queue.work, one) for _ in range(most)]:
            thread.result()
    if errors and catalog is None:
        for function in loaded.values():
            if function.digest not in known:
                function.module.close()
        raise min((error for _, error in errors), key=str)
    if catalog is not None:
        for source, error in errors:
            catalog.refuse(source.name, source.version, error)
    logger.info("%d functions ready in %.0f ms", len(loaded), (time.perf_counter() - begin) * 1e3)
    return loaded


class _Loader:
    """Loads functions, in several threads; each takes a compiler if it needs one."""

    def __init__(
        self,
        engine: Engine,
        cache: AotCache | None,
        limits: CompileLimits | None,
        backoff: CompileBackoff | None,
        known: Mapping[str, LoadedFunction] | None,
        stop: LoadCancellation | None = None,
    ) -> None:
        self._stop = stop or LoadCancellation()
        self._known = known or {}
        self._engine = engine
        self._cache = cache
        self._limits = limits or CompileLimits()
        self._backoff = CompileBackoff() if backoff is None else backoff
        self._budget = CpuBudget(self._limits.function_cpu_s)
        self.idle: list[Compiler] = []
        """Compile processes that are free."""
        self._turns: dict[str, threading.Lock] = {}
        self._compiled = False

    def __enter__(self) -> _Loader:
        return self

    def __exit__(self, *_: object) -> None:
        for compiler in self.idle:
            compiler.close()
        if self._compiled and self._cache:
            self._cache.prune()

    def load(self, source: FunctionSource) -> LoadedFunction:
        function = self._load(source)
        function.module.label = str(source)
        self._backoff.loaded(source)
        return function

    def _load(self, source: FunctionSource) -> LoadedFunction:
        self._stop.check()
        guest = self._read(source)
        digest = hashlib.sha256(guest).hexdigest()
        source.check_signature(digest)
        same = self._known.get(digest)
        if same is not None:
            return same if same.source == source else replace(same, source=source)
        with self._turns.setdefault(digest, threading.Lock()):  # the same bytes are compiled once, if there is a cache
            return self._from_cache_or_compiled(source, guest, digest)

    def _from_cache_or_compiled(self, source: FunctionSource, guest: bytes, digest: str) -> LoadedFunction:
        engine, cache = self._engine, self._cache
        fingerprint = engine.fingerprint
        if guest.startswith(COMPONENT_PREAMBLE):
            fingerprint += f" components {component_digest()}"
        key = cache.key(digest, fingerprint) if cache else ""
        stored = cache.load(key) if cache else None
        if stored is not None:
            try:
                return LoadedFunction(source, load_module(engine, *stored), digest, len(guest), True)
            except (InvalidModuleError, UnsupportedModuleError) as error:
                logger.warning("AOT cache: the code of %s is not usable, compiling again: %s", source, error)
        self._budget.check(source)
        begin = time.time_ns()
        with self._backoff.compiling(source, digest):
            module, code = self._compile(source, guest)
        compiled = (begin, time.time_ns())
        logger.debug("compiled %s in %.0f ms", source, (compiled[1] - begin) / 1e6)
        if module.lines_left_out:
            logger.info("traps in %s have file and line in part, as of its DWARF: %s", source, module.lines_left_out)
        if cache:
            cache.store(key, code, module.facts)
            self._compiled = True
        return LoadedFunction(source, module, digest, len(guest), False, compiled)

    def _read(self, source: FunctionSource) -> bytes:
        most, file = self._limits.module, source.file
        try:
            with source.open() as stream:
                guest = stream.read(most + 1)
        except OSError as error:
            raise ModuleLoadError(error.strerror or str(error), file=file) from None
        if len(guest) > most:
            raise ModuleLoadError(
                f"larger than {most >> 20} MiB (max_module_mb)", file=file, hint="strip it, or raise max_module_mb"
            )
        return guest

    def _new_compiler(self) -> Compiler:
        from .compiler import Compiler  # not loaded if all is in the cache

        engine = self._engine
        return Compiler(
            engine.pooled, self._limits, self._stop, winch=engine.config.winch, processor=engine.config.processor
        )

    def _compile(self, source: FunctionSource, guest: bytes) -> tuple[Module, bytes]:
        file = source.file
        compiler = self.idle.pop() if self.idle else self._new_compiler()
        try:
            code, facts = compiler.compile(guest)
            module = self._loaded(code, facts)
            check_served(module)
            return module, code
        except InvalidModuleError as error:
            if guest.startswith((PREAMBLE, COMPONENT_PREAMBLE)):
                raise ModuleLoadError(str(error), file=file, hint="build or copy it again") from None
            from .recognise import recognise

            what, hint = recognise(guest)
            raise ModuleLoadError(f"{error}: {what}", file=file, hint=hint) from None
        except UnsupportedModuleError as error:
            raise CompileError(error.problem, file=file, hint=error.hint) from None
        except CompilerError as error:
            raise CompileError(error.problem, file=file, hint=error.hint) from None
        finally:
            self._budget.spend(source, compiler.cpu_s)
            self.idle.append(compiler)

    def _loaded(self, code: bytes, facts: dict[str, Any]) -> Module:
        """Load what was just compiled. Raises InvalidModuleError and UnsupportedModuleError."""
        try:
            return load_module(self._engine, code, facts)
        except UnsupportedModuleError as error:
            processor = self._engine.config.processor
            if processor == NATIVE:
                raise
            hint = f"set STARLETTE_WASM_PROCESSOR, which is {processor}, to one that this machine has"
            raise UnsupportedModuleError(error.problem, hint) from None
