"""The C of the package under AddressSanitizer and UndefinedBehaviorSanitizer: as a program TARGET SECONDS, one target
on its corpus and on random changes of it. Under a sanitizer of its own atheris sees no coverage."""

from __future__ import annotations

import logging
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from fuzz_targets import checker, corpus, target

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".fuzz"
TARGETS = ("quick_requests", "quick_responses")
"""Those that come to the C."""
_FLAGS = "-g -fsanitize=address,undefined -fno-sanitize-recover=all"
# Wasmtime has signal handlers, and stacks, of its own. PyMalloc would hide what is wrong within its arenas.
_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:handle_segv=0:allow_user_segv_handler=1:use_sigaltstack=0",
    "PYTHONMALLOC": "malloc",
}


def environment() -> dict[str, str]:
    """For a process that takes the package from a copy whose C is sanitized, which is made here."""
    copy, cc = WORK / "sanitized", shutil.which("gcc")
    if cc is None:
        raise FileNotFoundError("gcc, which has the sanitizers, is needed")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "starlette_wasm", copy / "starlette_wasm", ignore=shutil.ignore_patterns("_native.so"))
    build = copy / "scripts" / "build_native.py"
    build.parent.mkdir()
    shutil.copy(ROOT / "scripts" / "build_native.py", build)
    subprocess.run([sys.executable, build], env={**os.environ, "CC": f"{cc} {_FLAGS}"}, check=True)
    libraries = [
        subprocess.run([cc, f"-print-file-name={name}.so"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan", "libubsan")
    ]
    path = os.pathsep.join([str(copy), os.environ["PYTHONPATH"]])
    return {
        **os.environ,
        **_ENVIRONMENT,
        "PYTHONPATH": path,
        "LD_PRELOAD": " ".join(libraries),
    }


def fuzz(name: str, minutes: float, environment: dict[str, str]) -> bool:
    """Whether nothing was found."""
    command = [sys.executable, __file__, name, str(minutes * 60)]
    if subprocess.run(command, env=environment).returncode == 0:
        return True
    print(f"{name:14} FOUND something; the input is in {WORK / name / 'sanitized'}")
    return False


def main(name: str, seconds: float) -> None:
    from starlette_wasm.engine.native import library as native

    assert Path(native.__file__).is_relative_to(WORK), native.__file__
    assert native.native is not None
    logging.lastResort = None
    check, tokens, left = checker(name), target(name).TOKENS, WORK / name / "sanitized"
    left.parent.mkdir(parents=True, exist_ok=True)
    inputs = corpus(name) + [each.read_bytes() for each in (WORK / name / "corpus").glob("*")]
    for data in inputs:
        left.write_bytes(data)
        check(data)
    until, runs = time.monotonic() + seconds, len(inputs)
    while time.monotonic() < until:
        data = random.choice(inputs)
        for _ in range(random.randint(1, 4)):
            at, on_disconnect = random.randint(0, len(data)), random.randint(0, 3)
            piece = random.choice((b"", random.randbytes(random.randint(1, 3)), random.choice(tokens)))
            data = data[:at] + piece + data[at + on_disconnect :]
        left.write_bytes(data)
        check(data)
        runs += 1
    left.unlink()
    print(f"{name:14} done {runs} runs, sanitized")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
