"""What ``doctor`` looks at: each check gives one finding."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import resource
import shutil
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..config.settings import load_settings
from ..engine.engine import Engine, EngineConfig
from ..engine.native.library import native
from ..exceptions import ConfigError, WasmError
from ..functions.aot import AotCache, CacheError
from ..runtime.runtime import WasmRuntime
from . import toolchains
from .inspection import without_files
from .lines import with_lines

_LEAST_PYTHON = (3, 11)
_LEAST_FILES = 1024
_EXTRAS = {"fetch": "httpx", "server": "uvicorn", "otel": "opentelemetry.sdk", "registry": "cryptography"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check: ``ok``, ``warning`` or ``error``. ``command`` puts it right, if one does."""

    check: str
    result: str
    found: str
    remedy: str = ""
    command: str = ""


def everything(config: Path) -> list[Finding]:
    """Run all checks."""
    findings = [check() for check in (python, compiler, native_extension, wasmtime, pool, cache, address_space, files)]
    findings += [_toolchain(each) for each in toolchains.ALL]
    return [*findings, extras(), configuration(config)]


def python() -> Finding:
    """Check the version of Python."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _LEAST_PYTHON:
        return Finding("python", "error", found, "install Python 3.11 or newer")
    return Finding("python", "ok", found)


def compiler() -> Finding:
    """Look for the C compiler that builds the native extension."""
    name = (sysconfig.get_config_var("CC") or "cc").split()[0]
    path = shutil.which(name) or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if path is not None:
        return Finding("C compiler", "ok", path)
    needed = "" if native is not None else "; without one requests take longer"
    remedy = "install one, such as Debian's gcc, and install this package again"
    return Finding("C compiler", "ok" if native is not None else "warning", f"none{needed}", remedy)


def native_extension() -> Finding:
    """Check that the C library of this package was built."""
    if native is not None:
        return Finding("native extension", "ok", "built")
    remedy = "with a C compiler and Python's headers, install this package again"
    command = "python -m pip install --force-reinstall --no-deps starlette-wasm"
    return Finding("native extension", "warning", "missing: requests take longer", remedy, command)


def wasmtime() -> Finding:
    """Check the version of wasmtime, which is pinned to one major version."""
    try:
        found = version("wasmtime")
    except PackageNotFoundError:
        return Finding("wasmtime", "error", "not installed", "install this package again")
    if found.partition(".")[0] != "50":
        return Finding("wasmtime", "error", found, "this package needs 50", "python -m pip install 'wasmtime>=50,<51'")
    return Finding("wasmtime", "ok", found)


def pool() -> Finding:
    """Make an engine, and check that instances come from a pool."""
    try:
        engine = Engine.shared(EngineConfig(max_instances=load_settings().max_instances))
    except WasmError as error:
        return Finding("engine", "error", str(error), "see the message")
    if engine.pooled:
        return Finding("engine", "ok", "instances come from a pool")
    remedy = "raise the limit of address space (ulimit -v unlimited), or lower STARLETTE_WASM_MAX_INSTANCES"
    return Finding("engine", "warning", "there is no room for a pool of instances: each takes longer", remedy)


def cache() -> Finding:
    """Open the AOT cache."""
    folder = load_settings().aot_cache_dir()
    if folder is None:
        remedy = "unset STARLETTE_WASM_AOT_CACHE, or name a folder with STARLETTE_WASM_CACHE_DIR"
        return Finding("AOT cache", "warning", "not used: each start compiles", remedy)
    try:
        AotCache(folder)
    except CacheError as error:
        remedy = "name a folder that only this user may write, with STARLETTE_WASM_CACHE_DIR"
        return Finding("AOT cache", "warning", str(error), remedy)
    return Finding("AOT cache", "ok", str(folder))


def address_space() -> Finding:
    """Check the limit of address space: each instance reserves some, used or not."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return Finding("address space", "ok", "no limit")
    return Finding("address space", "warning", f"at most {soft >> 20} MiB", "set ulimit -v unlimited for the server")


def files() -> Finding:
    """Check the limit of open files: connections, and files of guests."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _LEAST_FILES:
        return Finding("open files", "ok", "no limit" if hard == resource.RLIM_INFINITY else f"up to {hard}")
    return Finding("open files", "warning", f"at most {hard}", f"raise the hard limit (ulimit -Hn) to {_LEAST_FILES}")


def _toolchain(toolchain: toolchains.Toolchain) -> Finding:
    found = toolchains.find(toolchain)
    title = f"{toolchain.name} ({', '.join(toolchain.languages)})"
    if found.problem is None:
        return Finding(title, "ok", f"{found.version}: {' '.join(found.command)}")
    installs = toolchain.install.startswith("python ")
    command = toolchain.install if installs else ""
    return Finding(title, "warning", found.problem, f"run {toolchain.install}, if you need it", command)


def extras() -> Finding:
    """Name the extras that are not installed."""
    lacking = [extra for extra, module in _EXTRAS.items() if not _there(module)]
    if not lacking:
        return Finding("extras", "ok", ", ".join(_EXTRAS))
    command = f"python -m pip install 'starlette-wasm[{','.join(lacking)}]'"
    return Finding("extras", "ok", f"without {', '.join(lacking)}", f"run {command}, if you need them", command)


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def configuration(config: Path) -> Finding:
    """Load the config as an app would."""
    if not config.exists():
        remedy = "run it where the wasm.yaml is, name it with --config, or begin with starlette-wasm new NAME --app"
        return Finding("config", "warning", f"there is no {config} in {os.getcwd()}", remedy)

    async def load() -> str:
        async with WasmRuntime(config, without_files(aot_cache=False)) as runtime:
            deployment = runtime.deployment
            return f"{config}: {len(deployment.config.rules)} rules, {len(deployment.functions)} versions of functions"

    return _guarded("config", lambda: asyncio.run(load()))


def _guarded(check: str, work: Callable[[], str]) -> Finding:
    try:
        return Finding(check, "ok", work())
    except ConfigError as error:
        return Finding(check, "error", with_lines(str(error)), error.hint or "")
    except WasmError as error:
        return Finding(check, "error", with_lines(str(error)), getattr(error, "hint", None) or "see the message")
