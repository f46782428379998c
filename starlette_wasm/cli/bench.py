"""``bench``: how quick a function is on this machine."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from starlette.types import ASGIApp

from ..asgi.middleware import WasmMiddleware
from ..asgi.routes import WasmRoute
from ..exceptions import ConfigError
from ..runtime.runtime import WasmRuntime
from ..testing.answer import ask, make_scope
from . import output
from .inspection import without_files
from .options import DEFAULT_CONFIG, ConfigOption, Json
from .table import Row

What = Annotated[str, typer.Argument(help="NAME or NAME@VERSION of a function, or a path.", metavar="FUNCTION")]
Seconds = Annotated[float, typer.Option(min=0.1, max=3600, help="How long to measure.")]
Concurrency = Annotated[int, typer.Option(min=1, max=1000, help="Requests under way at once.")]
Policy = Annotated[str | None, typer.Option(help="Policy to call a function under; by default edge-none.")]
Data = Annotated[str | None, typer.Option("--data", "-d", help="Body of each request.")]
_WARM_UP = 50


def bench(
    function: What,
    seconds: Seconds = 3.0,
    concurrency: Concurrency = 1,
    data: Data = None,
    policy: Policy = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Measure how many requests a second a function or a path answers in this process, and how long each takes.

    The requests go through the ASGI app as those of a server do, without a server or a socket: a server adds its own
    time. Figures of other machines, or of another load of this one, do not compare. The exit code is 1 if a request is
    answered with 500 or more.

    Example: starlette-wasm bench hello --seconds 5 --concurrency 16
    """
    with output.own_call_logs():
        row = asyncio.run(_measure(function, config, seconds, concurrency, (data or "").encode(), policy))
    output.show_rows([row], json=json)
    if row["failed"]:
        raise typer.Exit(1)


async def _measure(
    function: str, config: Path, seconds: float, concurrency: int, body: bytes, policy: str | None
) -> Row:
    with output.loading():
        runtime = WasmRuntime(config, without_files())
        await runtime.start()
    try:
        app, path, way = _app(runtime, function, policy)
        for _ in range(_WARM_UP):
            await _once(app, path, body)
        taken: list[float] = []
        statuses: list[int] = []
        begin = time.perf_counter()

        async def work() -> None:
            while time.perf_counter() - begin < seconds:
                at = time.perf_counter()
                statuses.append(await _once(app, path, body))
                taken.append(time.perf_counter() - at)
                await asyncio.sleep(0)

        with output.working(f"measuring {function}"):
            await asyncio.gather(*(work() for _ in range(concurrency)))
        return _row(function, way, sorted(taken), statuses, time.perf_counter() - begin)
    finally:
        await runtime.close()


def _app(runtime: WasmRuntime, function: str, policy: str | None) -> tuple[ASGIApp, str, str]:
    """Return what answers, the path to ask for, and which way it goes. Raises WasmError."""
    if function.startswith("/"):
        assert runtime.router is not None
        if runtime.router.match(function.partition("?")[0]) is None:
            raise ConfigError(
                f"no rule serves the path {function}", hint="starlette-wasm routes lists those that there are"
            )
        return WasmMiddleware(_nothing, runtime=runtime), function, "by the rules"
    name, _, version = function.partition("@")
    target = runtime.target(name, version or None, policy)
    route = WasmRoute("/", function=name, version=version or None, policy=policy, runtime=runtime)
    return route.app, "/", "fast path" if target.fast_path is not None and target.fast_path.dispatches else "long way"


async def _once(app: ASGIApp, path: str, body: bytes) -> int:
    scope = make_scope("POST" if body else "GET", path, {})
    return (await ask(app, {**scope, "path_params": {}}, body)).status


def _row(function: str, way: str, taken: list[float], statuses: list[int], seconds: float) -> Row:
    def at(share: float) -> str:
        return f"{taken[min(int(len(taken) * share), len(taken) - 1)] * 1000:.3f} ms"

    return {
        "function": function,
        "way": way,
        "requests": len(taken),
        "failed": sum(status >= 500 for status in statuses),
        "a second": round(len(taken) / seconds),
        "median": at(0.5),
        "p99": at(0.99),
        "most": at(1.0),
    }


async def _nothing(scope: object, receive: object, send: object) -> None:
    raise ConfigError("a rule that serves the path has gone")
