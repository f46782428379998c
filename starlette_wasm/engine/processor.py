"""Which processors compiled code runs on: this machine's, or a baseline that all machines of a fleet have."""

from __future__ import annotations

import contextlib
import platform
import sys
from functools import cache
from typing import Literal

Processor = Literal["native", "baseline", "x86-64-v3", "x86-64-v4"]
NATIVE: Processor = "native"
_MACHINES = {"AMD64": "x86_64", "arm64": "aarch64"}
_SYSTEMS = {"darwin": "apple-darwin", "win32": "pc-windows-msvc"}
_BASELINE = {"x86_64": "x86-64-v2"}
"""The level of each architecture; others have none, as ARMv8.0 is that of all."""


def machine() -> str:
    """Return the architecture as compilers call it."""
    name = platform.machine()
    return _MACHINES.get(name, name)


def fits(processor: Processor) -> bool:
    """Return whether this architecture has such processors."""
    return not processor.startswith("x86") or machine() == "x86_64"


def target_of(processor: Processor) -> tuple[str, str] | None:
    """Return what wasmtime compiles for: a target and a level of it, which may be empty; None for this machine."""
    if processor == NATIVE:
        return None
    level = _BASELINE.get(machine(), "") if processor == "baseline" else processor
    return f"{machine()}-{_SYSTEMS.get(sys.platform, 'unknown-linux-gnu')}", level


def fingerprint_of(processor: Processor) -> str:
    """Return what compiled code depends on: the same for all machines that can share it."""
    target = target_of(processor)
    return _this_machine() if target is None else " ".join(target)


@cache
def _this_machine() -> str:
    flags = ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as info:
        flags = next((line for line in info if line.lower().startswith(("flags", "features"))), "")
    return f"{platform.system()} {platform.machine()} {platform.processor()} {' '.join(sorted(flags.split()))}"
