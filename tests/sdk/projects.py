"""Builds the ten examples of each SDK in a project outside the repository, with the SDK as its dependency."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

from toolchains import GO_ENVIRON, go_tool, node_tools, python_component

SDK = Path(__file__).parents[2] / "sdk"
ZIG = [sys.executable, "-m", "ziglang"]


def run(folder: Path, *command: str | Path, **environ: str) -> None:
    """Run a command in a folder; it has to succeed, without a warning."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=900, env={**os.environ, **environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr, done.stderr


def build_c(folder: Path) -> Path:
    (folder / "web.c").write_text((SDK / "c/examples/web.c").read_text())
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Os", "-s", "-Wl,-z,stack-size=131072", "-I", SDK / "c"]
    run(folder, *ZIG, "cc", "-target", "wasm32-wasi", *flags, "-o", "web.wasm", "web.c")
    return folder / "web.wasm"


def build_zig(folder: Path) -> Path:
    shutil.copy(SDK / "zig/examples/web.zig", folder)
    options = ["-target", "wasm32-wasi", "-O", "ReleaseSmall", "--stack", "131072", "-femit-bin=web.wasm"]
    run(folder, *ZIG, "build-exe", *options, "--dep", "edge", "-Mroot=web.zig", f"-Medge={SDK}/zig/edge.zig")
    return folder / "web.wasm"


def build_rust(folder: Path) -> Path:
    (folder / "src").mkdir()
    (folder / "src/main.rs").write_text((SDK / "rust/examples/web.rs").read_text())
    (folder / "Cargo.toml").write_text(
        f"""[package]
name = "web"
version = "0.1.0"
edition = "2021"

[dependencies]
edge = {{ path = "{SDK}/rust" }}

[profile.release]
opt-level = "s"
"""
    )
    flags = "-C link-arg=-zstack-size=131072 -D warnings"
    command = ["/usr/bin/cargo", "build", "--quiet", "--release", "--offline", "--target", "wasm32-wasi"]
    run(folder, *command, PATH="/usr/bin:/bin", RUSTFLAGS=flags, CARGO_HOME=str(folder / ".cargo"))
    return folder / "target/wasm32-wasi/release/web.wasm"


def pack(package: Path, folder: Path) -> Path:
    """The tarball that npm makes of a package, without leaving anything beside its sources."""
    shutil.copytree(package, folder / "package", ignore=shutil.ignore_patterns("node_modules"))
    run(folder, "npm", "pack", "--silent", "./package")
    [made] = folder.glob("*.tgz")
    return made


def depend(folder: Path, package: Path) -> None:
    """Make a project of npm that depends on a package."""
    (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
    run(folder, "npm", "install", "--silent", "--offline", "--no-audit", "--no-fund", pack(package, folder))


def build_assemblyscript(folder: Path) -> Path:
    tools = node_tools() / "node_modules"
    depend(folder, SDK / "assemblyscript")
    shutil.copy(SDK / "assemblyscript/examples/web.ts", folder)
    (folder / "node_modules/@assemblyscript").symlink_to(tools / "@assemblyscript")
    config = "node_modules/@assemblyscript/wasi-shim/asconfig.json"
    run(folder, tools / ".bin/asc", "web.ts", "-O", "--noAssert", "--config", config, "-o", "web.wasm")
    return folder / "web.wasm"


def build_javascript(folder: Path) -> Path:
    tools = node_tools()
    depend(folder, SDK / "javascript")
    shutil.copy(SDK / "javascript/examples/web.js", folder)
    wit = "node_modules/@starlette-wasm/edge/wit"
    options = ["--sync", "--opt-size", "--stub-wasi", "--module-root", ".", "--wit", wit, "-n", "edge"]
    run(folder, tools / "node_modules/.bin/componentize-qjs", *options, "--js", "web.js", "-o", "web.wasm")
    return folder / "web.wasm"


def build_python(folder: Path) -> Path:
    """What ``new`` began, once for all tests; the wheel has the files that it was made of."""
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder]
    shutil.copytree(SDK / "python", folder / "package", ignore=shutil.ignore_patterns("__pycache__"))
    run(folder, *wheel, folder / "package")
    [made] = folder.glob("*.whl")
    with ZipFile(made) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if name.startswith("edge/")}
    sources = [each for each in (SDK / "python/edge").rglob("*") if each.is_file() and each.suffix != ".pyc"]
    assert packed == {str(each.relative_to(SDK / "python")): each.read_bytes() for each in sources}
    return python_component()


def build_go(folder: Path) -> Path:
    shutil.copy(SDK / "go/examples/web.go", folder / "main.go")
    required = f"require starlette-wasm/edge v0.1.0\n\nreplace starlette-wasm/edge => {SDK}/go\n"
    (folder / "go.mod").write_text(f"module web\n\ngo 1.21\n\n{required}")
    environ = GO_ENVIRON | {"GOFLAGS": "-mod=mod"}
    run(folder, go_tool(), "vet", ".", "starlette-wasm/edge", **environ)
    run(folder, go_tool(), "build", "-trimpath", "-ldflags=-s -w", "-o", "web.wasm", ".", **environ)
    return folder / "web.wasm"


BUILDS: dict[str, Callable[[Path], Path]] = {
    "c": build_c,
    "zig": build_zig,
    "rust": build_rust,
    "javascript": build_javascript,
    "python": build_python,
    "go": build_go,
    "assemblyscript": build_assemblyscript,
}
