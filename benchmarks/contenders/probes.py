"""What is read off this package in a process of its own: cold starts, memory, lookups, lag."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import random
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from starlette_wasm import EdgeRequest, RouteRule, WasmRuntime, WasmSettings
from starlette_wasm.config.policy import load_policies
from starlette_wasm.engine import capi
from starlette_wasm.functions.catalog import Catalog, FunctionSource
from starlette_wasm.functions.loader import load, open_cache
from starlette_wasm.functions.target import bind
from starlette_wasm.sync.bulkhead import Bulkhead
from starlette_wasm.traffic.router import Router

from ..layout import add_function, unique, work
from .calls import Loop
from .ours import config

_PAGE = 4096
_PRESENT = 0b11 << 62  # in memory, or swapped out


def _resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


class Cold:
    """From a module on disk, or its code in the AOT cache, to its first answer; in milliseconds.

    The engine is there, as in a server that loads a further function.
    """

    def __init__(self) -> None:
        self._loop = Loop()
        self._runtime = WasmRuntime(config())
        self._loop.run(self._runtime.start())
        self._cache = open_cache(self._runtime.settings.aot_cache_dir())
        self._job = Catalog(work() / "functions").get("job")
        self._policy = load_policies(work() / "policies")["bench"]
        self._number = 0

    def round(self) -> dict[str, float]:
        self._number += 1
        functions = work() / "cold"
        add_function(functions, "job", unique(self._job.file.read_bytes(), self._number))
        fresh = Catalog(functions).get("job")
        return {"compile": self._first(fresh, None), "cached": self._first(self._job, self._cache)}

    def _first(self, source: FunctionSource, cache: Any) -> float:
        begin = time.perf_counter()
        function = load(self._runtime.engine, source, cache)
        target = bind(function, self._policy, self._runtime.capabilities, [], Bulkhead(64, 256, 1.0), route="/job")
        self._loop.run(self._runtime.invoker.call(target, EdgeRequest()))
        taken = (time.perf_counter() - begin) * 1e3
        function.module.close()
        assert function.cached == (cache is not None)
        return taken


class Functions:
    """A runtime with many functions."""

    def __init__(self, folder: str) -> None:
        self._loop = Loop()
        self._folder = Path(folder)

    def lay_out(self, count: int) -> None:
        module = (work() / "functions" / "job" / "v1" / "job.wasm").read_bytes()
        for number in range(count):
            add_function(self._folder, f"job-{number}", unique(module, number))

    def start(self) -> dict[str, float]:
        few = WasmRuntime(config())  # the engine, and what every runtime has
        self._loop.run(few.start())
        before, begin = _resident(), time.perf_counter()
        self._runtime = WasmRuntime({"functionsDir": str(self._folder)})
        self._loop.run(self._runtime.start())
        taken = time.perf_counter() - begin
        return {"ms": taken * 1e3, "bytes": _resident() - before}

    def lookup(self) -> float:
        """Return the nanoseconds for a call's target, by name."""
        names = Catalog(self._folder).names
        names = random.Random(1).choices(names, k=1000)
        for name in names:
            self._runtime.target(name)
        rounds = []
        for _ in range(20):
            begin = time.perf_counter_ns()
            for name in names:
                self._runtime.target(name)
            rounds.append((time.perf_counter_ns() - begin) / len(names))
        return statistics.median(rounds)


class Rules:
    """Routers with few and many rules."""

    def __init__(self, counts: list[int]) -> None:
        self._routers = {count: self._make(count) for count in counts}

    def _make(self, count: int) -> tuple[Router[RouteRule, None], list[str]]:
        patterns = [f"/api/v1/service{i}/items/{{id}}" for i in range(count)]
        rules = [(RouteRule(path_pattern=pattern, function_name="job"), None) for pattern in patterns]
        paths = [pattern.replace("{id}", "42") for pattern in random.Random(1).choices(patterns, k=1000)]
        return Router(rules), paths

    def round(self, count: int) -> float:
        """Return the nanoseconds to match a path, over a thousand random ones."""
        router, paths = self._routers[count]
        best = []
        for _ in range(5):
            begin = time.perf_counter_ns()
            for path in paths:
                router.match(path)
            best.append((time.perf_counter_ns() - begin) / len(paths))
        return statistics.median(best)


class Suspended:
    """Guests that sleep."""

    def __init__(self, most: int) -> None:
        self._loop = Loop()
        self._runtime = WasmRuntime(config(), WasmSettings(max_instances=max(1000, most + 8)))
        self._loop.run(self._runtime.start())

    def measure(self, count: int) -> dict[str, float]:
        return self._loop.run(self._measure(count))  # type: ignore[no-any-return]

    async def _measure(self, count: int) -> dict[str, float]:
        first = self._sleep(1)
        await self._until_asleep(1)
        before = _resident()
        begin = time.perf_counter()
        others = self._sleep(count)
        await self._until_asleep(1 + count)
        taken = time.perf_counter() - begin
        total = _resident() - before
        own = sum(_touched(*span) for span in self._own_memory()) * count / (count + 1)
        for task in first + others:
            task.cancel()
        await asyncio.gather(*first, *others, return_exceptions=True)
        return {"bytes": total / count, "own": own / count, "ms": taken * 1e3}

    def _sleep(self, count: int) -> list[asyncio.Task[Any]]:
        request = EdgeRequest(query={"ms": "50000"})
        return [asyncio.create_task(self._runtime.invoke("sleep-ms", request, policy="bench")) for _ in range(count)]

    async def _until_asleep(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self._runtime.stats()["live"] < count:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)

    def _own_memory(self) -> Iterator[tuple[int, int]]:
        """Address and size of each guest's own memory, and of the io memory that holds its input and output."""
        for guest in self._runtime.engine.live.values():
            memory = guest.guest_memory()
            yield ctypes.addressof(ctypes.c_char.from_buffer(memory)), len(memory)
            io = guest._made.io_at + capi.EXTERN_OF
            yield capi.memory_data(guest._context, io), capi.memory_size(guest._context, io)


def _touched(start: int, size: int) -> int:
    """Count the bytes of a range that have pages, by /proc/self/pagemap."""
    first, last = start // _PAGE, (start + size + _PAGE - 1) // _PAGE
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(first * 8)
        data = pagemap.read((last - first) * 8)
    return _PAGE * sum(1 for (entry,) in struct.iter_unpack("=Q", data) if entry & _PRESENT)


class Lag:
    """How late the event loop is while guests, or threads of Python, keep busy; in milliseconds."""

    def __init__(self) -> None:
        self._loop = Loop()
        self._runtime = WasmRuntime(config())
        self._loop.run(self._runtime.start())

    def guests(self, busy: int, seconds: float) -> dict[str, float]:
        return self._loop.run(self._with_guests(busy, seconds))  # type: ignore[no-any-return]

    async def _with_guests(self, busy: int, seconds: float) -> dict[str, float]:
        request = EdgeRequest()
        tasks = [asyncio.create_task(self._runtime.invoke("spin", request, policy="bench")) for _ in range(busy)]
        try:
            await asyncio.sleep(0.2)
            figures = await _lateness(seconds)
            ended = [task for task in tasks if task.done()]
            if ended:
                raise RuntimeError(f"{len(ended)} of {busy} guests ended: {ended[0]}")
            return figures
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def threads(self, busy: int, seconds: float) -> dict[str, float]:
        stop = threading.Event()

        def spin() -> None:
            while not stop.is_set():
                pass

        threads = [threading.Thread(target=spin, daemon=True) for _ in range(busy)]
        for thread in threads:
            thread.start()
        try:
            return self._loop.run(_lateness(seconds))  # type: ignore[no-any-return]
        finally:
            stop.set()
            for thread in threads:
                thread.join()


async def _lateness(seconds: float, every: float = 0.002) -> dict[str, float]:
    late = []
    until = time.perf_counter() + seconds
    with contextlib.suppress(asyncio.CancelledError):
        while (begin := time.perf_counter()) < until:
            await asyncio.sleep(every)
            late.append((time.perf_counter() - begin - every) * 1e3)
    late.sort()
    return {"p50": statistics.median(late), "p99": late[len(late) * 99 // 100], "max": late[-1]}
