"""Measures a traced request in one process: ``python tools/traced_request.py``, from the root of the repository.

Both sides have the same instrumentation and SDK, as in ``scripts/bench --only production``, whose apps these are.
Blocks of requests alternate: mapped, native, native with a span of its own, and an app that does nothing under the
instrumentation, whose cost is in all of them. Figures are CPU microseconds of the thread; ratios are medians within a
round. ``--stages`` prints how long a mapped request is in each part of its way instead.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
TELEMETRY = ("none", "0.1", "1.0", "metrics")
UNSAMPLED = (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
CASES = [(kind, ()) for kind in TELEMETRY] + [("0.1", (UNSAMPLED,))]
SIDES = {"mapped": "/job", "native": "/job", "spanned": "/spanned/job", "bare": "/job"}
REQUESTS = 150

App = Callable[[Any, Any, Any], Awaitable[None]]


async def _bare(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"19")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"message":"hello"}'})


def make_apps(kind: str) -> dict[str, Any]:
    """Make the apps of the benchmark, under the providers that the first one of them sets."""
    os.environ.update(BENCH_TELEMETRY=kind, BENCH_RULES="plain", BENCH_SIDE="wasm")
    from starlette.applications import Starlette
    from starlette.routing import Route

    from benchmarks.contenders import production

    mapped = production.make_app()
    around = [each for each in mapped.user_middleware if getattr(each.cls, "__name__", "") != "WasmMiddleware"]
    routes = [Route("/job", production.job), Route("/spanned/job", production.spanned_job)]
    native = Starlette(routes=routes, middleware=around)
    bare: Any = _bare
    for each in reversed(around):
        bare = each.cls(bare, *each.args, **each.kwargs)
    return {"mapped": mapped, "native": native, "spanned": native, "bare": bare}


def scope_of(path: str, more: tuple[tuple[bytes, bytes], ...]) -> dict[str, Any]:
    """Make the scope of a request as uvicorn does."""
    return {
        "type": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), *more],
        "state": {},
    }


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def ask(app: App, path: str, more: tuple[tuple[bytes, bytes], ...], count: int) -> float:
    """Send requests one after the other. Return the microseconds of CPU that each took."""
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    async def send(message: Any) -> None:
        if "status" in message:
            seen.append(message["status"])

    begin = time.thread_time_ns()
    for _ in range(count):
        await loop.create_task(app(scope_of(path, more), _receive, send))
    taken = (time.thread_time_ns() - begin) / count / 1e3
    assert seen == [200] * count, seen[-1:]
    return taken


async def measure(kind: str, more: tuple[tuple[bytes, bytes], ...], rounds: int) -> dict[str, list[float]]:
    """Return the figures of each side, one for each round."""
    apps = make_apps(kind)
    taken: dict[str, list[float]] = {side: [] for side in SIDES}
    async with running(apps["mapped"]):
        for number in range(rounds + 2):
            for side in list(SIDES)[:: -1 if number % 2 else 1]:
                figure = await ask(apps[side], SIDES[side], more, REQUESTS)
                if number > 1:  # the first rounds warm up
                    taken[side].append(figure)
    return taken


@asynccontextmanager
async def running(app: App) -> AsyncIterator[None]:
    """Run the lifespan of an app."""
    started, stop = asyncio.Event(), asyncio.Event()
    messages = ["lifespan.shutdown", "lifespan.startup"]

    async def receive() -> dict[str, Any]:
        if len(messages) == 1:
            await stop.wait()
        return {"type": messages.pop()}

    async def send(message: Any) -> None:
        assert message["type"].endswith(".complete"), message
        started.set()

    lifespan = asyncio.ensure_future(app({"type": "lifespan", "state": {}}, receive, send))
    await started.wait()
    yield
    stop.set()
    await lifespan


async def stages(kind: str, more: tuple[tuple[bytes, bytes], ...], count: int) -> list[tuple[str, float]]:
    """Return how long a mapped request is in each part of its way, in microseconds: the median."""
    from starlette_wasm.asgi import middleware
    from starlette_wasm.engine.fast_path import FastPath
    from starlette_wasm.invocation.fast_path import FastPathRunner
    from starlette_wasm.telemetry.request_telemetry import ActiveRequestTelemetry
    from starlette_wasm.telemetry.telemetry import Telemetry

    marks: list[tuple[str, int]] = []

    def mark(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def marked(*given: Any, **named: Any) -> Any:
            marks.append((f"before {name}", time.perf_counter_ns()))
            found = function(*given, **named)
            marks.append((f"{name}", time.perf_counter_ns()))
            return found

        setattr(owner, name, marked)

    app = make_apps(kind)["mapped"]
    mark(Telemetry, "exchange")
    mark(middleware.WasmMiddleware, "_choose")
    mark(FastPathRunner, "run")
    mark(ActiveRequestTelemetry, "begin_warm")
    mark(FastPath, "dispatch")
    mark(Telemetry, "record_fast")

    async def send(message: Any) -> None:
        marks.append((f"sending {message['type'].rpartition('.')[2]}", time.perf_counter_ns()))

    rows: list[list[tuple[str, int]]] = []
    async with running(app):
        for number in range(count):
            marks.clear()
            marks.append(("start", time.perf_counter_ns()))
            await asyncio.get_running_loop().create_task(app(scope_of("/job", more), _receive, send))
            marks.append(("end", time.perf_counter_ns()))
            if number > count // 4:
                rows.append(list(marks))
    names = [name for name, _ in max(rows, key=len)]
    alike = [row for row in rows if [name for name, _ in row] == names]
    return [(names[at], median((row[at][1] - row[at - 1][1]) / 1e3 for row in alike)) for at in range(1, len(names))]


def _print(kind: str, more: tuple[tuple[bytes, bytes], ...], arguments: argparse.Namespace) -> None:
    title = f"SDK {kind}{', unsampled parent' if more else ''}"
    if arguments.stages:
        print(title)
        for name, taken in asyncio.run(stages(kind, more, 4000)):
            print(f"  {taken:6.2f} us  {name}")
        return
    taken = asyncio.run(measure(kind, more, arguments.rounds))
    ratios = [
        f"{side} / mapped {median(a / b for a, b in zip(taken[side], taken['mapped'], strict=True)):.2f}"
        for side in ("native", "spanned")
    ]
    costs = [f"{side} {sorted(each)[len(each) // 10]:.1f}" for side, each in taken.items()]
    print(f"{title}: {', '.join(ratios)}; p10 in us: {', '.join(costs)}", flush=True)


def main() -> None:
    """Measure each kind of telemetry in a process of its own: providers are set once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--stages", action="store_true", help="where a mapped request is, instead")
    parser.add_argument("--only", choices=TELEMETRY, help="one kind of telemetry")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is None:
        with tempfile.TemporaryDirectory() as folder:
            sys.path.insert(0, str(ROOT))
            from benchmarks.layout import lay_out

            lay_out(Path(folder))
            for case, (kind, _) in enumerate(CASES):
                if arguments.only not in (None, kind):
                    continue
                argv = [sys.executable, __file__, *sys.argv[1:], "--case", str(case)]
                subprocess.run(argv, check=True, env={**os.environ, "BENCH_WORK": folder})
        return
    sys.path.insert(0, str(ROOT))
    _print(*CASES[arguments.case], arguments)


if __name__ == "__main__":
    main()
