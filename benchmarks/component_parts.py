"""Where the CPU of a warm component's request goes, without a server: the call of C, and restoring the instance.

usage: python -m benchmarks.component_parts [--requests N] FILE ...
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.compile import compile_component
from starlette_wasm.components.fast_path import ComponentFastPath
from starlette_wasm.components.module import ComponentModule
from starlette_wasm.engine.engine import Engine, EngineConfig
from starlette_wasm.engine.fast_path import Speech, Started
from starlette_wasm.engine.plan import Limits
from starlette_wasm.protocols.edge import EdgeProtocol

_SCOPE: dict[str, Any] = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "query_string": b"",
    "path": "/echo",
    "raw_path": b"/echo",
    "headers": [(b"host", b"127.0.0.1:8000"), (b"accept", b"*/*")],
}


async def parts_of(file: Path, requests: int) -> tuple[list[float], list[float]]:
    """Return the microseconds of each call of C, and of restoring after each."""
    engine = Engine.shared(EngineConfig(max_instances=20))
    module = ComponentModule(engine, *compile_component(engine.ptr, file.read_bytes()))
    plan = ComponentPlan(module, Limits(time=60))
    protocol = "http" if module.makes_http_calls else "edge"
    path = ComponentFastPath(plan, Speech(protocol, EdgeProtocol().end("f", "1", 60_000)), ())
    called: list[float] = []
    restored: list[float] = []
    for _ in range(requests):
        plan.memory.cpu_score = 0  # it stays on the event loop, whatever else the machine does
        begin = time.thread_time()
        found = path.answer(_SCOPE, "/echo", {}, None, "", None, None)
        called.append((time.thread_time() - begin) * 1e6)
        settled = None if found is None or len(found) == 3 else path.settled(found)
        if isinstance(settled, Started):
            settled.invocation.drop()
        kept = next((each for each in module.keeper.kept if each.dirty), None)
        if kept is not None and kept.claim():
            begin = time.thread_time()
            kept.restore()
            restored.append((time.thread_time() - begin) * 1e6)
            kept.state.claimed = False
        await asyncio.sleep(0)
    return called, restored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("file", nargs="+", type=Path)
    given = parser.parse_args()
    for file in given.file:
        called, restored = asyncio.run(parts_of(file, given.requests))
        figures = ", ".join(
            f"{name} {min(found):.1f} us (median {statistics.median(found):.1f})"
            for name, found in (("call", called), ("restore", restored))
        )
        print(f"{file.name}: {figures}")


if __name__ == "__main__":
    main()
