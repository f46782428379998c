"""From a source on disk to a module that can be run: read, look into the AOT cache, else compile."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ..engine.engine import Engine
from ..engine.module import InvalidModuleError, Module, UnsupportedModuleError
from ..exceptions import CompileError, ModuleLoadError
from .aot import AotCache, CacheError
from .catalog import FunctionSource

logger = logging.getLogger("starlette_wasm")

_MOST_BYTES = 256 << 20
_MEND = "build it as a WASI preview 1 command, without proposals beyond WebAssembly 2.0"
_MENDS = (
    (r"thread|shared", "build it without threads: no -pthread, and target wasm32-wasip1, not wasm32-wasip1-threads"),
    (r"imports \S*(wbg|wbindgen)", "build it without wasm-bindgen, for the target wasm32-wasip1"),
    (r"imports (gojs|go)\.", "build it with GOOS=wasip1, not GOOS=js"),
    (r"imports wasi:", "build it for WASI preview 1 (wasm32-wasip1), not preview 2 (wasm32-wasip2)"),
    (r"imports wasi_unstable\.", "build it with a newer WASI SDK, for wasi_snapshot_preview1"),
    (
        r"imports env\.",
        "build it with a WASI SDK, not for a browser, and link all it calls (no --allow-undefined)",
    ),
    (r"memory64|64-bit", "build it for 32-bit memories (wasm32)"),
    (r"exception", "build it without exceptions (-fno-exceptions; panic=abort in Rust)"),
)
"""By what the complaint says, how to build the module."""


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


def open_cache(directory: Path | None) -> AotCache | None:
    """The cache, or None with a warning where it cannot be used: modules are then compiled at each start."""
    if directory is None:
        return None
    try:
        return AotCache(directory)
    except CacheError as error:
        logger.warning("AOT cache not used: %s; modules are compiled at each start", error)
        return None


def load(
    engine: Engine, source: FunctionSource, cache: AotCache | None, known: Mapping[str, LoadedFunction] | None = None
) -> LoadedFunction:
    """``known`` are functions of the same engine, by their digest. Raises ModuleLoadError and CompileError."""
    try:
        if source.file.stat().st_size > _MOST_BYTES:
            raise ModuleLoadError(f"larger than {_MOST_BYTES >> 20} MiB", file=source.file, mend="strip it")
        guest = source.file.read_bytes()
    except OSError as error:
        raise ModuleLoadError(error.strerror or str(error), file=source.file) from None
    digest = hashlib.sha256(guest).hexdigest()
    if known and digest in known:
        same = known[digest]
        return same if same.source == source else replace(same, source=source)
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
        raise CompileError(str(error), file=source.file, mend=_mend(str(error))) from None
    compiled = (begin, time.time_ns())
    logger.debug("compiled %s in %.0f ms", source, (compiled[1] - begin) / 1e6)
    if cache:
        cache.store(key, module.serialize(), module.facts)
    return LoadedFunction(source, module, digest, False, compiled)


def _mend(problem: str) -> str | None:
    """How to build a module that the engine takes, where what it says of one that it does not leaves that open."""
    if "; build it" in problem:
        return None
    return next((mend for pattern, mend in _MENDS if re.search(pattern, problem)), _MEND)


def load_all(
    engine: Engine,
    sources: Iterable[FunctionSource],
    cache: AotCache | None,
    threads: int | None = None,
    known: Mapping[str, LoadedFunction] | None = None,
) -> dict[tuple[str, str], LoadedFunction]:
    """All of them side by side, with progress in the log; the first error is raised when all have ended.

    The modules of ``known``, which are functions by their digest, are not compiled again.
    """
    known = known or {}
    sources = list(sources)
    loaded: dict[tuple[str, str], LoadedFunction] = {}
    errors: list[ModuleLoadError] = []
    count = itertools.count(1)
    begin = time.perf_counter()

    def one(source: FunctionSource) -> None:
        try:
            function = loaded[source.name, source.version] = load(engine, source, cache, known)
        except ModuleLoadError as error:
            errors.append(error)
            return
        if function.digest in known:
            return
        origin = "from the AOT cache" if function.cached else "compiled"
        logger.info("loaded %s (%d of %d, %s)", source, next(count), len(sources), origin)

    most = min(threads or os.cpu_count() or 1, max(len(sources), 1))
    with ThreadPoolExecutor(most, "starlette-wasm-load") as pool:
        list(pool.map(one, sources))
    if errors:
        for function in loaded.values():
            if function.digest not in known:
                function.module.close()
        raise min(errors, key=str)
    logger.info("%d functions ready in %.0f ms", len(loaded), (time.perf_counter() - begin) * 1e3)
    return loaded
