"""The machine and the versions that figures belong to."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

from . import peers
from .processes import can_pin
from .runs import LOAD

_PACKAGES = ("starlette", "uvicorn", "uvloop", "httptools", "wasmtime")


def describe() -> dict[str, str]:
    """Describe it in one line each, for the report."""
    known = {
        "machine": f"{_cpu()}, {os.cpu_count()} cores, {_memory()} GiB",
        "system": f"{platform.system()} {platform.release()}, {_distribution()}",
        "Python": platform.python_version(),
        "pinning": "server on core 0, wrk on core 1" if can_pin() else "none",
        LOAD: f"{os.getloadavg()[0]:.2f}",
    }
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            known[package] = version(package)
    if wrk := shutil.which("wrk"):
        known["wrk"] = _first_line([wrk, "-v"]).removeprefix("wrk ").split(" [")[0]
    if cc := shutil.which("cc"):
        known["cc"] = _first_line([cc, "--version"])
    return known | peers.versions()


def _first_line(argv: list[str]) -> str:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, check=False)
    return (done.stdout.splitlines() or [""])[0].strip()


def _cpu() -> str:
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo") as info:
        line = next(line for line in info if line.startswith("model name"))
        return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30))


def _distribution() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return ""
