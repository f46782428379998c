"""The folder that a run works in: functions, policies, and what the peers read."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .processes import ROOT

GUESTS = Path(__file__).parent / "guests"
_OWN = ("job", "stdio", "body", "list", "rows", "mandelbrot", "sha256")
_OF_TESTS = ("spin", "sleep_ms", "trap", "exit3", "garbage")
_POLICY = """\
maxMemoryPages: 256
executionTimeoutMs: {timeout}
maxConcurrency: 2000
maxQueue: 2000
maxRequestBytes: 4194304
maxResponseBytes: 8388608
"""


def work() -> Path:
    """Return the folder of this run, in a contender."""
    return Path(os.environ["BENCH_WORK"])


def lay_out(folder: Path) -> Path:
    """Fill a folder. Functions are named after their guests, with dashes."""
    for name in _OWN:
        add_function(folder / "functions", name, (GUESTS / f"{name}.wasm").read_bytes())
    for name in _OF_TESTS:
        add_function(folder / "functions", name, (ROOT / "tests" / "guests" / f"{name}.wasm").read_bytes())
    module = ROOT / "sample_app" / "functions" / "edge-processor" / "v2" / "edge-processor.wasm"
    add_function(folder / "functions", "edge-processor", module.read_bytes())
    for policy, timeout in (("bench", 60_000), ("bench-200ms", 200)):
        file = folder / "policies" / f"{policy}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(_POLICY.format(timeout=timeout))
    (folder / "policies" / "bench-trusted.yaml").write_text(_POLICY.format(timeout=60_000) + "cpuWeight: 100\n")
    return folder


def add_function(functions: Path, guest: str, module: bytes, version: str = "1") -> None:
    name = guest.replace("_", "-")
    file = functions / name / f"v{version}" / f"{name}.wasm"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(module)


def unique(module: bytes, number: int) -> bytes:
    """Make the same module under another digest: with a custom section that holds a number."""
    text = str(number).encode()
    return module + bytes([0, len(text) + 2, 1]) + b"n" + text


def native_library(folder: Path, name: str) -> Path | None:
    """Build a guest's C source as a shared library of this machine; None if there is no C compiler."""
    cc = shutil.which("cc")
    if cc is None:
        return None
    library = folder / f"{name}.so"
    if not library.exists():
        source = GUESTS / f"{name}.c"
        subprocess.run([cc, "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=120)
    return library
