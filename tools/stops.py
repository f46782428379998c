"""Stops under load: what ``tests/e2e/test_stops.py`` does a few times, and ``scripts/stops --count 200`` often."""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from apps import config_file
from processes import SERVED, Server

GRACE_MS = 500
_MIX = ("/hello", "/spin", "/sleep", "/trap?mode=oob", "/exit3", "/sleep_ms?ms=20", "/alloc", "/recurse")
_BAD = ("panicked", "Fatal", "core dumped", "RUST_BACKTRACE", "Traceback")


def prepare(folder: Path) -> None:
    config_file(
        folder,
        {
            "/spin": {"functionName": "spin", "policy": "long"},
            "/sleep": {"functionName": "sleep60", "policy": "long"},
            **{f"/{name}": name for name in ("hello", "trap", "exit3", "sleep_ms", "alloc", "recurse")},
        },
        policies={"long": {"executionTimeoutMs": 600_000}},
        exposeEndpoints=True,
    )
    (folder / "served.py").write_text(SERVED)


def stop_under_load(folder: Path, log: Path, cache: Path, seed: int) -> float:
    """Start a server, ask for a mix of guests all the time, send SIGTERM; gives the seconds until it has ended.

    That is until this process, which looks at least every 50 ms, finds it reaped.
    """
    chance = random.Random(seed)
    server = Server(
        folder, log, "served:app", "--log-level", "warning",
        STARLETTE_WASM_CACHE_DIR=str(cache), STARLETTE_WASM_DRAIN_TIMEOUT_MS=str(GRACE_MS),
    )  # fmt: skip
    over = threading.Event()

    def ask(path: str) -> None:
        while not over.is_set():
            try:
                connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
            except OSError:  # it stops; to try again and again would be load on this machine and none on the server
                return
            with suppress(OSError), connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n".encode())
                while connection.recv(65536):
                    pass

    try:
        server.wait_until_ready()
        with ThreadPoolExecutor(len(_MIX)) as clients:
            for path in _MIX:
                clients.submit(ask, path)
            time.sleep(0.05 + chance.random() * 0.3)
            begin = time.monotonic()
            server.terminate()
            code = server.ended(60)
            took = time.monotonic() - begin
            over.set()
    finally:
        over.set()
        server.close()
    # uvicorn ends by the signal that ended it; never by SIGABRT or SIGSEGV
    assert code == -signal.SIGTERM, (code, server.log)
    for word in _BAD:
        assert word not in server.log, server.log
    return took


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep the CPUs busy with so many processes, at the priority of this one."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description="Stop a server under load, again and again.")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--parallel", type=int, default=1, help="servers at once")
    parser.add_argument("--busy", type=int, default=0, help="other processes that want the CPUs all the time")
    options = parser.parse_args()
    outcomes: Counter[str] = Counter()
    times: list[float] = []
    with tempfile.TemporaryDirectory() as name, busy(options.busy):
        folder = Path(name)
        prepare(folder)

        def once(number: int) -> None:
            try:
                times.append(stop_under_load(folder, folder / f"{number}.log", folder / "cache", number))
                outcomes["well"] += 1
            except Exception as error:
                outcomes[str(error)[:2000]] += 1

        once(0)  # it fills the cache
        with ThreadPoolExecutor(options.parallel) as pool:
            list(pool.map(once, range(1, options.count)))
    times.sort()
    print(f"{options.count} stops, SIGTERM until the end of the process, drain_timeout_ms={GRACE_MS}: {dict(outcomes)}")
    if times:
        p50, p99 = (times[int(len(times) * part)] for part in (0.5, 0.99))
        print(f"median {p50:.2f} s, p99 {p99:.2f} s, longest {times[-1]:.2f} s")
    late = sum(each > GRACE_MS / 1000 + 1 for each in times)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    print(f"later than the grace period and a second: {late}")
    return 0 if outcomes["well"] == options.count and not late else 1


if __name__ == "__main__":
    sys.exit(main())
