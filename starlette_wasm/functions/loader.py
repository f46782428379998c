"""From a source on disk to a module that can be run: read, look into the AOT cache, else compile."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..engine.engine import Engine
from ..engine.module import InvalidModuleError, Module, UnsupportedModuleError
from ..exceptions import CompileError, ModuleLoadError
from .aot import AotCache, CacheError
from .catalog import FunctionSource
from .symbols import Symbols

logger = logging.getLogger("starlette_wasm")

_MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class LoadedFunction:
    """A version of a function, compiled."""

    source: FunctionSource
    module: Module
    digest: str
    """SHA-256 of the file, hexadecimal."""
    cached: bool
    """Whether the code came from the AOT cache."""
    compiled: tuple[int, int] | None = None
    """From when to when it was compiled, in ns since the epoch; None where it came from the cache."""
    symbols: Symbols = field(init=False)
    """Names what traps in it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbols", Symbols(self.source.file, self.digest))


def open_cache(directory: Path | None) -> AotCache | None:
    """The cache, or None with a warning where it cannot be used: modules are then compiled at each start."""
    if directory is None:
        return None
    try:
        return AotCache(directory)
    except CacheError as error:
        logger.warning("AOT cache not used: %s; modules are compiled at each start", error)
        return None


def load(engine: Engine, source: FunctionSource, cache: AotCache | None) -> LoadedFunction:
    """Raises ModuleLoadError and CompileError."""
    try:
        if source.file.stat().st_size > _MOST_BYTES:
            raise ModuleLoadError(f"larger than {_MOST_BYTES >> 20} MiB", file=source.file, mend="strip it")
        guest = source.file.read_bytes()
    except OSError as error:
        raise ModuleLoadError(error.strerror or str(error), file=source.file) from None
    digest = hashlib.sha256(guest).hexdigest()
    key = cache.key(digest, engine.fingerprint) if cache else ""
    stored = cache.load(key) if cache else None
    if stored is not None:
        try:
            return LoadedFunction(source, Module.load(engine, *stored), digest, True)
        except (InvalidModuleError, UnsupportedModuleError) as error:
            logger.warning("AOT cache: the code of %s is not usable, compiling again: %s", source, error)
    begin = time.time_ns()
    try:
        module = Module.compile(engine, guest)
    except InvalidModuleError as error:
        raise ModuleLoadError(str(error), file=source.file, mend="build or copy it again") from None
    except UnsupportedModuleError as error:
        raise CompileError(str(error), file=source.file) from None
    compiled = (begin, time.time_ns())
    logger.debug("compiled %s in %.0f ms", source, (compiled[1] - begin) / 1e6)
    if cache:
        cache.store(key, module.serialize(), module.facts)
    return LoadedFunction(source, module, digest, False, compiled)


def load_all(
    engine: Engine, sources: Iterable[FunctionSource], cache: AotCache | None, threads: int | None = None
) -> dict[tuple[str, str], LoadedFunction]:
    """All of them side by side, with progress in the log; the first error is raised when all have ended."""
    sources = list(sources)
    loaded: dict[tuple[str, str], LoadedFunction] = {}
    errors: list[ModuleLoadError] = []
    count = itertools.count(1)
    begin = time.perf_counter()

    def one(source: FunctionSource) -> None:
        try:
            function = loaded[source.name, source.version] = load(engine, source, cache)
        except ModuleLoadError as error:
            errors.append(error)
            return
        origin = "from the AOT cache" if function.cached else "compiled"
        logger.info("loaded %s (%d of %d, %s)", source, next(count), len(sources), origin)

    most = min(threads or os.cpu_count() or 1, max(len(sources), 1))
    with ThreadPoolExecutor(most, "starlette-wasm-load") as pool:
        list(pool.map(one, sources))
    if errors:
        for function in loaded.values():
            function.module.close()
        raise min(errors, key=str)
    logger.info("%d functions ready in %.0f ms", len(loaded), (time.perf_counter() - begin) * 1e3)
    return loaded
