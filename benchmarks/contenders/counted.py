"""Run under callgrind by groups/instructions.py: calls of each contender, with a mark between them.

The ASGI apps are called without a server, so that what is counted is theirs.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette

from starlette_wasm import EdgeRequest, WasmRuntime, WasmSettings

from . import MARK, native, ours
from .calls import Loop

_mark = getattr(ctypes.CDLL(None), MARK)


def main() -> None:
    calls = int(sys.argv[1])
    loop = Loop()
    settings = WasmSettings(max_instances=3)  # valgrind has little address space; no cache, for it is another CPU
    runtime = WasmRuntime(ours.config(), settings.model_copy(update={"aot_cache": False}))
    loop.run(runtime.start())
    app = ours.make_app(runtime)
    contenders: dict[str, Callable[[], Awaitable[object]]] = {
        "invoke": lambda: runtime.invoke("job", EdgeRequest(), policy="bench"),
        "middleware": lambda: _ask(app, "/job"),
        "route": lambda: _ask(app, "/route"),
        "native": lambda: _ask(native.app, "/job"),
    }

    async def some(name: str, count: int) -> None:
        for _ in range(count):
            await contenders[name]()

    gc.disable()
    for name in contenders:
        loop.run(some(name, 20))
        _mark((ctypes.c_ushort * 7)())
        loop.run(some(name, calls))
        _mark((ctypes.c_ushort * 7)())


async def _ask(app: Starlette, path: str) -> None:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"accept", b"*/*")],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "state": {},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        assert message.get("status", 200) == 200

    await app(scope, receive, send)


main()
