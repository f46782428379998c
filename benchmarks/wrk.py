"""Load from wrk, on a core of its own if there are two."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .processes import CLIENT_CPU, Failed, pinned

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Load:
    """What wrk saw: answers, how many a second, and their latency in seconds."""

    rate: float
    p50: float
    p99: float
    requests: int


def find() -> str | None:
    """Find wrk; it is installed with apt if it can be."""
    if shutil.which("wrk") is None and shutil.which("apt-get") is not None:
        print("installing wrk with apt-get ...", file=sys.stderr)
        for command in (["apt-get", "-qq", "update"], ["apt-get", "-qq", "install", "-y", "wrk"]):
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=300)
    return shutil.which("wrk")


def run(wrk: str, url: str, *, connections: int, seconds: float, script: Path | None = None) -> Load:
    """Raise Failed if an answer is not a 2xx or 3xx."""
    duration = f"{max(1, round(seconds))}s"
    argv = [wrk, "-t1", f"-c{connections}", f"-d{duration}", "--timeout", "20s", "--latency"]
    argv += ["-s", str(script)] if script else []
    try:
        done = subprocess.run(
            pinned([*argv, url], CLIENT_CPU), capture_output=True, text=True, timeout=seconds + 60, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"wrk {url}: does not end", f"hangs at {_connections(connections)}") from None
    return parse(done.stdout, url, connections)


def parse(text: str, url: str, connections: int) -> Load:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    errors = re.search(r"Non-2xx.*|Socket errors:.*", text)
    if rate is None or errors or float(rate[1]) == 0:
        what = _reason(errors[0]) if errors else "no answers"
        raise Failed(f"wrk {url}: {errors[0] if errors else text}", f"{what} at {_connections(connections)}")
    requests = re.search(r"(\d+) requests in", text)
    return Load(float(rate[1]), _latency(text, "50%"), _latency(text, "99%"), int(requests[1]) if requests else 0)


def _connections(count: int) -> str:
    return f"{count} connection{'s' * (count > 1)}"


def _reason(errors: str) -> str:
    """Find the reason in wrk's ``Socket errors: connect 0, read 12, ...`` or ``Non-2xx or 3xx responses: 9``."""
    if errors.startswith("Non-2xx"):
        return f"{errors.rpartition(' ')[2]} answers with an error status"
    words = {"connect": "refused connections", "read": "connection resets", "write": "failed writes"}
    words["timeout"] = "answers later than 20 s"
    counts = re.findall(r"(\w+) (\d+)", errors)
    return ", ".join(f"{count} {words[kind]}" for kind, count in counts if int(count))


def _latency(text: str, line: str) -> float:
    found = re.search(rf"^\s+{line}\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    return float(found[1]) * _UNITS[found[2]] if found else float("nan")
