"""What runs in the process that compiles: engine and linker, and nothing else of the package.

The first line on stdin is JSON, with what ``Settings`` names. Then come modules, each a length and its bytes, and
for each an answer goes to stdout: two lengths, JSON, and the compiled code.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import signal
import struct
import sys
import time
from typing import Any, BinaryIO, TypedDict

from ..engine import capi
from ..engine.binary import COMPONENT_PREAMBLE
from ..engine.compile import InvalidModuleError, UnsupportedModuleError, compile_guest
from ..engine.configuration import compiling_engine
from ..engine.processor import Processor

REQUEST = struct.Struct("<Q")
ANSWER = struct.Struct("<QQ")
_NO_MEMORY = "os error 12"  # ENOMEM, in Rust's words


class Settings(TypedDict):
    pooled: bool
    winch: bool
    processor: Processor
    cpu_s: int
    memory: int


def main() -> None:
    """Serve stdin until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not break an answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from the terminal: who started this process ends it too
    settings: Settings = json.loads(sys.stdin.buffer.readline())
    engine = compiling_engine(settings["pooled"], settings["winch"], settings["processor"])
    _limit(settings["memory"])
    serve(engine, settings["cpu_s"], sys.stdin.buffer, answers)


def serve(engine: int, cpu_s: int, requests: BinaryIO, answers: BinaryIO) -> None:
    """Compile one module after the other; each may use ``cpu_s`` seconds."""
    while head := requests.read(REQUEST.size):
        (size,) = REQUEST.unpack(head)
        _limit_cpu(cpu_s)
        begin = time.process_time()
        meta, code = _compile(engine, requests.read(size))
        text = json.dumps({**meta, "cpu_s": time.process_time() - begin}).encode()
        answers.write(ANSWER.pack(len(text), len(code)))
        answers.write(text)
        answers.write(code)
        answers.flush()


def _compile(engine: int, guest: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        if guest.startswith(COMPONENT_PREAMBLE):
            from ..components.compile import compile_component  # if there is none, it is not loaded

            code, facts = compile_component(engine, guest)
            return {"facts": facts}, code
        module, facts = compile_guest(engine, guest)
        try:
            return {"facts": facts}, capi.serialize_module(module)
        finally:
            capi.module_delete(module)
    except InvalidModuleError as error:
        return {"invalid": str(error)}, b""
    except UnsupportedModuleError as error:
        _check_memory(error)
        return {"unsupported": [error.problem, error.hint]}, b""
    except capi.EngineError as error:
        _check_memory(error)
        return {"unsupported": [str(error)]}, b""


def _check_memory(error: Exception) -> None:
    if _NO_MEMORY in str(error):
        raise MemoryError from None


def _limit(memory: int) -> None:
    """Limit this process: no core dumps, no files, little more address space; the first to go if memory is short."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    if sys.platform == "linux":
        with open("/proc/self/statm") as sizes:
            pages = int(sizes.read().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")


def _lower(limit: int, value: int) -> None:
    bounds = [each for each in (*resource.getrlimit(limit), value) if each != resource.RLIM_INFINITY]
    resource.setrlimit(limit, (min(bounds), min(bounds)))


def _limit_cpu(seconds: int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(usage.ru_utime + usage.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
