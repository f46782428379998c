"""Servers and workers: child processes in groups of their own, bounded in time, stopped by their ids."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

ROOT = Path(__file__).parent.parent
SERVER_CPU, CLIENT_CPU = 0, 1
_CPU_OF_PROCESS = 2
"""As the kernel numbers clocks: see clock_getcpuclockid(3)."""
S = TypeVar("S", bound="Process")


def can_pin() -> bool:
    """Return whether server and load generator can each have a core."""
    return shutil.which("taskset") is not None and {SERVER_CPU, CLIENT_CPU} <= os.sched_getaffinity(0)


def pinned(argv: Sequence[str], cpu: int | None) -> list[str]:
    return ["taskset", "-c", str(cpu), *argv] if cpu is not None and can_pin() else list(argv)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Failed(Exception):
    """A contender did not start, or did not answer as it should; the text has the end of what it printed.

    ``reason`` is what a table has room for.
    """

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason or text.partition("\n")[0]


class Process:
    """A child process, started on entry and ended on exit."""

    def __init__(self, argv: Sequence[str], *, cpu: int | None = None, env: Mapping[str, str] | None = None) -> None:
        self.argv = pinned(argv, cpu)
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        self._pipes: dict[str, Any] = {}

    def __enter__(self: S) -> S:
        self._log = tempfile.TemporaryFile()
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": self._log, "stderr": self._log} | self._pipes
        try:
            self._child = subprocess.Popen(self.argv, cwd=ROOT, env=self._env, start_new_session=True, **streams)
        except OSError as error:
            self._log.close()
            raise Failed(f"{' '.join(self.argv)}: {error}", f"does not start: {error.strerror}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(patience)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)  # what it left of its group
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()

    @property
    def pid(self) -> int:
        pid: int = self._child.pid
        return pid

    def fail(self, what: str) -> Failed:
        self._log.seek(0)
        tail = self._log.read()[-2000:].decode(errors="replace").strip()
        return Failed(f"{' '.join(self.argv)}: {what}\n{tail}", what)


class Server(Process):
    """An HTTP server on 127.0.0.1; entered when it answers ``path`` as expected."""

    def __init__(
        self,
        argv: Sequence[str],
        port: int,
        *,
        path: str = "/",
        expect: bytes = b"",
        patience: float = 60,
        cpu: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(argv, cpu=cpu, env=env)
        self.port = port
        self._path, self._expect, self._patience = path, expect, patience

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self._path}"

    def __enter__(self: S) -> S:
        super().__enter__()
        try:
            self._wait()  # type: ignore[attr-defined]
        except BaseException as error:
            self.__exit__(None, None, None)
            raise error
        return self

    def _wait(self) -> None:
        until = time.monotonic() + self._patience
        while True:
            if self._child.poll() is not None:
                raise self.fail(f"does not start: ended with {self._child.returncode}")
            try:
                status, body = self.get(self._path)
            except OSError:
                if time.monotonic() > until:
                    raise self.fail("does not answer") from None
                time.sleep(0.05)
                continue
            if status != 200 or self._expect not in body:
                raise self.fail(f"answered {status}: {body[:200]!r}")
            return

    def get(self, path: str, timeout: float = 30) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path)[1])


def uvicorn(
    app: str,
    work: Path,
    *,
    path: str,
    workers: int = 1,
    cpu: int | None = SERVER_CPU,
    expect: bytes = b"",
    env: Mapping[str, str] | None = None,
    package: str = "benchmarks.contenders.",
    patience: float = 60,
) -> Server:
    """Serve an ASGI app of benchmarks.contenders, or of another ``package``, by uvicorn with uvloop and httptools."""
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", f"{package}{app}", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    if workers > 1:
        argv += ["--workers", str(workers)]
    environ = {"BENCH_WORK": str(work), **(env or {})}
    return Server(argv, port, path=path, expect=expect, cpu=cpu, env=environ, patience=patience)


class Worker(Process):
    """An object in a process of its own, whose methods are called over its stdin and stdout."""

    def __init__(self, target: str, *, env: Mapping[str, str] | None = None, **arguments: Any) -> None:
        super().__init__([sys.executable, "-m", "benchmarks.worker", target, json.dumps(arguments)], env=env)
        self._pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}

    def call(self, method: str, *, patience: float = 120, **arguments: Any) -> Any:
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps([method, arguments]).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            raise self.fail("has ended") from None
        if not select.select([child.stdout], [], [], patience)[0]:
            raise self.fail(f"{method} took longer than {patience} s")
        line = child.stdout.readline()
        if not line:
            raise self.fail(f"ended in {method}")
        return json.loads(line)


def cpu_ns(pid: int) -> int:
    """Return the nanoseconds of CPU that all threads of a process have had, those that have ended too (Linux)."""
    return time.clock_gettime_ns(~pid << 3 | _CPU_OF_PROCESS)
