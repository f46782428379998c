"""The goals for components, of docs/components.md: each as a ratio, or a figure, of one run.

usage: python -m benchmarks.component_goals [--rounds N] [--only PART ...]

Parts: inprocess, cpu, throughput, latency, load, memory. Needs wrk, and the peers of scripts/bench; what of the
components is not kept with the sources is built first, by the tools of the tests (a minute, once).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from . import peers, wrk
from .layout import GUESTS, add_function
from .processes import ROOT, Server, free_port, uvicorn

PARTS = ("inprocess", "cpu", "throughput", "latency", "load", "memory")
_POLICY = """\
maxMemoryPages: 256
executionTimeoutMs: 60000
maxConcurrency: 200
maxQueue: 2000
"""
_TESTS = ROOT / "tests" / "guests" / "components"
Line = tuple[str, str, str]
"""What was measured, what came of it, and the goal."""


def toolchains() -> Any:
    """Return the module of the tests that builds components."""
    spec = importlib.util.spec_from_file_location("toolchains", ROOT / "tests" / "toolchains.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def components() -> dict[str, Path]:
    """Return the components that are measured."""
    tools = toolchains()
    return {
        "qjs": _TESTS / "edge_js.wasm",
        "python": tools.sample_python(),
        "starlingmonkey": tools.javascript_handler(),
        "python-http": tools.python_handler(GUESTS / "wasi-http-py"),
        "c-http": GUESTS / "wasi-http" / "job.component.wasm",
    }


def lay_out(folder: Path, found: dict[str, Path]) -> Path:
    for name, file in found.items():
        add_function(folder / "functions", name, file.read_bytes())
    add_function(folder / "functions", "c", (GUESTS / "job.wasm").read_bytes())
    (folder / "policies").mkdir()
    (folder / "policies" / "bench.yaml").write_text(_POLICY)
    return folder


def serve_in_wasmtime(component: Path) -> Server:
    port = free_port()
    options = ["--addr", f"127.0.0.1:{port}", "--max-instance-reuse-count", "1"]
    return Server([str(peers.wasmtime()), "serve", *options, "-Scli", str(component)], port, path="/echo", patience=400)


class Bench:
    """Servers that are up, and what is asked of them."""

    def __init__(self, stack: ExitStack, folder: Path, found: dict[str, Path], rounds: int) -> None:
        self._stack = stack
        self._folder = folder
        self._found = found
        self._rounds = rounds
        self._theirs: dict[str, Server] = {}
        self._ours: Server | None = None

    @property
    def ours(self) -> Server:
        if self._ours is None:
            self._ours = self._stack.enter_context(
                uvicorn("components:app", self._folder, path="/c", cpu=None, patience=400)
            )
        return self._ours

    def theirs(self, name: str) -> Server:
        if name not in self._theirs:
            self._theirs[name] = self._stack.enter_context(serve_in_wasmtime(self._found[name]))
        return self._theirs[name]

    def their_url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.theirs(name).port}/{name}"

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ours.port}/{name}"

    def interleaved(self, *measures: Callable[[], float]) -> list[float]:
        """Return the median of each, after a round that does not count."""
        rounds = [[each() for each in measures] for _ in range(self._rounds + 1)][1:]
        return [statistics.median(each) for each in zip(*rounds, strict=True)]

    def cpu(self) -> Iterator[Line]:
        for name, other, goal in (("qjs", "starlingmonkey", 1 / 3), ("starlingmonkey", "starlingmonkey", 1 / 3),
                                  ("python-http", "python-http", 1 / 4)):  # fmt: skip
            ours, theirs = self.interleaved(
                lambda name=name: cpu_of(self.ours, self.url(name)),  # type: ignore[misc]
                lambda other=other: cpu_of(self.theirs(other), self.their_url(other)),  # type: ignore[misc]
            )
            yield _ratio(f"CPU of a request, {name} / wasmtime serve with {other}", ours, theirs, "us", goal)

    def throughput(self) -> Iterator[Line]:
        for connections in (1, 8, 64):
            ours, theirs = self.interleaved(
                partial(self._rate, self.url("c-http"), connections),
                partial(self._rate, self.their_url("c-http"), connections),
            )
            text = f"C wasi:http / wasmtime serve, throughput, {connections} connections"
            yield text, f"{ours:.0f} / {theirs:.0f} a second: {ours / theirs:.2f}", "at least 1.5"

    @staticmethod
    def _rate(url: str, connections: int) -> float:
        return load(url, connections).rate

    def latency(self) -> Iterator[Line]:
        for name in ("qjs", "python"):
            ours, theirs = self.interleaved(
                lambda name=name: load(self.url(name), 1).p50 * 1e6,  # type: ignore[misc]
                lambda: load(self.url("c"), 1).p50 * 1e6,
            )
            yield _ratio(f"latency of a request, {name} / the C guest", ours, theirs, "us", 2)

    def inprocess(self) -> Iterator[Line]:
        for name, goal in (("qjs", 1 / 6), ("python", 1 / 12)):
            command = [sys.executable, "-m", "benchmarks.components", str(self._found[name]), "300"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600)
            restored, _, api = (float(line.rpartition(": ")[2].split()[0]) for line in done.stdout.splitlines())
            yield _ratio(f"in process, {name} / wasmtime-py's component API", restored, api, "us", goal)

    def load(self) -> Iterator[Line]:
        self._alone(self._found["starlingmonkey"])  # compiled, and Python's bytecode is written
        took = statistics.median(self._alone(self._found["starlingmonkey"])["ms"] for _ in range(self._rounds + 1))
        yield "start with a StarlingMonkey component (13 MB) in the AOT cache", f"{took:.0f} ms", "at most 150 ms"

    def memory(self) -> Iterator[Line]:
        self._alone(self._found["python"])  # compiled
        large, small = self._alone(self._found["python"]), self._alone()
        text = "resident memory of a warm Python function: what a process has more with it"
        yield text, f"{large['resident'] - small['resident']:.0f} MB", "at most 60 MB"

    def _alone(self, *component: Path) -> dict[str, float]:
        """Return the figures of a process that has just this component."""
        command = [sys.executable, "-m", "benchmarks.component_load", str(peers.folder() / "aot"), *map(str, component)]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=600)
        found: dict[str, float] = json.loads(done.stdout)
        return found


def _ratio(text: str, ours: float, theirs: float, unit: str, goal: float) -> Line:
    bound = f"1/{round(1 / goal)}" if goal < 1 else f"{goal:g}"
    return text, f"{ours:.0f} / {theirs:.0f} {unit}: {ours / theirs:.3f} (1/{theirs / ours:.1f})", f"at most {bound}"


def load(url: str, connections: int, seconds: float = 2) -> wrk.Load:
    path = wrk.find()
    assert path is not None, "wrk is not here, and cannot be installed"
    return wrk.run(path, url, connections=connections, seconds=seconds)


def cpu_of(server: Server, url: str) -> float:
    """Return the microseconds of CPU that a server takes for a request, with 8 connections."""
    before = _cpu_time(server.pid)
    asked = load(url, 8)
    return (_cpu_time(server.pid) - before) / asked.requests * 1e6


def _cpu_time(process: int) -> float:
    found = psutil.Process(process)
    return sum(sum(each.cpu_times()[:2]) for each in (found, *found.children(recursive=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    peers.install()
    found = components()
    with tempfile.TemporaryDirectory() as temp, ExitStack() as stack:
        folder = Path(temp) / "work"
        folder.mkdir()
        bench = Bench(stack, lay_out(folder, found), found, given.rounds)
        for part in given.only:
            begin = time.monotonic()
            for text, value, goal in getattr(bench, part)():
                print(f"{text}: {value}; goal {goal}", flush=True)
            print(f"({part}: {time.monotonic() - begin:.0f} s)", file=sys.stderr)


if __name__ == "__main__":
    main()
