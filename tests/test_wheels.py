"""The wheels of scripts/build-wheels: what is in them, and that those for this machine run."""

from __future__ import annotations

import os
import platform
import re
import struct
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = "starlette_wasm/engine/native/_native.so"
MACHINES = {"x86_64": 62, "aarch64": 183}
"""Numbers of ELF (e_machine)."""
CPU_TYPES = {"x86_64": 0x01000007, "arm64": 0x0100000C}
"""Numbers of Mach-O."""
RUN = """
import asyncio, sys
from pathlib import Path
import starlette_wasm
from starlette_wasm.engine.native.library import native
from starlette_wasm import EdgeRequest, WasmRuntime

async def main():
    config = {"functionsDir": sys.argv[1], "rules": [{"pathPattern": "/h", "functionName": "hello"}]}
    async with WasmRuntime(config) as runtime:
        return (await runtime.invoke("hello", EdgeRequest(path="/h", method="GET"))).status_code

print(Path(starlette_wasm.__file__).parents[1], native is not None, asyncio.run(main()))
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All wheels, by the first platform in their name."""
    out = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, ROOT / "scripts" / "build-wheels", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return {file.stem.split("-")[-1].split(".")[0]: file for file in out.glob("*.whl")}


def library(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(LIBRARY)


def test_there_is_a_wheel_for_each_platform(wheels: dict[str, Path]) -> None:
    assert sorted(wheels) == [
        "any",
        "macosx_11_0_arm64",
        "macosx_11_0_x86_64",
        "manylinux_2_17_aarch64",
        "manylinux_2_17_x86_64",
        "musllinux_1_1_aarch64",
        "musllinux_1_1_x86_64",
    ]


def test_the_pure_wheel_has_no_library(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["any"]) as archive:
        assert LIBRARY not in archive.namelist()


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("system", ["manylinux_2_17", "musllinux_1_1"])
def test_linux_libraries_are_for_their_machine(wheels: dict[str, Path], system: str, machine: str) -> None:
    data = library(wheels[f"{system}_{machine}"])
    assert data[:5] == b"\x7fELF\x02"
    assert struct.unpack_from("<HH", data, 16) == (3, MACHINES[machine])  # a shared object
    versions = {int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", data)}
    assert (max(versions) <= 17) if system == "manylinux_2_17" else not versions


@pytest.mark.parametrize("machine", CPU_TYPES)
def test_macos_libraries_are_for_their_machine(wheels: dict[str, Path], machine: str) -> None:
    magic, cpu, _, kind = struct.unpack_from("<4I", library(wheels[f"macosx_11_0_{machine}"]))
    assert (magic, cpu, kind) == (0xFEEDFACF, CPU_TYPES[machine], 6)  # a dynamic library of 64 bits


@pytest.mark.parametrize("pure", [False, True])
def test_wheels_for_this_machine_run(wheels: dict[str, Path], tmp_path: Path, pure: bool) -> None:
    libc = "manylinux_2_17" if platform.libc_ver()[0] == "glibc" else "musllinux_1_1"
    native = f"{libc}_{platform.machine()}" if sys.platform == "linux" else f"macosx_11_0_{platform.machine()}"
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target]
    subprocess.run([*install, wheels["any" if pure else native]], check=True, capture_output=True, timeout=300)
    folder = tmp_path / "functions" / "hello" / "v1"
    folder.mkdir(parents=True)
    (folder / "hello.wasm").write_bytes((ROOT / "tests" / "guests" / "hello.wasm").read_bytes())
    # The checkout stays out of the way: it is not the working directory, and what is installed comes first.
    environ = {**os.environ, "PYTHONPATH": f"{target}:{sysconfig.get_path('purelib')}", "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", RUN, folder.parents[1]]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == [str(target), str(not pure), "200"], done.stderr
