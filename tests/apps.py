"""Configs over the guests in ``tests/guests``, and apps around them."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from starlette_wasm import WasmMiddleware, WasmSettings
from starlette_wasm.engine import capi

GUESTS = Path(__file__).parent / "guests"
_PROTOCOLS = {"wws": "wws", "cgi_env": "cgi", "cgi_redirect": "cgi"}
_cache = tempfile.mkdtemp(prefix="starlette-wasm-tests-")
atexit.register(shutil.rmtree, _cache, ignore_errors=True)

JSON = dict[str, Any]


def settings(**given: Any) -> WasmSettings:
    """Settings with an AOT cache that the tests of a session share, and canaries in memory."""
    return WasmSettings(**{"cache_dir": _cache, "canary_url": "sqlite://", **given})


def add_function(folder: Path, name: str, guest: str | None = None, version: str = "1", **manifest: Any) -> Path:
    """Put a guest under ``folder`` as a version of the function ``name``."""
    guest = guest or name
    home = folder / "functions" / name / f"v{version}"
    home.mkdir(parents=True)
    shutil.copy(GUESTS / f"{guest}.wasm", home / f"{name}.wasm")
    if guest in _PROTOCOLS:
        manifest["protocol"] = _PROTOCOLS[guest]
    if manifest:
        (home / "function.yaml").write_text(yaml.safe_dump(manifest))
    return home / f"{name}.wasm"


def add_constant(folder: Path, name: str, stdout: bytes, version: str = "1") -> None:
    """A function that prints ``stdout``, whatever it is asked."""
    home = folder / "functions" / name / f"v{version}"
    home.mkdir(parents=True)
    (home / f"{name}.wasm").write_bytes(
        capi.assemble(
            f"""(module
              (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
              (memory (export "memory") {1 + (len(stdout) >> 15)})
              (data (i32.const 0) "{_escaped(struct.pack("<II", 16, len(stdout)))}")
              (data (i32.const 16) "{_escaped(stdout)}")
              (func (export "_start")
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
        )
    )


def add_flaky(folder: Path, name: str, stdout: bytes, failing: int, version: str = "1") -> None:
    """The same, but that it traps for ``failing`` of 256 requests, at random."""
    home = folder / "functions" / name / f"v{version}"
    home.mkdir(parents=True)
    (home / f"{name}.wasm").write_bytes(
        capi.assemble(
            f"""(module
              (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
              (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
              (memory (export "memory") 1)
              (data (i32.const 0) "{_escaped(struct.pack("<II", 16, len(stdout)))}")
              (data (i32.const 16) "{_escaped(stdout)}")
              (func (export "_start")
                (drop (call $random (i32.const 8) (i32.const 1)))
                (if (i32.lt_u (i32.load8_u (i32.const 8)) (i32.const {failing})) (then unreachable))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
        )
    )


def _escaped(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


def config(
    folder: Path,
    rules: Mapping[str, str | JSON] | None = None,
    *,
    functions: Iterable[str] = (),
    policies: Mapping[str, JSON] | None = None,
    **keys: Any,
) -> JSON:
    """A config whose ``rules`` map a pattern to a guest, or to the keys of a rule.

    All guests that it names are there, in version 1, and so are those in ``functions``.
    """
    listed = [
        {"pathPattern": pattern, **({"functionName": rule} if isinstance(rule, str) else rule)}
        for pattern, rule in (rules or {}).items()
    ]
    (folder / "functions").mkdir(parents=True, exist_ok=True)
    for name in {*functions, *(rule["functionName"] for rule in listed)}:
        if not (folder / "functions" / name).exists():
            add_function(folder, name)
    made: JSON = {"functionsDir": str(folder / "functions"), "rules": listed, **keys}
    if policies:
        (folder / "policies").mkdir(exist_ok=True)
        for name, policy in policies.items():
            (folder / "policies" / f"{name}.yaml").write_text(yaml.safe_dump(policy))
        made["policiesDir"] = str(folder / "policies")
    return made


def config_file(folder: Path, *args: Any, **kwargs: Any) -> Path:
    """The same as a file."""
    file = folder / "wasm.yaml"
    file.write_text(yaml.safe_dump(config(folder, *args, **kwargs)))
    return file


async def native(request: Request) -> Response:
    return PlainTextResponse(f"native {request.url.path}")


def app(wasm: Any, routes: Sequence[BaseRoute] = (), **kwargs: Any) -> Starlette:
    """A Starlette app with one WasmMiddleware; ``wasm`` is its config."""
    return Starlette(
        routes=list(routes),
        middleware=[Middleware(WasmMiddleware, config=wasm, settings=settings(**kwargs))],
    )


def client(app: Any) -> httpx.AsyncClient:
    """An httpx client whose transport runs no lifespan."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


async def eventually(condition: Callable[[], object], within: float = 60.0) -> float:
    """Wait until ``condition`` holds; gives the seconds that took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < within, "does not come true"
        await asyncio.sleep(0.005)
    return time.monotonic() - begin


def wait_until(condition: Callable[[], object], within: float = 60.0, what: Callable[[], object] = str) -> None:
    """Wait as eventually() does, without an event loop; ``what`` says how far it came."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < within, f"does not come true: {what()}"
        time.sleep(0.005)


def run(main: Coroutine[Any, Any, None], seconds: float = 240) -> None:
    """asyncio.run() that does not hang."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await main

    asyncio.run(bounded())
