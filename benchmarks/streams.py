"""Bodies streamed through a wasi:http handler and a native StreamingResponse: MiB a second, CPU, memory of the server.

usage: python -m benchmarks.streams [ROUNDS]

One uvicorn serves both, in a process of its own. The figures are medians of interleaved rounds, 5 by default. CPU is
that of the server, native / handler: other load disturbs it less than the throughput. The memory is by how much the
server's largest was more after all rounds of a kind than before them.
"""

from __future__ import annotations

import asyncio
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from starlette_wasm import WasmMiddleware, WasmSettings

GUEST = Path(__file__).parents[1] / "tests" / "guests" / "components" / "http_stream.wasm"
MIB = 1 << 20
PIECE = bytes(64 << 10)
SIZES = (1, 64)
_REPEATED = {1: 20, 64: 1}
"""Requests of a round, by their size."""
KINDS = ("download", "upload")


async def download(request: Request) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(request.path_params["size"] // len(PIECE)):
            yield PIECE

    return StreamingResponse(pieces())


async def upload(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(sum([len(piece) async for piece in request.stream()])))


def app(folder: Path) -> Starlette:
    home = folder / "functions" / "stream" / "v1"
    home.mkdir(parents=True)
    (home / "stream.wasm").write_bytes(GUEST.read_bytes())
    limits = {"executionTimeoutMs": 60_000, "maxRequestBytes": 1 << 30, "maxResponseBytes": 1 << 30}
    (folder / "p.yaml").write_text(yaml.safe_dump(limits))
    rules = [{"pathPattern": path, "functionName": "stream", "policy": "p"} for path in ("/download/{n}", "/upload")]
    config = {"functionsDir": str(folder / "functions"), "policiesDir": str(folder), "rules": rules}
    settings = WasmSettings(cache_dir=folder / "aot", canary_url="sqlite://")
    routes = [Route("/native/download/{size:int}", download), Route("/native/upload", upload, methods=["POST"])]
    return Starlette(routes=routes, middleware=[Middleware(WasmMiddleware, config=config, settings=settings)])


async def serve(port: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        await uvicorn.Server(uvicorn.Config(app(Path(folder)), port=port, log_level="error")).serve()


def ask(port: int, prefix: str, kind: str, size: int) -> float:
    """Return the MiB a second of one request."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        begin = time.perf_counter()
        if kind == "upload":
            head = f"POST {prefix}/upload HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
            connection.sendall(head.encode())
            for _ in range(size // len(PIECE)):
                connection.sendall(PIECE)
        else:
            head = f"GET {prefix}/download/{size} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode())
        first = connection.recv(1 << 18)
        assert b" 200 " in first[:20], first[:200]
        received = len(first)
        while data := connection.recv(1 << 18):
            received += len(data)
        took = time.perf_counter() - begin
        assert kind == "upload" or received >= size
        return size / MIB / took


def cpu(process: int) -> float:
    """Return the seconds of CPU that a process has had."""
    return time.clock_gettime((~process << 3) | 2)  # as clock_getcpuclockid() has it: finer than /proc/PID/stat


def memory(process: int) -> int:
    """Return the most that a process has had, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1])


def compare(process: int, port: int, kind: str, size: int, rounds: int) -> str:
    """Measure both sides with bodies of so many MiB."""
    before, found = memory(process), {"": [], "/native": []}  # type: dict[str, list[tuple[float, float]]]
    for _ in range(rounds):
        for prefix, measured in found.items():
            begin = cpu(process)
            rates = [ask(port, prefix, kind, size * MIB) for _ in range(_REPEATED[size])]
            measured.append((statistics.median(rates), (cpu(process) - begin) / len(rates)))
    (ours, our_cpu), (native, their_cpu) = (map(statistics.median, zip(*each, strict=True)) for each in found.values())
    rates = f"handler {ours:.0f} MiB/s, native {native:.0f}, {ours / native:.2f}"
    times = f"CPU {our_cpu * 1e3:.2f} and {their_cpu * 1e3:.2f} ms, {their_cpu / our_cpu:.2f}"
    return f"{kind} {size} MiB: {rates}; {times}; +{memory(process) - before} KiB"


def main(rounds: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.streams", "--serve", str(port)])
    try:
        for kind in KINDS:
            _warm_up(port, kind)
        for kind in KINDS:
            for size in SIZES:
                print(compare(server.pid, port, kind, size, rounds))
    finally:
        server.terminate()
        server.wait(30)


def _warm_up(port: int, kind: str) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            for prefix in ("", "/native"):
                ask(port, prefix, kind, MIB)
            return
        except ConnectionError:
            assert time.monotonic() < until
            time.sleep(0.1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(int(sys.argv[2])))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
