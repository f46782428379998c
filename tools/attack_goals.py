"""The goals under load, each measured on the running thing. ``scripts/attack --goals`` runs the long form."""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from attack import quantile
from hostile_manifest import BY_NAME, frame
from hostile_range import HEALTHY, HERE, SOURCES, add, module_of, serving, settings
from hostile_wat import assemble
from starlette.applications import Starlette
from starlette.middleware import Middleware

from starlette_wasm import EdgeRequest, WasmError, WasmMiddleware, WasmRuntime
from starlette_wasm.capabilities.http import HttpFetch

KINDS = {
    "loop": "spin", "calls": "spin_calls", "recursion": "recurse_fibonacci", "start function": "start_spins",
    "sleeping": "sleep_a_minute", "short sleeps": "sleep_shortly_for_ever", "random": "random_for_ever",
    "copies": "copy_for_ever", "fills": "fill_for_ever", "table fills": "table_fill_for_ever",
    "host calls": "edge_flood", "refused host calls": "edge_flood_bad", "log": "stderr_flood",
    "files": "open_and_close_for_ever", "a large directory": "directory_large",
}  # fmt: skip


# A deadline of 200 ms


async def deadlines(folder: Path, runs: int) -> dict[str, list[float]]:
    """Return how many milliseconds an invocation with a deadline of 200 ms took, for each kind of guest."""
    guests = tuple(BY_NAME[name] for name in KINDS.values())
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    async with serving(folder, guests, stop_ms=200) as there:
        for _ in range(runs):
            for kind, name in KINDS.items():
                begin = time.perf_counter()
                await there.shoot(BY_NAME[name])
                took[kind].append((time.perf_counter() - begin) * 1000)
        assert not there.wrong, there.wrong[:3]
    return took


# One route spins, another is to be quick; one route is full


@asynccontextmanager
async def served(
    folder: Path, routes: dict[str, str], policies: dict[str, dict[str, Any]]
) -> AsyncIterator[tuple[WasmRuntime, httpx.AsyncClient]]:
    """Serve ``routes``, path to the guest's name; a policy of the guest's name is its own."""
    (folder / "policies").mkdir()
    for name, policy in policies.items():
        (folder / "policies" / f"{name}.yaml").write_text(yaml.safe_dump(policy))
    rules = []
    for path, name in routes.items():
        if name in HEALTHY:
            add(folder, name, (HERE.parent / "guests" / f"{name}.wasm").read_bytes())
        else:
            add(folder, name, module_of(BY_NAME[name]))
        policy = name if name in policies else "edge-none"
        rules.append({"pathPattern": path, "functionName": name, "policy": policy})
    wasm = {"functionsDir": str(folder / "functions"), "policiesDir": str(folder / "policies"), "rules": rules}
    async with WasmRuntime(wasm, settings(folder)) as runtime:
        app = Starlette(middleware=[Middleware(WasmMiddleware, runtime=runtime)])
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=120) as client:
            yield runtime, client


async def spinners(
    folder: Path, seconds: float, clients: int = 32, guest: str = "spin", least: int = 1
) -> tuple[list[float], Counter[int]]:
    """Measure a healthy route in milliseconds while ``clients`` hammer one that spins, and the statuses of that one.

    The time begins when the request is due, so that an event loop which is held up counts. It takes longer than
    ``seconds`` if there are fewer than ``least`` answers by then.
    """
    took: list[float] = []
    statuses: Counter[int] = Counter()
    routes = {"/spin": guest, "/hello": "hello"}
    async with served(folder, routes, {guest: {"executionTimeoutMs": 200}}) as (_, client):
        until = time.monotonic() + seconds

        def goes_on() -> bool:
            return time.monotonic() < until or len(took) < least

        async def spin() -> None:
            while goes_on():
                statuses[(await client.get("/spin")).status_code] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(spin())
            while goes_on():
                begin = time.perf_counter() + 0.005
                await asyncio.sleep(0.005)
                response = await client.get("/hello")
                took.append((time.perf_counter() - begin) * 1000)
                assert response.text == "hello"
    return took, statuses


async def full_route(
    folder: Path, connections: int = 1000, seconds: float = 60.0
) -> tuple[list[float], Counter[int], int]:
    """Measure in how many milliseconds a full route said 503, the statuses of all ``connections`` but the 20 that fill
    it, and how many healthy answers there were meanwhile, all of them right. ``seconds`` is how long one may wait for
    a place.

    The milliseconds are measured in the app, from where the request reaches it, by an event loop that also runs
    the thousand clients.
    """
    took: list[float] = []
    statuses: Counter[int] = Counter()
    healthy = 0
    milliseconds = int(seconds * 1000)
    policy = {
        "maxConcurrency": 4,
        "maxQueue": 16,
        "queueTimeoutMs": milliseconds,
        "executionTimeoutMs": 3 * milliseconds,
    }
    routes = {"/sleep": "sleep_a_minute", "/hello": "hello"}
    async with served(folder, routes, {"sleep_a_minute": policy}) as (runtime, client):
        middleware = WasmMiddleware(Starlette(), runtime=runtime)

        async def connect() -> None:
            started: dict[str, Any] = {}

            async def receive() -> dict[str, Any]:
                if "read" in started:
                    await asyncio.Event().wait()
                started["read"] = True
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    started["at"] = time.perf_counter()
                    started["status"] = message["status"]
                    started["headers"] = dict(message["headers"])

            scope = {
                "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
                "path": "/sleep", "raw_path": b"/sleep", "query_string": b"", "root_path": "", "headers": [],
                "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
            }  # fmt: skip
            begin = time.perf_counter()
            await middleware(scope, receive, send)
            statuses[started["status"]] += 1
            if started["status"] == 503:
                assert int(started["headers"][b"retry-after"]) >= 1
                took.append((started["at"] - begin) * 1000)

        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(connect()) for _ in range(20)]
            while runtime.stats()["running"] < 20:  # the route is full from here on
                await asyncio.sleep(0.001)
            others = [group.create_task(connect()) for _ in range(connections - 20)]
            while not all(task.done() for task in others):
                assert (await client.get("/hello")).text == "hello"
                healthy += 1
            for task in waiting:
                task.cancel()
    return sorted(took), statuses, healthy


# Memory


async def memory_bombs(folder: Path, count: int = 32, mebibytes: int = 64) -> tuple[int, int]:
    """Return by how many bytes ``count`` bombs at once raised resident memory at most, under ``mebibytes`` each; and
    for how many of them the guest's end was want of memory.
    """
    policy = {"executionTimeoutMs": 60_000, "maxMemoryPages": mebibytes * 16, "maxConcurrency": count}
    async with served(folder, {"/bomb": "grow_and_touch", "/hello": "hello"}, {"grow_and_touch": policy}) as (
        _,
        client,
    ):
        await client.get("/bomb")
        process = psutil.Process()
        before = most = process.memory_info().rss
        over = threading.Event()

        def watch() -> None:
            nonlocal most
            while not over.wait(0.002):
                most = max(most, process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            responses = await asyncio.gather(*(client.get("/bomb") for _ in range(count)))
        finally:
            over.set()
            watcher.join()
        ended = sum(response.json()["type"] == "memory-limit" for response in responses)
    return most - before, ended


# A marker for each tenant


class Crossings(logging.Handler):
    """Looks at each log record for markers of other tenants than the one whose function it is about."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.records = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.records += 1
        text = " ".join([record.getMessage(), *map(str, record.__dict__.values())])
        tenants = {f"tenant{number}" for number in range(_TENANTS) if f"marker{number}x" in text}
        owner = {f"tenant{number}" for number in range(_TENANTS) if f"tenant{number} " in f"{text} "}
        if len(tenants) > 1 or (tenants and owner and tenants != owner):
            self.found.append(text[:500])


_TENANTS = 8


def markers(folder: Path, invocations: int, *, threads: int = 4, tasks: int = 8) -> tuple[Counter[str], list[str], int]:
    """Run tenants in ``threads`` event loops with ``tasks`` each, host calls failing at random.

    Gives how the invocations ended, what crossed from one tenant to another, and how many log records were read.
    """
    wasm = assemble((SOURCES / "tenant.wat").read_text())
    for number in range(_TENANTS):
        add(folder, f"tenant{number}", wasm, "cgi")
    (folder / "policies").mkdir()
    policy = {"executionTimeoutMs": 20_000, "allowedHosts": ["*"], "maxNetworkRequests": 5, "maxLogBytes": 4096}
    (folder / "policies" / "tenant.yaml").write_text(yaml.safe_dump(policy))
    (folder / "policies" / "brief.yaml").write_text(yaml.safe_dump(policy | {"executionTimeoutMs": 5}))
    config = {"functionsDir": str(folder / "functions"), "policiesDir": str(folder / "policies")}
    ended: Counter[str] = Counter()
    crossed: list[str] = []
    failures: list[BaseException] = []
    crossings = Crossings()
    logger = logging.getLogger("starlette_wasm")
    propagate, level = logger.propagate, logger.level
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(crossings)

    async def one(runtime: WasmRuntime, draw: random.Random, serial: int) -> None:
        number = draw.randrange(_TENANTS)
        marker = f"marker{number}x{serial}"
        kind = draw.choices("oetgs", (60, 12, 12, 12, 1))[0]
        payload = frame({"url": f"http://{marker}.example.com/"})
        body = (kind.encode() + payload).decode("latin-1")
        try:
            response = await runtime.invoke(
                f"tenant{number}", EdgeRequest(method="POST", body=body), policy="brief" if kind == "s" else "tenant"
            )
            output, outcome = response.body or "", "answered"
        except WasmError as error:
            output, outcome = f"{error} {error.title} {error.detail}", type(error).__name__
        ended[outcome] += 1
        others = [each for each in output.replace(marker, "").split() if "marker" in each]
        own = marker in output or "internal error" in output  # which names nothing of what broke
        if others or (outcome == "answered" and not own):
            crossed.append(f"tenant{number} ({marker}) got {output[:300]!r}")

    async def loop(seed: int) -> None:
        draw = random.Random(seed)

        async def resolver(host: str, port: int) -> list[str]:
            chance = draw.random()
            if chance < 0.2:
                await asyncio.sleep(draw.random() * 0.003)
            if chance < 0.5:
                raise OSError(f"no such name: {host}")
            if chance < 0.6:
                raise RuntimeError(f"the resolver broke on {host}")
            return ["127.0.0.1"] if chance < 0.8 else []

        async with WasmRuntime(config, settings(folder)) as runtime:
            runtime.capabilities.http = HttpFetch(max_response_bytes=1 << 20, resolver=resolver)
            share = invocations // threads // tasks

            async def task(first: int) -> None:
                for serial in range(first, first + share):
                    await one(runtime, draw, serial)

            async with asyncio.TaskGroup() as group:
                for number in range(tasks):
                    group.create_task(task((seed * tasks + number) * share))

    def thread(seed: int) -> None:
        try:
            asyncio.run(loop(seed))
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=thread, args=(seed,)) for seed in range(threads)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        logger.removeHandler(crossings)
        logger.propagate, _ = propagate, logger.setLevel(level)
    if failures:
        raise failures[0]
    return ended, crossed + crossings.found, crossings.records


# The long form


def measure(only: list[str], runs: int, invocations: int) -> list[str]:
    """Run the long form of each goal, print the figures, and give what missed its goal."""
    wrong: list[str] = []

    def goal(met: bool, text: str) -> None:
        print(("ok      " if met else "MISSED  ") + text, flush=True)
        if not met:
            wrong.append(text)

    def deadline(folder: Path) -> None:
        for kind, took in asyncio.run(deadlines(folder, runs)).items():
            p50, p99 = quantile(took, 0.5), quantile(took, 0.99)
            goal(p99 <= 225, f"deadline of 200 ms, {kind}: p50 {p50:.0f}, p99 {p99:.0f} ms, {runs} runs")

    def spinning(folder: Path, guest: str = "spin", most: float = 10) -> None:
        took, statuses = asyncio.run(spinners(folder, 30, guest=guest))
        p50, p99 = quantile(took, 0.5), quantile(took, 0.99)
        text = f"32 clients on a route with {guest} ({dict(statuses)}): another route's p50 {p50:.1f}, p99 {p99:.1f} ms"
        goal(p99 <= most and set(statuses) == {504}, text)

    def polling(folder: Path) -> None:
        spinning(folder, "spin_and_poll")

    def calls(folder: Path) -> None:
        spinning(folder, "edge_flood_bad", 25)

    def full(folder: Path) -> None:
        took, statuses, healthy = asyncio.run(full_route(folder))
        p99 = quantile(took, 0.99)
        text = f"1,000 requests on a full route ({dict(statuses)}): 503 within {p99:.1f} ms at p99"
        goal(p99 <= 20, f"{text}, {healthy} right answers of another route meanwhile")

    def bombs(folder: Path) -> None:
        grown, ended = asyncio.run(memory_bombs(folder))
        text = f"32 memory bombs under 64 MiB each: {grown / 2**20:.0f} MiB above the base"
        goal(grown <= 32 * (64 << 20) * 1.1 and ended == 32, f"{text}, {ended} ended by their bound")

    def tenants(folder: Path) -> None:
        logging.disable(logging.NOTSET)
        begin = time.monotonic()
        ended, crossed, records = markers(folder, invocations)
        logging.disable(logging.CRITICAL)
        text = f"{sum(ended.values())} invocations of 8 tenants in {time.monotonic() - begin:.0f} s ({dict(ended)})"
        goal(not crossed, f"{text}, {records} log records: {len(crossed)} markers crossed {crossed[:1]}")

    goals = {each.__name__: each for each in (full, bombs, spinning, polling, calls, deadline, tenants)}
    for name in only or goals:
        with tempfile.TemporaryDirectory() as folder:
            goals[name](Path(folder))
    return wrong
