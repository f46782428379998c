"""What loading a module with the engine shows: its time, whether it takes the fast path, or why it does not load."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from ..components.module import ComponentModule
from ..config.settings import WasmSettings, load_settings
from ..engine.engine import Engine, EngineConfig
from ..engine.fast_path import fits
from ..engine.native.library import native
from ..engine.plan import Limits, Plan
from ..exceptions import ModuleLoadError
from ..functions.aot import AotCache
from ..functions.catalog import FunctionManifest, FunctionSource
from ..functions.compiler import Compiler
from ..functions.loader import LoadedFunction, load, open_cache


@dataclass(frozen=True, slots=True)
class LoadFacts:
    """What came of loading a module. ``error`` is why it failed; the rest is then empty. Times are in seconds."""

    error: str | None = None
    compile_s: float | None = None
    """None if it was in the AOT cache already."""
    load_s: float = 0.0
    """What a start takes: from the AOT cache, if there is one."""
    pages: int = 0
    stack_pages: int = 0
    """How many of them are its stack, as far as that is known."""
    slow: str | None = None
    """Why it does not take the fast path; None if it does."""
    beyond_winch: bool = False
    """Whether the compiler of the settings, winch, cannot compile it, and cranelift can."""


def load_facts(
    file: Path, manifest: FunctionManifest | None = None, compilers: list[Compiler] | None = None
) -> LoadFacts:
    """Load a module as a start would, and once more from the AOT cache, if there is one.

    ``compilers`` are compile processes that the caller keeps: see load() of the loader.
    """
    manifest = manifest or FunctionManifest()
    settings = load_settings()
    winch = settings.compiler == "winch"
    facts = _facts(file, manifest, settings, winch=winch, compilers=compilers)
    if not winch or facts.error is None:
        return facts
    other = _facts(file, manifest, settings, winch=False)
    return facts if other.error is not None else replace(other, beyond_winch=True)


def _facts(
    file: Path,
    manifest: FunctionManifest,
    settings: WasmSettings,
    *,
    winch: bool,
    compilers: list[Compiler] | None = None,
) -> LoadFacts:
    engine = Engine.shared(EngineConfig(winch=winch))
    source = FunctionSource(file.stem, "1", file, manifest)
    cache = open_cache(settings.aot_cache_dir(), settings.cache_max_mb << 20)
    try:
        first, function = _timed(engine, source, cache, compilers)
        slow, module = _slow(function, manifest), function.module
        pages, stack_pages = module.min_pages, module.stack_pages
        function.module.close()
        compile_s = None if function.cached else first
        if cache is not None and compile_s is not None:
            first, function = _timed(engine, source, cache)
            function.module.close()
    except ModuleLoadError as error:
        return LoadFacts(error=str(error))
    return LoadFacts(None, compile_s, first, pages, stack_pages, slow)


def _timed(
    engine: Engine, source: FunctionSource, cache: AotCache | None, compilers: list[Compiler] | None = None
) -> tuple[float, LoadedFunction]:
    begin = time.perf_counter()
    function = load(engine, source, cache, compilers=compilers)
    return time.perf_counter() - begin, function


def _slow(function: LoadedFunction, manifest: FunctionManifest) -> str | None:
    module = function.module
    if native is None:
        return "the C library of this package is missing: doctor has the remedy"
    if isinstance(module, ComponentModule):
        return "it is a component, and it takes core modules only"
    if manifest.protocol == "cgi" and manifest.args and module.reads_args:
        return "function.yaml gives it arguments, which may name variables of the request"
    if not fits(Plan(module, Limits())):
        return "the C library was not built for this Python"
    if module.uses_files:
        return None if not module.slow_files else "it may wait for a disk, if its policy grants a directory"
    return None
