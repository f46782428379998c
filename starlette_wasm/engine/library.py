"""The shared library that the ``wasmtime`` package installs, without its Python: that would take 3 MB and 25 ms."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from ctypes import CFUNCTYPE
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MAJOR = 50
"""Whose headers (``wasmtime/*.h``) the prototypes follow; another major version is refused."""
LOWEST_SAFE = (50, 0, 1)
"""The lowest version that guests may be trusted to; the one that the package asks for."""
VERSION = version("wasmtime")

if int(VERSION.partition(".")[0]) != MAJOR:  # pragma: no cover - needs another wasmtime
    raise ImportError(
        f"starlette-wasm needs wasmtime {MAJOR}.x, found {VERSION}; pip install 'wasmtime>={MAJOR},<{MAJOR + 1}'"
    )


def too_old() -> bool:
    """Return whether this wasmtime is older than the lowest safe version."""
    return tuple(int(part) for part in re.findall(r"\d+", VERSION)[:3]) < LOWEST_SAFE


_MACHINES = {"AMD64": "x86_64", "arm64": "aarch64", "ARM64": "aarch64"}
_NAMES = {"linux": "_libwasmtime.so", "darwin": "_libwasmtime.dylib", "win32": "_wasmtime.dll"}


def _file() -> Path:
    spec = find_spec("wasmtime")
    machine = platform.machine()
    if spec is None or spec.origin is None or sys.platform not in _NAMES:  # pragma: no cover
        raise ImportError(f"there is no wasmtime library for {sys.platform} {machine}; use Linux or macOS")
    folder = f"{sys.platform}-{_MACHINES.get(machine, machine)}"
    return Path(spec.origin).parent / folder / _NAMES[sys.platform]


def _load(file: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(file))
    except OSError as error:  # pragma: no cover - needs a broken installation
        raise ImportError(f"the wasmtime library cannot be loaded: {error}; reinstall wasmtime") from None


_library = _load(_file())


# Segments that are mapped from the file: code, and the segment of the file's head, tables and constants. Another
# that cannot be written has been, by the loader.
_CLEAN = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (?:r-xp [0-9a-f]+|r--p 0+) \S+ \d+ +(.+)")
_DONTNEED = 4


_OF_STARTING = ("pydantic_core._pydantic_core", "yaml._yaml", "_decimal", "unicodedata")
"""Modules that are needed to read a config, and seldom afterwards."""


def unmap_cold_pages() -> None:
    """Take the code and constants of libraries out of the resident memory of this process (Linux).

    Loading wasmtime, making an engine and loading modules touches 6 MB, much of that because the kernel maps what is
    around each page too. Requests need less than half, and get it back from the page cache, if it stays. Of pydantic
    and YAML they need next to nothing.
    """
    if sys.platform != "linux":
        return
    files = {_library._name, *(getattr(sys.modules.get(name), "__file__", None) for name in _OF_STARTING)}
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as mappings:
        for line in mappings:
            clean = _CLEAN.match(line)
            if clean is not None and clean[3] in files:
                start, end = int(clean[1], 16), int(clean[2], 16)
                madvise(start, end - start, _DONTNEED)


def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """Find a function of the C API, with unchecked prototypes: integers for pointers."""
    return CFUNCTYPE(result, *arguments)((name, _library))


def address(name: str) -> int:
    """Address of a function of the C API."""
    value = ctypes.cast(getattr(_library, name), ctypes.c_void_p).value
    assert value is not None
    return value
