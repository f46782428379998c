"""One component in a process of its own: how long loading takes, and what memory it needs. For component_goals.py.

usage: python -m benchmarks.component_load CACHE [FILE]

Beside it there is a small core module, which is all without FILE. Prints JSON: milliseconds that the start took with
the code in the AOT cache, resident memory of the process when it was asked twenty times, and how much of that is of
files; in MB.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
from pathlib import Path

from starlette_wasm import EdgeRequest, WasmRuntime, WasmSettings

from .layout import GUESTS, add_function


async def measure(functions: Path, cache: Path, name: str) -> dict[str, float]:
    (functions.parent / "policy.yaml").write_text("maxMemoryPages: 256\n")
    config = {"functionsDir": str(functions), "policiesDir": str(functions.parent)}
    runtime = WasmRuntime(config, settings=WasmSettings(cache_dir=cache))
    begin = time.perf_counter()
    await runtime.start()
    took = (time.perf_counter() - begin) * 1e3
    for _ in range(20):
        await runtime.invoke(name, EdgeRequest(), policy="policy")
        await asyncio.sleep(0.01)
    found = {"ms": took, "resident": resident("VmRSS"), "files": resident("RssFile")}
    await runtime.close()
    return found


def resident(name: str) -> float:
    """Return a line of this process's status, in MB."""
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def main() -> None:
    cache, *component = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as temp:
        functions = Path(temp) / "functions"
        add_function(functions, "small", (GUESTS / "job.wasm").read_bytes())
        for each in component:
            add_function(functions, "large", each.read_bytes())
        print(json.dumps(asyncio.run(measure(functions, cache, "large" if component else "small"))))


if __name__ == "__main__":
    main()
