"""The C of the package under AddressSanitizer and UndefinedBehaviorSanitizer: as a program TARGET SECONDS, one target
on its corpus and on random changes of it. Under a sanitizer of its own atheris sees no coverage."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import time
from pathlib import Path

from fuzz_targets import checker, corpus, target
from variants import WORK

TARGETS = ("component_calls", "component_requests", "edge_objects", "host_calls", "lent_streams", "quick_requests",
           "quick_responses", "written_heads")  # fmt: skip
"""Those that come to the C."""


def fuzz(name: str, minutes: float, environment: dict[str, str]) -> bool:
    """Fuzz, and return whether nothing was found."""
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
            at, length = random.randint(0, len(data)), random.randint(0, 3)
            piece = random.choice((b"", random.randbytes(random.randint(1, 3)), random.choice(tokens)))
            data = data[:at] + piece + data[at + length :]
        left.write_bytes(data)
        check(data)
        runs += 1
    left.unlink()
    print(f"{name:14} done {runs} runs, sanitized")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
