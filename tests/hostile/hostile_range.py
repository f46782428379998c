"""Where hostile guests run: their modules built, an app that serves them beside healthy ones, and the verdicts."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from hostile_manifest import GUESTS, Answer, Guest, Refused, frame, policies
from hostile_wat import assemble, calling, printing
from starlette.applications import Starlette
from starlette.middleware import Middleware

from starlette_wasm import WasmError, WasmMiddleware, WasmRuntime, WasmSettings

HERE = Path(__file__).parent
SOURCES = HERE / "guests"
HEALTHY = ("hello", "echo")
_ROOT = HERE.parents[1]
_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


# Building


def module_of(guest: Guest, port: int = 9) -> bytes:
    """The bytes of a guest's module. ``port`` is that of the canary server."""
    if guest.wasm is not None:
        return guest.wasm
    if guest.text is not None:
        return assemble(guest.text)
    if guest.stdout is not None:
        return assemble(printing(guest.stdout))
    if guest.call is not None:
        operation, payload = guest.call
        if b"@PORT@" in payload:
            text = payload[4:].replace(b"@PORT@", str(port).encode())
            payload = frame(text)
        return assemble(calling(operation, payload))
    if (SOURCES / f"{guest.name}.c").exists():
        return compile_c(guest.name).read_bytes()
    return assemble((SOURCES / f"{guest.name}.wat").read_text())


def compile_c(name: str) -> Path:
    """The module of ``guests/<name>.c``, built once and kept between runs."""
    source = SOURCES / f"{name}.c"
    header = _ROOT / "sdk" / "c" / "edge.h"
    digest = hashlib.sha256(source.read_bytes() + header.read_bytes() + version("ziglang").encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "starlette-wasm" / "hostile"
    module = cache / f"{name}-{digest[:16]}.wasm"
    if not module.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = module.with_suffix(f".{os.getpid()}")
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-Os", "-s"]
        command += ["-Wl,-z,stack-size=131072", "-I", str(header.parent), "-o", str(made), str(source)]
        subprocess.run(command, check=True)
        made.replace(module)
    return module


def add(folder: Path, name: str, wasm: bytes, protocol: str = "edge") -> None:
    home = folder / "functions" / name / "v1"
    home.mkdir(parents=True)
    (home / f"{name}.wasm").write_bytes(wasm)
    if protocol != "edge":
        (home / "function.yaml").write_text(f"protocol: {protocol}\n")


def plant(folder: Path) -> tuple[Path, Path]:
    """A directory to read, one to write to, both full of traps, and a secret beside them."""
    (folder / "secret.txt").write_text("TOP SECRET")
    data, scratch = folder / "data", folder / "scratch"
    for tree in (data, scratch):
        (tree / "sub").mkdir(parents=True)
        (tree / "a.txt").write_text("hello")
        (tree / "sub" / "b.txt").write_text("below")
        for link, target in {
            "link-out": "../secret.txt",
            "link-abs": "/etc/passwd",
            "link-up": "..",
            "link-root": "/",
            "link-proc": "/proc/self",
            "to-fifo": "fifo",
            "loop": "loop",
        }.items():
            (tree / link).symlink_to(target)
        os.mkfifo(tree / "fifo")
        here = os.getcwd()
        os.chdir(tree)  # the path of a socket is short
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("socket")
        finally:
            os.chdir(here)
    (data / "many").mkdir()
    for i in range(3000):
        (data / "many" / f"entry-{i:05}").touch()
    return data, scratch


def config(folder: Path, guests: tuple[Guest, ...], *, port: int = 9, stop_ms: int = 100) -> dict[str, Any]:
    """A config that serves each guest at ``/guest/<name>``, and the healthy functions at ``/<name>``."""
    data, scratch = plant(folder)
    (folder / "policies").mkdir()
    for name, policy in policies(str(data), str(scratch), stop_ms).items():
        (folder / "policies" / f"{name}.yaml").write_text(yaml.safe_dump(policy))
    rules = []
    for guest in guests:
        add(folder, guest.name, module_of(guest, port), guest.protocol)
        rules.append({"pathPattern": f"/guest/{guest.name}", "functionName": guest.name, "policy": guest.policy})
    for name in HEALTHY:
        add(folder, name, (HERE.parent / "guests" / f"{name}.wasm").read_bytes())
        rules.append({"pathPattern": f"/{name}", "functionName": name, "policy": "plenty"})
    return {"functionsDir": str(folder / "functions"), "policiesDir": str(folder / "policies"), "rules": rules}


def settings(folder: Path, **given: Any) -> WasmSettings:
    urls = {"kv_url": f"sqlite:///{folder}/kv.db", "queue_url": f"sqlite:///{folder}/queue.db"}
    return WasmSettings(**{"aot_cache": False, **urls, **given})


# Serving


@dataclass
class Range:
    """An app with hostile and healthy functions, in this process."""

    runtime: WasmRuntime
    client: httpx.AsyncClient
    wrong: list[str] = field(default_factory=list)
    shots: int = 0
    healthy: int = 0
    took: dict[str, float] = field(default_factory=dict)
    """The seconds of each guest's last run."""

    async def shoot(self, guest: Guest) -> None:
        """One request to a guest; what is not as the manifest wants it goes to ``wrong``."""
        self.shots += 1
        assert isinstance(guest.want, Answer)
        begin = time.perf_counter()
        try:
            response = await self.client.post(f"/guest/{guest.name}", content=b"request", timeout=60)
        except Exception as error:  # of the app: httpx's transport passes it on
            self.wrong.append(f"{guest.name}: {type(error).__name__}: {error}")
            return
        self.took[guest.name] = time.perf_counter() - begin
        if problem := verdict(guest.want, response):
            self.wrong.append(f"{guest.name}: {problem}")

    async def ask_healthy(self, number: int) -> None:
        """One request to a healthy function, whose answer must be right."""
        self.healthy += 1
        if number % 2:
            response = await self.client.get("/hello", timeout=60)
            right = response.text == "hello"
        else:
            response = await self.client.post("/echo", content=f"marker {number}", timeout=60)
            right = json.loads(response.text)["body"] == f"marker {number}"
        if response.status_code != 200 or not right:
            self.wrong.append(f"a healthy function: {response.status_code} {response.text[:200]}")

    @staticmethod
    async def warm() -> None:
        """All threads that asyncio may have, which decode large answers, have begun."""
        await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.1) for _ in range(32)))

    async def quiet(self) -> None:
        """Wait until nothing runs; a slot that does not come back goes to ``wrong``."""
        for _ in range(2000):
            stats = self.runtime.stats()
            if not any(stats[key] for key in ("running", "live", "busy", "waiting")):
                return
            await asyncio.sleep(0.005)
        self.wrong.append(f"slots are lost: {stats}")


@asynccontextmanager
async def serving(folder: Path, guests: tuple[Guest, ...], **given: Any) -> AsyncIterator[Range]:
    """``given``: ``port`` and ``stop_ms`` of config(); the rest are settings."""
    options = {key: given.pop(key) for key in ("port", "stop_ms") if key in given}
    runtime = WasmRuntime(config(folder, guests, **options), settings(folder, **given))
    async with runtime:
        app = Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield Range(runtime, client)


RUNNING = tuple(guest for guest in GUESTS if isinstance(guest.want, Answer))
REFUSED = tuple(guest for guest in GUESTS if isinstance(guest.want, Refused))


# Verdicts


def verdict(want: Answer, response: httpx.Response) -> str:
    """What is wrong with an answer, "" where nothing is."""
    kind = response.headers.get("content-type", "")
    document = response.json() if kind == "application/problem+json" else {}
    got = f"{response.status_code} {document.get('type', '')} {document.get('title', response.text)[:300]!r}"
    if (response.status_code, document.get("type", "")) != (want.status, want.type):
        return f"got {got}, wanted {want.status} {want.type}"
    if want.holds not in document.get("title", response.text):
        return f"got {got}, wanted {want.holds!r} in it"
    for name, value in response.headers.raw:
        if any(char in name + value for char in b"\r\n\0") or name.lower().decode() in _HOP_BY_HOP:
            return f"header {name!r}: {value!r}"
    lengths = response.headers.get_list("content-length")
    if lengths != [str(len(response.content))]:
        return f"content-length is {lengths}, the body has {len(response.content)} bytes"
    if "forged" in response.headers["x-request-id"]:
        return "the guest chose x-request-id"
    return ""


async def refusal(folder: Path, guest: Guest) -> str:
    """What is wrong with how a module is refused, "" where nothing is."""
    assert isinstance(guest.want, Refused)
    shutil.rmtree(folder / "functions", ignore_errors=True)
    try:
        add(folder, guest.name, module_of(guest), guest.protocol)
        rules = [{"pathPattern": "/guest", "functionName": guest.name, "policy": guest.policy}]
        wasm = {"functionsDir": str(folder / "functions"), "policiesDir": str(folder / "policies"), "rules": rules}
        runtime = WasmRuntime(wasm, settings(folder))
        try:
            await runtime.start()
        except WasmError as error:
            if type(error).__name__ != guest.want.error or guest.want.holds not in str(error):
                return f"{type(error).__name__}: {str(error)[:300]}; wanted {guest.want.error} {guest.want.holds!r}"
            return ""
        await runtime.close()
        return "it was taken"
    finally:
        shutil.rmtree(folder / "functions", ignore_errors=True)


def used(pid: int | None = None) -> tuple[int, int, int]:
    """Resident bytes, descriptors and threads of a process, this one by default.

    Threads without those of tokio's pool, which wasmtime uses for files: they come with the load, and end when they
    were idle for ten seconds. Ticks of the epoch are threads for a moment: the least of a few looks.
    """
    process = psutil.Process(pid)
    threads = min(len(_threads(process.pid)) for _ in range(5))
    return process.memory_info().rss, process.num_fds(), threads


def _threads(pid: int) -> list[str]:
    names = []
    for file in Path(f"/proc/{pid}/task").glob("*/comm"):
        with suppress(OSError):  # it has ended
            names.append(file.read_text().strip())
    return [name for name in names if name != "tokio-rt-worker"]
