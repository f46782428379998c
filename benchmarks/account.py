"""Where a request goes: instructions in a process, and system calls, CPU time and faults over HTTP. See docs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import wrk
from .groups.instructions import CALLS, CONTENDERS, callgrind
from .layout import lay_out
from .processes import Failed, Server, uvicorn

_BUCKETS = (
    (r"libpython|/python3?[.\d]*$", "interpreter"),
    (r"_ctypes|libffi", "ctypes, libffi"),
    (r"wasmtime", "wasmtime"),
    (r"\?\?\?|\[JIT\]|^anon|//anon|memfd", "the guest's code"),
    (r"kernel|\[k\]", "kernel"),
    (r"uvloop|loop\.cpython|httptools|parser\.cpython", "uvloop, httptools"),
    (r"libc[.-]|ld-linux|libpthread|\[vdso\]|libm[.-]", "libc"),
)
_APPS = {"native Starlette route": "native:app", "middleware-mapped function": "ours:app"}
_SECONDS = 3


def bucket(name: str) -> str:
    """Return which part of a request an object file is."""
    return next((label for pattern, label in _BUCKETS if re.search(pattern, name)), "other extension modules")


def instructions_by_object(dump: str) -> Counter[str]:
    """Read a file in callgrind's format: instructions of each bucket, calls counted if they are executed."""
    names: dict[str, str] = {}
    found: Counter[str] = Counter()
    here, inclusive = "", False
    for line in dump.splitlines():
        if line.startswith("ob="):
            number, _, name = line[3:].partition(" ")
            here = bucket(names.setdefault(number, name))
        elif line.startswith("cob="):  # names of callees are given here, too
            number, _, name = line[4:].partition(" ")
            names.setdefault(number, name)
        elif line.startswith("calls="):
            inclusive = True  # the next line is what the callee took
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            if inclusive:
                inclusive = False
            else:
                found[here] += int(line.split()[1])
    return found


@dataclass(frozen=True)
class _Counters:
    """Of a process so far. Times in microseconds."""

    user: float
    system: float
    main: float
    faults: int
    switches: int

    @classmethod
    def read(cls, pid: int) -> _Counters:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        tick = 1e6 / os.sysconf("SC_CLK_TCK")
        main = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e3
        status = Path(f"/proc/{pid}/status").read_text()
        switches = sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", status))
        return cls(int(fields[11]) * tick, int(fields[12]) * tick, main, int(fields[7]), switches)


def _load(server: Server, path: str, connections: int) -> int:
    return wrk.run(path, server.url, connections=connections, seconds=_SECONDS).requests


def _counted(server: Server, path: str, connections: int) -> dict[str, float]:
    before = _Counters.read(server.pid)
    requests = _load(server, path, connections)
    after = _Counters.read(server.pid)
    cpu = after.user + after.system - before.user - before.system
    return {
        "CPU, user, µs": (after.user - before.user) / requests,
        "CPU, system, µs": (after.system - before.system) / requests,
        "CPU of other threads, µs": max(0.0, cpu - (after.main - before.main)) / requests,
        "page faults": (after.faults - before.faults) / requests,
        "context switches of the main thread": (after.switches - before.switches) / requests,
    }


def _system_calls(server: Server, path: str, connections: int) -> dict[str, float]:
    """Trace the main thread only: the ticker starts the others a thousand times a second, and nothing would go on."""
    text, requests = _under(
        ["strace", "-c", "-p", str(server.pid)], lambda: _load(server, path, connections), patience=1.0
    )
    counts = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", text, re.MULTILINE)
    return {
        f"system call of the main thread: {name}": int(n) / requests
        for n, name in counts
        if int(n) >= requests / 20 and name != "total"
    }


def _time_shares(server: Server, path: str, connections: int, work: Path) -> dict[str, float]:
    """Return percent of the CPU time of all threads."""
    data = work / "perf.data"
    _under(
        ["perf", "record", "-q", "-e", "cpu-clock", "-F", "4999", "-o", str(data), "-p", str(server.pid)],
        lambda: _load(server, path, connections),
        patience=0.5,
    )
    done = subprocess.run(
        ["perf", "report", "-i", str(data), "--sort", "dso", "--stdio"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    shares: Counter[str] = Counter()
    for percent, name in re.findall(r"^\s+([\d.]+)%\s+(\S.*?)\s*$", done.stdout, re.MULTILINE):
        shares[bucket(name)] += float(percent)  # type: ignore[assignment]
    return {f"% of CPU time: {name}": share for name, share in shares.most_common()}


def _under(argv: list[str], load: Callable[[], int], *, patience: float) -> tuple[str, int]:
    """Follow a server with a tracer, and return what that prints, and how many requests there were meanwhile."""
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(argv, stdout=log, stderr=log) as tracer:
        try:
            time.sleep(patience)  # until it is attached
            requests = load()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(60)
        log.seek(0)
        return log.read(), requests


def _table(title: str, columns: Mapping[str, Mapping[str, float]], order: Iterable[str]) -> str:
    lines = [f"| {title} | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name in order:
        lines.append(f"| {name} | " + " | ".join(f"{each.get(name, 0):,.2f}" for each in columns.values()) + " |")
    return "\n".join(lines)


def _names(columns: Mapping[str, Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for each in columns.values() for name in each))


def main() -> int:
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    path = wrk.find()
    with tempfile.TemporaryDirectory(prefix="starlette-wasm-account-") as folder:
        work = lay_out(Path(folder))
        if shutil.which("valgrind"):
            print("callgrind, about a minute ...", file=sys.stderr)
            dumps = callgrind(work)
            columns: dict[str, dict[str, float]] = {}
            for name, dump in zip(CONTENDERS, dumps, strict=True):
                counts = instructions_by_object(dump.read_text(errors="replace"))
                columns[name] = {each: n / CALLS / 1000 for each, n in counts.most_common()}
                columns[name]["all"] = counts.total() / CALLS / 1000
            order = sorted(_names(columns), key=lambda each: -columns["middleware"].get(each, 0))
            print(_table("thousand instructions, in a process", columns, order), end="\n\n")
        else:
            print("no instructions: there is no valgrind (apt-get install valgrind)", file=sys.stderr)
        if path is None:
            print("nothing over HTTP: there is no wrk (apt-get install wrk)", file=sys.stderr)
            return 0
        measured: dict[str, dict[str, float]] = {}
        for label, app in _APPS.items():
            with uvicorn(app, work, path="/job") as server:
                print(f"over HTTP: {label} ...", file=sys.stderr)
                wrk.run(path, server.url, connections=connections, seconds=1)
                measured[label] = _counted(server, path, connections)
                if shutil.which("perf"):
                    measured[label] |= _time_shares(server, path, connections, work)
                if shutil.which("strace"):
                    measured[label] |= _system_calls(server, path, connections)
        for tool in ("strace", "perf"):
            if shutil.which(tool) is None:
                print(f"left out what {tool} shows: it is not there", file=sys.stderr)
        print(_table(f"each request over HTTP, {connections} connections", measured, _names(measured)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"scripts/profile-request: {error}")
