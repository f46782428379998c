"""What a server's process goes through beside requests: forks, signals, crash reporters, few descriptors."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
from apps import GUESTS, config_file
from processes import SERVED, Gunicorn, Server

Start = Callable[..., Server]

PRELOADED = """
import asyncio
import faulthandler

from starlette_wasm import EdgeRequest


async def before_the_fork():
    async with WasmRuntime("wasm.yaml") as mine:
        answer = await mine.invoke("hello", EdgeRequest(path="/", method="GET"))
        assert answer.status_code == 200
        await asyncio.sleep(0.01)


asyncio.run(before_the_fork())
"""
FAULTHANDLER_LATE = """
import faulthandler


async def enable(request):
    faulthandler.enable()
    return JSONResponse(faulthandler.is_enabled())


app.router.routes.append(Route("/enable", enable))
"""


def prepare(folder: Path, more: str = "") -> None:
    config_file(
        folder,
        {
            "/hello": "hello",
            "/trap": "trap",
            "/recurse": "recurse",
            "/spin": {"functionName": "spin", "policy": "long"},
        },
        functions=["sleep60"],
        policies={"long": {"executionTimeoutMs": 600_000}},
        exposeEndpoints=True,
    )
    (folder / "hygiene.py").write_text(SERVED + more)


def pids(server: Server, count: int, but: frozenset[int] = frozenset()) -> set[int]:
    """The processes that answer, once there are so many."""
    found: set[int] = set()

    def all_answer() -> bool:
        with suppress(httpx.TransportError):
            assert server.get("/hello").text == "hello"
            found.add(server.stats()["pid"])
        return len(found - but) == count

    server.wait(all_answer, 180)
    return found - but


def test_gunicorn_with_preload_forks_an_engine_that_ran(serve: Start, tmp_path: Path) -> None:
    """And its workers compile for themselves, as there is no cache; the master reaps children in a handler."""
    prepare(tmp_path, PRELOADED)
    server = serve(
        tmp_path, "hygiene:app", "--preload", "--workers", "2", "--graceful-timeout", "20", "--timeout", "120",
        kind=Gunicorn, STARLETTE_WASM_AOT_CACHE="false",
    )  # fmt: skip
    first = pids(server, 2)
    assert server.process.pid not in first
    assert server.get("/trap", params={"mode": "oob"}).status_code == 500
    killed = min(first)
    os.kill(killed, signal.SIGKILL)
    assert len(pids(server, 1, frozenset(first))) == 1
    workers = psutil.Process(server.process.pid).children(recursive=True)
    server.terminate()
    assert server.ended(180) == 0
    assert not [each for each in workers if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    for word in ("panicked", "Fatal", "SIGABRT", "SIGSEGV"):
        assert word not in server.log


def test_traps_stay_errors_wherever_faulthandler_is_enabled_and_an_interrupt_ends_the_server(
    serve: Start, tmp_path: Path
) -> None:
    prepare(tmp_path, FAULTHANDLER_LATE)
    server = serve(tmp_path, "hygiene:app", PYTHONFAULTHANDLER="1")
    for _ in range(2):
        for path in ("/trap?mode=oob", "/trap?mode=div0", "/recurse"):
            assert server.get(path).status_code == 500
        assert server.get("/enable").json() is True
    server.process.send_signal(signal.SIGINT)
    assert server.ended(180) in (0, -signal.SIGINT, 130)
    assert "Fatal" not in server.log
    assert "Application shutdown complete." in server.log


def test_a_server_that_ran_out_of_descriptors_serves_again_when_there_are_some(serve: Start, tmp_path: Path) -> None:
    prepare(tmp_path)
    server = serve(tmp_path, "hygiene:app", "--log-level", "critical")
    process = psutil.Process(server.process.pid)
    assert server.get("/hello").text == "hello"
    most = process.num_fds() + 5
    process.rlimit(psutil.RLIMIT_NOFILE, (most, most))
    connections = []
    try:
        for _ in range(20):
            connections.append(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            connections[-1].sendall(b"GET /spin HTTP/1.1\r\nhost: test\r\n\r\n")
        server.wait(lambda: process.num_fds() >= most, 180)
        assert server.process.poll() is None
    finally:
        for connection in connections:
            connection.close()

    def serves() -> bool:
        with suppress(httpx.TransportError):
            return server.get("/hello").text == "hello" and server.stats()["live"] == 0
        return False

    server.wait(serves, 180)
    server.terminate()
    assert server.ended(180) == -signal.SIGTERM


def test_a_compile_without_descriptors_to_spare_is_an_error(tmp_path: Path) -> None:
    code = f"""
import resource, os
from pathlib import Path
from starlette_wasm.functions.compiler import *
guest = Path({str(GUESTS / "hello.wasm")!r}).read_bytes()
it = Compiler(True, CompileLimits())
bounds = resource.getrlimit(resource.RLIMIT_NOFILE)
free = os.dup(0); os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + 3, bounds[1]))
try:
    it.compile(guest)
except CompilerError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_NOFILE, bounds)
print(len(it.compile(guest)[0]) > 10_000)
it.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    problem, works = done.stdout.splitlines()
    assert problem.startswith("no process can be started to compile in: Too many open files; raise the limit")
    assert works == "True"


def test_a_compiler_does_not_outlive_the_server_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from starlette_wasm.functions.compiler import *
it = Compiler(True, CompileLimits())
it.compile(Path({str(GUESTS / "hello.wasm")!r}).read_bytes())
print(it._process.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait(180)
        psutil.wait_procs([child], timeout=60)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
