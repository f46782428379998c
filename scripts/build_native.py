"""Compiles the C of starlette_wasm/engine/native when the package is built or installed, if there is a C compiler.

As a build hook of hatchling, and by hand: python scripts/build_native.py. With STARLETTE_WASM_PURE set, the hook
compiles nothing, and the wheel runs anywhere (scripts/build-wheels).
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

NATIVE = Path(__file__).resolve().parent.parent / "starlette_wasm" / "engine" / "native"
HEADERS = ("native.h", "text.h", "json.h", "python_abi.h", "component.h", "wasi_http.h", "answer.h")
SOURCES = (
    *("invoke.c", "prepared.c", "text.c", "base64.c", "request.c", "edge.c", "environ.c", "answer.c", "http1.c"),
    *("fast_path.c", "component.c", "streams.c", "restore.c", "host_calls.c"),
    *("wasi_http.c", "http_objects.c", "http_results.c", "http_fields.c", "http_bodies.c", "http_answer.c"),
    *("component_path.c", "http_asgi.c", "otlp.c"),
)
FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-shared", "-fPIC"]


def compiler() -> list[str] | None:
    if "CC" in os.environ:
        return shlex.split(os.environ["CC"])
    return next(([found] for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def compile_library(cc: list[str], library: Path, *, darwin: bool) -> None:
    """Compile the library for the compiler's target. Raises OSError and subprocess.SubprocessError."""
    digest = hashlib.sha256(b"".join((NATIVE / name).read_bytes() for name in HEADERS + SOURCES)).hexdigest()
    sources = [str(NATIVE / name) for name in SOURCES]
    command = [*cc, *FLAGS, f'-DSOURCE="{digest}"', *sources, "-o", str(library)]
    if darwin:  # the interpreter's functions are found when it is loaded
        command += ["-undefined", "dynamic_lookup"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)


def build() -> bool:
    """Compile for this machine. Return whether there is a library now."""
    library = NATIVE / "_native.so"
    cc = compiler()
    if cc is None or sys.platform == "win32":
        print("starlette-wasm: no C compiler: a request will take twice as long", file=sys.stderr)
        return False
    made = library.with_suffix(f".{os.getpid()}")
    try:
        compile_library(cc, made, darwin=sys.platform == "darwin")
        made.replace(library)  # a process that has the old one mapped keeps it
    except (OSError, subprocess.SubprocessError) as error:
        made.unlink(missing_ok=True)
        said = getattr(error, "stderr", None) or error
        print(f"starlette-wasm: invoke.c was not compiled: a request will take twice as long\n{said}", file=sys.stderr)
        return False
    return True


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:
    pass
else:

    class BuildHook(BuildHookInterface):  # type: ignore[misc]
        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            if self.target_name == "wheel" and "STARLETTE_WASM_PURE" not in os.environ and build():
                platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
                build_data["pure_python"] = False
                build_data["tag"] = f"py3-none-{platform}"
                build_data["artifacts"].append("starlette_wasm/engine/native/_native.so")


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv):
        sys.exit(print(__doc__))
    sys.exit(not build())
