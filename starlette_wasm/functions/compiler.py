"""Compiles modules in a process of its own, under limits: wasmtime promises nothing about what a module may cost.

The process gets bytes and gives bytes; reading the module's file, the cache and its key stay here.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from multiprocessing.spawn import get_executable
from pathlib import Path
from typing import IO, Any

from ..engine.compile import InvalidModuleError, UnsupportedModuleError, one_line
from ..engine.processor import NATIVE, Processor
from .compile_limits import CompileLimits, CompilerError
from .load_cancellation import LoadCancellation

# Nothing of the site module runs: its paths come along.
_BOOTSTRAP = """\
import json, sys
sys.path[:] = json.loads(sys.stdin.buffer.readline())
from starlette_wasm.functions.compile_child import main
main()
"""
_FLAGS = ("-s", "-S", "-P")
_REQUEST_BYTES, _ANSWER_BYTES = 8, 16
_MOST_FACTS = 8 << 20
_MOST_CODE = 1 << 30
_LAST_WORDS = 8192
_ENDING = 5.0


class Compiler:
    """One process, started by the first module, and anew after one that ended it. Use it in one thread at a time."""

    def __init__(
        self,
        pooled: bool,
        limits: CompileLimits,
        stop: LoadCancellation | None = None,
        *,
        winch: bool = False,
        processor: Processor = NATIVE,
    ) -> None:
        self._engine = {"pooled": pooled, "winch": winch, "processor": processor}
        self._limits = limits
        self._stop = stop or LoadCancellation()
        self._process: subprocess.Popen[bytes] | None = None
        self._late = False
        self.cpu_s = 0.0
        """Seconds of CPU time that the last module took; the limit, if its process has not reported it."""

    def compile(self, guest: bytes) -> tuple[bytes, dict[str, Any]]:
        """Compile a module. Return its code, and what the host must know of it.

        Raises InvalidModuleError, UnsupportedModuleError, CompilerError and LoadCancelled.
        """
        self.cpu_s = 0.0
        self._stop.check()
        process = self._process = self._process or self._start()
        self._late = False
        timer = threading.Timer(self._limits.wall_s, self._end, [process])
        timer.daemon = True
        timer.start()
        try:
            meta, code = self._exchange(process, guest)
        except (OSError, EOFError):
            self.cpu_s = float(self._limits.cpu_s)
            failure = self._failure(process)
            self._stop.check()
            raise failure from None
        finally:
            timer.cancel()
            timer.join()
        self.cpu_s = meta["cpu_s"]
        if self._late:  # it was killed just as it had answered
            self.close()
        if "invalid" in meta:
            raise InvalidModuleError(meta["invalid"])
        if "unsupported" in meta:
            raise UnsupportedModuleError(*meta["unsupported"])
        return code, meta["facts"]

    def close(self) -> None:
        """End the process. The compiler can be used again."""
        process, self._process = self._process, None
        if process is None:
            return
        self._stop.discard(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):  # what could not be written before is of no interest
                _there(stream).close()
        try:
            process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        executable = get_executable()
        if getattr(sys, "frozen", False) or not executable:
            raise CompilerError(
                "no process can be started to compile in: sys.executable is not a Python",
                "name one with multiprocessing.set_executable(), or fill the AOT cache with starlette-wasm compile",
            )
        try:
            process = subprocess.Popen(
                [executable, *_FLAGS, "-c", _BOOTSTRAP],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise CompilerError(
                f"no process can be started to compile in: {error.strerror}",
                "raise the limit on processes or files, or fill the AOT cache with starlette-wasm compile",
            ) from None
        self._stop.add(process)
        paths = [*sys.path, str(Path(__file__).parents[2])]  # last: this package, however the parent has found it
        settings = {**self._engine, "cpu_s": self._limits.cpu_s, "memory": self._limits.memory}
        lines = (json.dumps(each, default=str).encode() + b"\n" for each in (paths, settings))
        with contextlib.suppress(OSError):  # it has ended: the first module will show it
            _there(process.stdin).write(b"".join(lines))
        return process

    def _exchange(self, process: subprocess.Popen[bytes], guest: bytes) -> tuple[dict[str, Any], bytes]:
        stdin, stdout = _there(process.stdin), _there(process.stdout)
        stdin.write(len(guest).to_bytes(_REQUEST_BYTES, "little"))
        stdin.write(guest)
        stdin.flush()
        head = _read(stdout, _ANSWER_BYTES)
        facts, code = (int.from_bytes(head[at : at + 8], "little") for at in (0, 8))
        if facts > _MOST_FACTS or code > _MOST_CODE:
            process.kill()
            raise EOFError
        return json.loads(_read(stdout, facts)), _read(stdout, code)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._late = True
        process.kill()

    def _failure(self, process: subprocess.Popen[bytes]) -> CompilerError:
        """Explain why the process has ended, which is reaped."""
        stderr = _there(process.stderr)
        self._stop.discard(process)
        try:
            code = process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        said = stderr.read(_LAST_WORDS).decode("utf-8", "replace")
        self.close()
        limits = self._limits
        if self._late:
            return _too_much(f"{limits.wall_s:g} s (compile_timeout_s)", "compile_timeout_s")
        if code == -signal.SIGXCPU:
            return _too_much(f"{limits.cpu_s} s of CPU time (compile_cpu_s)", "compile_cpu_s")
        if "memory allocation of" in said or "MemoryError" in said or "cannot allocate memory" in said.lower():
            return _too_much(f"{limits.memory >> 20} MiB of memory (compile_memory_mb)", "compile_memory_mb")
        if code == -signal.SIGKILL:
            return CompilerError("the process that compiled it was killed", "look whether the machine lacks memory")
        lines = [line for line in said.splitlines() if line.strip()]
        last = f": {one_line(lines[-1])[:200]}" if lines else ""
        return CompilerError(
            f"the process that compiled it ended with {code}{last}",
            f"see whether {get_executable()!r} is the Python that runs the app; "
            "multiprocessing.set_executable() names another",
        )


def _too_much(limit: str, setting: str) -> CompilerError:
    return CompilerError(
        f"compiling it takes more than {limit}",
        f"split its large functions, optimise it for size, or raise {setting} where it is trusted",
    )


def _there(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
