"""Tries a module before it is put in place: it must compile, and its code is in the AOT cache then."""

from __future__ import annotations

from pathlib import Path

from ..config.loading import parse_yaml
from ..config.settings import WasmSettings
from ..config.validation import validate
from ..engine.engine import Engine
from .catalog import FunctionManifest, FunctionSource
from .compile_limits import CompileLimits
from .loader import load, open_cache


def compile_limits(settings: WasmSettings) -> CompileLimits:
    """Return what compiling one module may cost."""
    return CompileLimits(
        cpu_s=settings.compile_cpu_s,
        wall_s=settings.compile_timeout_s,
        memory=settings.compile_memory_mb << 20,
        module=settings.max_module_mb << 20,
    )


def admit(engine: Engine, settings: WasmSettings, name: str, version: str, file: Path, manifest: str | None) -> str:
    """Compile the module in ``file`` as a version of a function. Returns its digest, in hexadecimal.

    Raises ModuleLoadError, CompileError and ConfigError, for a ``function.yaml`` that is wrong.
    """
    what = f"function.yaml of {name} v{version}"
    given = None if manifest is None else validate(FunctionManifest, parse_yaml(manifest, "a manifest", what), what)
    source = FunctionSource(name, version, file, given or FunctionManifest())
    cache = open_cache(settings.aot_cache_dir(), settings.cache_max_mb << 20, volume=settings.cache_volume)
    function = load(engine, source, cache, compile_limits(settings))
    function.module.close()
    return function.digest
