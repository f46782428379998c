"""A soak: uvicorn under steady load, one request in ten to a hostile guest, and what it does to the process.

Before the clock starts, all clients together ask each hostile guest up to two hundred times, so that the threads'
allocators have what they will have: in the soak alone that takes longer than the minutes that are not judged.

Ends with 0 where every answer was right, descriptors and threads stayed level, and resident memory grew by less than
5 % after minute 5, or after the first sixth of a shorter run: the median of the first fifth of the intervals from then
on against that of the last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import yaml
from attack import quantile
from hostile_manifest import Answer, Guest
from hostile_range import RUNNING, config, used

GROWTH = 0.05
WARM_UP = 200
"""How often each hostile guest is asked before the clock starts, in 30 minutes or more of soak."""
_SERVED = """\
import asyncio
import logging
import time

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from starlette_wasm import WasmMiddleware, WasmRuntime

for name in ("starlette_wasm", "starlette_wasm.guest"):  # records are made, and go nowhere
    logging.getLogger(name).addHandler(logging.NullHandler())
logging.getLogger("starlette_wasm").propagate = False
runtime = WasmRuntime("wasm.yaml")


async def stats(request):
    return JSONResponse(runtime.stats())


async def warm(request):
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.1) for _ in range(32)))
    return JSONResponse({})


app = Starlette(
    routes=[Route("/stats", stats), Route("/warm", warm)],
    middleware=[Middleware(WasmMiddleware, runtime=runtime)],
)
"""


@dataclass
class Interval:
    """What was seen in one interval; of memory, descriptors and threads the least, as guests under way have some."""

    seconds: float
    rss: int = 0
    fds: int = 0
    threads: int = 0
    took: list[float] = field(default_factory=list)
    hostile: int = 0

    def see(self, rss: int, fds: int, threads: int) -> None:
        self.rss = min(self.rss or rss, rss)
        self.fds = min(self.fds or fds, fds)
        self.threads = min(self.threads or threads, threads)

    def line(self) -> str:
        p50, p99 = (quantile(self.took, part) * 1000 if self.took else 0 for part in (0.5, 0.99))
        return (
            f"{self.seconds:7.0f} s  {self.rss / 2**20:7.1f} MiB  {self.fds:5} descriptors  {self.threads:3} threads  "
            f"{len(self.took):6} healthy  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  {self.hostile:5} hostile"
        )


class Soak:
    def __init__(
        self,
        port: int,
        pid: int,
        guests: tuple[Guest, ...],
        *,
        seconds: float,
        interval: float,
        clients: int,
        seed: int,
    ) -> None:
        self.guests = guests
        self.port = port
        self.pid = pid
        self.seconds = seconds
        self.interval = interval
        self.clients = clients
        self.draw = random.Random(seed)
        self.wrong: Counter[str] = Counter()
        self.intervals: list[Interval] = []

    async def run(self) -> None:
        # Each module keeps the image of its memory from its first run on, in a descriptor.
        waiting = [*self.guests] * max(1, min(WARM_UP, int(self.seconds / 9)))
        self.draw.shuffle(waiting)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.clients):
                group.create_task(self._warm_up(waiting))
        self.begin = time.monotonic()
        self.now = Interval(self.interval)
        async with asyncio.TaskGroup() as group:
            for number in range(self.clients):
                group.create_task(self._client(number))
            group.create_task(self._watch())

    async def _warm_up(self, waiting: list[Guest]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while waiting:
            guest = waiting.pop()
            await self._ask(reader, writer, f"/guest/{guest.name}", b"request", guest)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    @property
    def _over(self) -> bool:
        return time.monotonic() - self.begin >= self.seconds

    async def _watch(self) -> None:
        while not self._over:
            await asyncio.sleep(min(0.25, self.interval / 8))
            self.now.see(*used(self.pid))
            if time.monotonic() - self.begin >= self.now.seconds:
                print(self.now.line(), flush=True)
                self.intervals.append(self.now)
                self.now = Interval(self.now.seconds + self.interval)

    async def _client(self, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        count = number
        while not self._over:
            count += 1
            if count % 10 == 0:
                guest = self.draw.choice(self.guests)
                self.now.hostile += 1
                await self._ask(reader, writer, f"/guest/{guest.name}", b"request", guest)
            else:
                begin = time.perf_counter()
                await self._ask(reader, writer, *(("/hello", b"") if count % 2 else ("/echo", b"marker %d" % count)))
                self.now.took.append(time.perf_counter() - begin)
                await asyncio.sleep(0.004)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        path: str,
        body: bytes,
        guest: Guest | None = None,
    ) -> None:
        writer.write(
            b"POST %s HTTP/1.1\r\nhost: soak\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(body)) + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        content = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        status = int(head[9:12])
        if guest is not None:
            assert isinstance(guest.want, Answer)
            kind = json.loads(content)["type"] if b"application/problem+json" in head else ""
            right = (status, kind) == (guest.want.status, guest.want.type)
        elif path == "/hello":
            right = (status, content) == (200, b"hello")
        else:
            right = status == 200 and json.loads(content)["body"] == body.decode()
        if not right:
            self.wrong[f"{path}: {status} {content[:100]!r}"] += 1

    def missed(self) -> list[str]:
        """Return what is not as the goal has it."""
        missed = [f"{count} times {what}" for what, count in self.wrong.most_common(20)]
        settled = min(300.0, self.seconds / 6)
        rest = [each for each in self.intervals if each.seconds > settled]
        if len(rest) < 2:
            return [*missed, "the run is too short to say anything"]
        first, last = rest[0], rest[-1]
        part = max(1, len(rest) // 5)
        before, after = (statistics.median(each.rss for each in some) for some in (rest[:part], rest[-part:]))
        growth = after / before - 1
        print(
            f"memory {growth:+.1%} from {first.seconds:.0f} s on ({last.rss / first.rss - 1:+.1%} from the first "
            "interval to the last); p99 of healthy functions",
            end=" ",
        )
        print(f"{quantile(first.took, 0.99) * 1000:.1f} ms then, {quantile(last.took, 0.99) * 1000:.1f} ms at the end")
        if growth >= GROWTH:
            missed.append(f"resident memory grew by {growth:.1%}")
        if last.fds > first.fds:
            missed.append(f"descriptors grew from {first.fds} to {last.fds}")
        if last.threads > first.threads:
            missed.append(f"threads grew from {first.threads} to {last.threads}")
        return missed


def soak(
    seconds: float, interval: float, *, clients: int = 8, seed: int = 1, guests: tuple[Guest, ...] = RUNNING
) -> list[str]:
    """Return what missed the goal."""
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        folder = Path(name)
        (folder / "wasm.yaml").write_text(yaml.safe_dump(config(folder, guests) | {"exposeEndpoints": True}))
        (folder / "served.py").write_text(_SERVED)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        log = folder / "uvicorn.log"
        environ = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "RUST_BACKTRACE": "0",
            "STARLETTE_WASM_AOT_CACHE": "false",
            "STARLETTE_WASM_KV_URL": f"sqlite:///{folder}/kv.db",
            "STARLETTE_WASM_QUEUE_URL": f"sqlite:///{folder}/queue.db",
        }
        command = [sys.executable, "-m", "uvicorn", "served:app", "--port", str(port), "--log-level", "critical"]
        with log.open("wb") as output:
            server = subprocess.Popen(command, cwd=folder, env=environ, stdout=output, stderr=output)
        try:
            _wait(port, server, log)
            httpx.get(f"http://127.0.0.1:{port}/warm", timeout=60)  # asyncio has all its threads, which decode answers
            run = Soak(port, server.pid, guests, seconds=seconds, interval=interval, clients=clients, seed=seed)
            try:
                asyncio.run(run.run())
            except ExceptionGroup as errors:
                return [f"{errors.exceptions[0]!r}; the server's exit code is {server.poll()}", log.read_text()[-2000:]]
            missed = run.missed()
            missed += _lost_slots(port)
            server.send_signal(signal.SIGTERM)
            if (code := server.wait(30)) not in (0, -signal.SIGTERM):
                missed.append(f"the server ended with {code}")
            text = log.read_text()
            missed += [f"the server's log has {word}" for word in ("Traceback", "panicked", "Fatal") if word in text]
            return missed
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200:
                return
        if server.poll() is not None or time.monotonic() > until:
            sys.exit(f"the server does not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _lost_slots(port: int) -> list[str]:
    stats = {}
    for _ in range(100):
        stats = httpx.get(f"http://127.0.0.1:{port}/stats", timeout=30).json()
        if not any(stats[key] for key in ("running", "live", "busy", "waiting")):
            print(f"stats: {stats}")
            return []
        time.sleep(0.1)
    return [f"slots are lost: {stats}"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--interval", type=float, help="seconds between reports (default: a thirtieth of the run)")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1, help="for the order of guests")
    options = parser.parse_args()
    interval = options.interval or max(1.0, options.minutes * 2)
    missed = soak(options.minutes * 60, interval, clients=options.clients, seed=options.seed)
    for what in missed:
        print(f"MISSED {what}")
    print("the goal is missed" if missed else "the goal is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
