"""Components in process: restored and fresh instances here, and wasmtime's own component API with the same file.

usage: python -m benchmarks.components FILE [REQUESTS]
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import wasmtime
from wasmtime import component as api

from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.components.module import ComponentModule
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits

HOST = "starlette-wasm:edge/host@0.1.0"
"""What functions of the world edge may import."""
REQUEST = json.dumps({"path": "/x", "method": "GET", "headers": {}, "query": {}, "body": None})


async def here(module: ComponentModule, requests: int, *, restore: bool) -> list[float]:
    plan = ComponentPlan(module, Limits(memory_pages=max(256, module.min_pages + 32), restore=restore))
    found = []
    for _ in range(requests):
        begin = time.perf_counter()
        outcome = await ComponentInvocation(plan, REQUEST.encode()).run(time.monotonic() + 30, nullcontext)
        found.append(time.perf_counter() - begin)
        assert outcome.end is End.OK, outcome
        await asyncio.sleep(0)  # what is kept is restored once the answer is out
    return found


def theirs(component: bytes, requests: int) -> list[float]:
    config = wasmtime.Config()
    config.wasm_tail_call = True
    engine = wasmtime.Engine(config)
    loaded, linker, found = api.Component(engine, component), api.Linker(engine), []
    with linker.root() as root, root.add_instance(HOST) as host:
        for name in ("call", "log"):
            host.add_func(name, not_called)
    for _ in range(requests):
        begin = time.perf_counter()
        store = wasmtime.Store(engine)
        function = linker.instantiate(store, loaded).get_func(store, "handle")
        assert function is not None
        assert function(store, REQUEST)
        function.post_return(store)
        del store
        found.append(time.perf_counter() - begin)
    return found


def not_called(*_: object) -> None:
    raise AssertionError("the functions that are measured ask the host for nothing")


def main() -> None:
    component, requests = Path(sys.argv[1]).read_bytes(), int((sys.argv[2:] or ["200"])[0])
    engine = Engine.shared(EngineConfig())
    module = ComponentModule(engine, *compile_component(engine.ptr, component))
    for name, times in (
        ("restored", asyncio.run(here(module, requests, restore=True))),
        ("fresh", asyncio.run(here(module, requests, restore=False))),
        ("wasmtime's component API", theirs(component, requests)),
    ):
        print(f"{name}: {statistics.median(times) * 1e6:.0f} us")


if __name__ == "__main__":
    main()
