"""Builds the ten examples of each SDK in a project outside the repository, with the SDK as its dependency."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


BUILDS: dict[str, Callable[[Path], Path]] = {"c": build_c, "rust": build_rust}
