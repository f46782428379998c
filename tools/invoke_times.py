"""Measures what ``runtime.invoke`` takes of ordinary guests: ``python tools/invoke_times.py``.

Each guest is called with restored and with fresh instances, in alternated rounds, on a loop that leaves no time between
calls, so that all work counts: also what is otherwise done once an answer is out. Figures are CPU microseconds of a
call; ratios are medians within a round. ``--against FOLDER`` is another checkout of the package, which the same calls
are sent to in turn: a worktree of a commit whose C library was built with this Python. ``--zig`` builds the guest in C
with a stack of 1 MiB too, which needs the package ``ziglang``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
GUESTS = ROOT / "benchmarks" / "guests"
HAND_MADE = "job"
TITLES = {
    HAND_MADE: "hand-made guest, stack of 16 KiB",
    "stdio": "fread and printf of wasi-libc, stack of 128 KiB",
    "stdio-1mib": "the same, stack of 1 MiB",
    "edge-processor": "Rust with serde_json",
    "body": "echo of 12 KB",
}
ROUNDS, CALLS = 15, 150
WARM_UP = 100
"""Calls before each round that are not timed."""
_POLICY = "maxMemoryPages: 256\nexecutionTimeoutMs: 60000\n"
_POST = '{"action":"hash","data":"hello"}'
_LARGE = "abcdefgh" * 1536


def lay_out(folder: Path, *, zig: bool, kinds: tuple[str, ...]) -> list[str]:
    """Fill a folder with functions and policies. Return the names of the functions."""
    modules = {name: GUESTS / f"{name}.wasm" for name in (HAND_MADE, "stdio", "body")}
    modules["edge-processor"] = ROOT / "sample_app" / "functions" / "edge-processor" / "v2" / "edge-processor.wasm"
    if zig:
        modules["stdio-1mib"] = _with_large_stack(folder)
    for name, module in modules.items():
        home = folder / "functions" / name / "v1"
        home.mkdir(parents=True)
        shutil.copyfile(module, home / f"{name}.wasm")
    policies = folder / "policies"
    policies.mkdir()
    for kind in kinds:
        (policies / f"{kind}.yaml").write_text(_POLICY + (f"instances: {kind}\n" if kind != "default" else ""))
    return [name for name in TITLES if name in modules]


def _with_large_stack(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    target = folder / "stdio-1mib.wasm"
    words = ["-target", "wasm32-wasi", "-O2", "-s", "-Wl,-z,stack-size=1048576", "-o", str(target)]
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *words, str(GUESTS / "stdio.c")], check=True, timeout=280)
    return target


class Side:
    """A process with a runtime of one checkout."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        words = [sys.executable, str(Path(__file__).resolve()), "--serve", str(folder)]
        environ = os.environ | {"PYTHONPATH": str(checkout)}
        self._process = subprocess.Popen(
            words, cwd=folder, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def round(self, function: str, policy: str, calls: int) -> float:
        """Return the microseconds of a call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{function} {policy} {calls}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args!r} has ended with {self._process.wait()}")
        return float(line)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@contextmanager
def side(checkout: Path, folder: Path) -> Iterator[Side]:
    """Start a process for the time of the block."""
    started = Side(checkout, folder)
    try:
        yield started
    finally:
        started.close()


async def serve(folder: Path) -> None:
    """Answer each line on stdin, a function, a policy and how many calls, with the CPU microseconds of a call."""
    from starlette_wasm import EdgeRequest, WasmRuntime

    config: dict[str, Any] = {"functionsDir": str(folder / "functions"), "policiesDir": str(folder / "policies")}
    large = EdgeRequest("/", "POST", {"host": "example.org", "content-type": "application/json"}, body=_LARGE)
    small = EdgeRequest("/", "POST", {"host": "example.org", "content-type": "application/json"}, body=_POST)
    async with WasmRuntime(config) as runtime:
        for line in sys.stdin:
            function, policy, calls = line.split()
            request, count = large if function == "body" else small, int(calls)
            for _ in range(WARM_UP):  # the other process had the caches of the CPU
                await runtime.invoke(function, request, policy=policy)
            begin = time.process_time_ns()
            for _ in range(count):
                await runtime.invoke(function, request, policy=policy)
            print((time.process_time_ns() - begin) / count / 1e3, flush=True)


Taken = dict[tuple[str, str], list[float]]


def measure(sides: dict[str, tuple[Side, str]], functions: list[str], rounds: int, calls: int) -> Taken:
    """Return the microseconds of each function on each side, one figure for each round."""
    ways = [(function, side) for function in functions for side in sides]
    taken: Taken = {way: [] for way in ways}
    for number in range(rounds + 1):
        for function, name in reversed(ways) if number % 2 else ways:
            process, policy = sides[name]
            found = process.round(function, policy, calls)
            if number:  # the first round warms up
                taken[function, name].append(found)
    return taken


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median of the ratios within a round."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))


def show(taken: Taken, functions: list[str], sides: list[str]) -> None:
    """Print a row for each guest."""
    print(f"{'':50}" + "".join(f"{name:>12}" for name in sides) + "".join(f"{'/ ' + name:>12}" for name in sides[1:])
          + f"{'/ hand-made':>13}")  # fmt: skip
    for function in functions:
        ours = taken[function, sides[0]]
        row = "".join(f"{median(taken[function, name]):9.1f} us" for name in sides)
        row += "".join(f"{ratio(ours, taken[function, name]):12.2f}" for name in sides[1:])
        print(f"{TITLES[function]:50}{row}{ratio(ours, taken[HAND_MADE, sides[0]]):13.2f}")


def main() -> None:
    """Compare the guests, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--calls", type=int, default=CALLS, help="of each guest in a round")
    parser.add_argument("--zig", action="store_true", help="a guest with a stack of 1 MiB as well")
    parser.add_argument("--against", type=Path, help="another checkout, with which the same calls are compared")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        asyncio.run(serve(arguments.serve))
        return
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder) / "ours"
        functions = lay_out(home, zig=arguments.zig, kinds=("restored", "fresh"))
        ours = stack.enter_context(side(ROOT, home))
        sides = {"restored": (ours, "restored"), "fresh": (ours, "fresh")}
        if arguments.against is not None:
            other = Path(folder) / "other"
            lay_out(other, zig=arguments.zig, kinds=("default",))
            sides["other"] = (stack.enter_context(side(arguments.against.resolve(), other)), "default")
        show(measure(sides, functions, arguments.rounds, arguments.calls), functions, list(sides))


if __name__ == "__main__":
    main()
