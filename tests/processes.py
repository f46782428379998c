"""Real uvicorn processes on free ports, ended by their pid."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from ports import free_port

ROOT = Path(__file__).parents[1]
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For each request over plain HTTP: else it would read the certificates of all authorities."""
SHORT = httpx.Limits(keepalive_expiry=1)
"""For a client that keeps connections: uvicorn closes them after 5 seconds, and perhaps just as the client writes."""
SERVED = """\
import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from starlette_wasm import WasmMiddleware, WasmRoute, WasmRuntime, WasmSettings, wasm_endpoint, wasm_route

runtime = WasmRuntime("wasm.yaml")


async def stats(request):
    return JSONResponse(runtime.stats() | {"pid": os.getpid(), "state": runtime.state})


async def through(request, call_next):
    return await call_next(request)


@wasm_route("/handler/{rest:path}", function="spin", policy="long")
async def handler(request, call):
    return await call(request)


inner = Starlette(
    routes=[WasmRoute("/spin", function="spin", policy="long")],
    middleware=[Middleware(WasmMiddleware, config="wasm.yaml")],
)
app = Starlette(
    routes=[
        Route("/stats", stats),
        WasmRoute("/route/spin", function="spin", policy="long"),
        WasmRoute("/route/sleep", function="sleep60", policy="long"),
        Route("/endpoint/spin", wasm_endpoint("spin", policy="long")),
        handler,
        Mount("/inner", app=inner),
    ],
    middleware=[Middleware(BaseHTTPMiddleware, dispatch=through), Middleware(WasmMiddleware, runtime=runtime)],
)
"""

PLAIN = """\
from starlette.applications import Starlette
from starlette.middleware import Middleware

from starlette_wasm import WasmMiddleware

app = Starlette(middleware=[Middleware(WasmMiddleware, config="wasm.yaml")])
"""


class Server:
    """A uvicorn process that serves ``app``, with ``folder`` as its working directory."""

    def __init__(self, folder: Path, log: Path, app: str, *arguments: str, **environ: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        command = [sys.executable, "-m", *self.command(app), *arguments]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(folder), "RUST_BACKTRACE": "0", **environ},
                stdout=output,
                stderr=output,
            )

    def command(self, app: str) -> list[str]:
        # On a loaded machine a worker takes more than the usual 5 seconds to answer its parent, which would end it.
        return ["uvicorn", app, "--port", str(self.port), "--timeout-worker-healthcheck", "300"]

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_until_ready(self, within: float = 180) -> None:
        self.wait(lambda: self.answers() or self.process.poll() is not None, within)
        assert self.process.poll() is None, self.log

    def answers(self, path: str = "/health", status: int = 200) -> bool:
        """Whether it serves."""
        try:
            return httpx.get(f"{self.url}{path}", timeout=30, verify=TLS).status_code == status
        except httpx.TransportError:
            return False

    def wait(self, condition: Callable[[], object], within: float) -> float:
        """Wait until ``condition`` holds; gives the seconds that took."""
        begin = time.monotonic()
        while not condition():
            assert time.monotonic() - begin < within, self.log
            time.sleep(0.02)
        return time.monotonic() - begin

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, verify=TLS, **kwargs)

    def post(self, path: str, **kwargs: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=30, verify=TLS, **kwargs)

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self.get("/stats").json()
        return stats

    def ask(self, path: str) -> socket.socket:
        """Send a request and do not wait for the answer."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
        return connection

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self, within: float) -> int:
        """The exit code, as the shell would not have it: minus the signal."""
        return self.process.wait(within)

    def close(self) -> None:
        stop(self.process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force if it does not end by itself."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Gunicorn(Server):
    """The same under gunicorn, with uvicorn's workers."""

    def command(self, app: str) -> list[str]:
        bind = f"127.0.0.1:{self.port}"
        return ["gunicorn", app, "--worker-class", "uvicorn_worker.UvicornWorker", "--bind", bind]


class Hypercorn(Server):
    """The same under hypercorn."""

    def command(self, app: str) -> list[str]:
        return ["hypercorn", app, "--bind", f"127.0.0.1:{self.port}"]
