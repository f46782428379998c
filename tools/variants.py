"""Tests on a copy of the package whose C is sanitized, or was not compiled: as a program sanitized|pure ARGUMENT ..."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".fuzz"
_FLAGS = "-g -fsanitize=address,undefined -fno-sanitize-recover=all"
# Wasmtime has signal handlers, and stacks, of its own. PyMalloc would hide what is wrong within its arenas. Tests look
# at how much memory is resident, to which what is in quarantine adds.
_SANITIZED = {
    "ASAN_OPTIONS": "detect_leaks=0:handle_segv=0:allow_user_segv_handler=1:use_sigaltstack=0:quarantine_size_mb=1",
    "PYTHONMALLOC": "malloc",
}


def sanitized() -> dict[str, str]:
    """Return variables for a process that takes the package from a copy whose C is sanitized, which is made here."""
    cc = shutil.which("gcc")
    if cc is None:
        raise FileNotFoundError("gcc, which has the sanitizers, is needed")
    copy = _copy("sanitized")
    build = copy / "scripts" / "build_native.py"
    build.parent.mkdir()
    shutil.copy(ROOT / "scripts" / "build_native.py", build)
    subprocess.run([sys.executable, build], env={**os.environ, "CC": f"{cc} {_FLAGS}"}, check=True)
    libraries = [
        subprocess.run([cc, f"-print-file-name={name}.so"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan", "libubsan")
    ]
    return {**_environment(copy), **_SANITIZED, "LD_PRELOAD": " ".join(libraries)}


def pure() -> dict[str, str]:
    """Return variables for a process that takes the package from a copy without its C, which is made here."""
    return {**_environment(_copy("pure")), "STARLETTE_WASM_PURE": "1"}


def _copy(name: str) -> Path:
    copy = WORK / name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "starlette_wasm", copy / "starlette_wasm", ignore=shutil.ignore_patterns("_native.so"))
    (copy / "policies").symlink_to(ROOT / "policies")  # which a wheel has within the package
    return copy


def _environment(copy: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(copy), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


# ASan needs more address space than these leave to their process, or to the compiler's.
_NOT_SANITIZED = (
    "tests/engine/test_process.py::test_a_small_address_space_means_instances_on_demand",
    "tests/functions/test_compiler.py::test_a_bomb_ends_its_process_and_nothing_else",
    "tests/functions/test_compiler.py::"
    "test_the_process_dumps_no_core_writes_no_files_and_goes_first_where_memory_is_short",
    "tests/functions/test_loader.py::test_a_bomb_is_an_error_that_names_file_limit_and_hint_while_others_load",
    "tests/functions/test_loader.py::test_a_module_that_failed_is_not_compiled_again_before_its_pause_is_over",
)


def main(variant: str, arguments: list[str]) -> int:
    environment = {"sanitized": sanitized, "pure": pure}[variant]()
    if variant == "sanitized":
        arguments = [*(f"--deselect={each}" for each in _NOT_SANITIZED), *arguments]
    # -P: the package in the current directory would come before that in the copy.
    return subprocess.run([sys.executable, "-P", "-m", "pytest", *arguments], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
