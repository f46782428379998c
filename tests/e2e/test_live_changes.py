"""wasm.yaml, functions and policies change under load, and no request notices."""

from __future__ import annotations

import asyncio
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest
import yaml
from apps import add_constant, config_file
from processes import TLS, Server

GUESTS = ["spin", "sleep60"]  # that the served app's routes name


def says(folder: Path, name: str, text: str, version: str = "1") -> None:
    add_constant(folder, name, b'{"status_code": 200, "body": "%s"}' % text.encode(), version)


def prepare(folder: Path) -> Path:
    for text in ("one", "two", "three"):
        says(folder, text, text)
    return config_file(folder, {"/x": "one"}, functions=GUESTS, policies={"long": {}}, exposeEndpoints=True)


def write(file: Path, text: str) -> None:
    aside = file.with_suffix(".tmp")
    aside.write_text(text)
    aside.rename(file)


def serve_next(file: Path, function: str) -> None:
    config = yaml.safe_load(file.read_text())
    write(file, yaml.safe_dump({**config, "rules": [{"pathPattern": "/x", "functionName": function}]}))


async def ask(port: int, share: list[int], answers: Counter[str]) -> None:
    """Requests one after the other on one connection, as long as there are some left to send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while share[0] > 0:
        share[0] -= 1
        writer.write(b"GET /x HTTP/1.1\r\nhost: test\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        answers[f"{head[9:12].decode()} {body.decode()}"] += 1
    writer.close()
    await writer.wait_closed()


async def eventually_all(server: Server, wanted: str, workers: int) -> None:
    """Until as many new connections in a row as make it sure that all workers do so answer with ``wanted``."""
    async with asyncio.timeout(60):
        in_a_row = 0
        while in_a_row < 10 * workers:
            async with httpx.AsyncClient(timeout=30, verify=TLS) as http:
                in_a_row = in_a_row + 1 if (await http.get(f"{server.url}/x")).text == wanted else 0
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("workers", [1, 2])
def test_edits_under_load_fail_no_request(
    serve: Callable[..., Server], tmp_path: Path, workers: int, request: pytest.FixtureRequest
) -> None:
    file = prepare(tmp_path)
    good = file.read_text()
    total: int = request.config.getoption("--live-requests")
    arguments = ["--no-access-log", *(["--workers", str(workers)] if workers > 1 else [])]
    server = serve(tmp_path, "served:app", *arguments, STARLETTE_WASM_RELOAD_INTERVAL_MS="50")

    async def load(change: Callable[[], object], until: Callable[[], object] | None, share: int) -> Counter[str]:
        """``share`` requests around a change; more of them until it has come into force."""
        left, answers = [share], Counter[str]()
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(ask(server.port, left, answers))
            while left[0] > share * 0.9:
                await asyncio.sleep(0.001)
            change()
            while until is not None and not until():
                left[0] = max(left[0], 100)
                await asyncio.sleep(0.01)
        return answers

    async def main() -> None:
        async with asyncio.timeout(60):  # a worker that came later would not start
            while server.log.count("Application startup complete") < workers:
                await asyncio.sleep(0.01)
        broken = await load(lambda: write(file, "rules: [{pathPattern"), lambda: refused(server), total // 2)
        assert set(broken) == {"200 one"}
        write(file, good)
        taken = await load(partial(serve_next, file, "two"), None, total // 2)
        await eventually_all(server, "two", workers)
        assert set(taken) <= {"200 one", "200 two"}
        assert sum(broken.values()) + sum(taken.values()) >= total
        copied = partial(shutil.copyfile, *(tmp_path / f"functions/{name}/v1/{name}.wasm" for name in ("three", "two")))
        replaced = await load(copied, None, total // 4)
        await eventually_all(server, "three", workers)
        assert set(replaced) <= {"200 two", "200 three"}

    asyncio.run(asyncio.wait_for(main(), 280))
    assert "reload refused, what was served is served on: wasm.yaml: line 1" in server.log
    assert "Traceback" not in server.log


def refused(server: Server) -> bool:
    ready = server.get("/ready")
    assert ready.status_code == 200
    reload = ready.json()["reload"]
    return reload is not None and "wasm.yaml: line 1" in reload["refused"]


def test_sighup_reloads(serve: Callable[..., Server], tmp_path: Path) -> None:
    file = prepare(tmp_path)
    server = serve(tmp_path, "served:app", STARLETTE_WASM_RELOAD_INTERVAL_MS="0")
    pid = server.stats()["pid"]
    for function in ("two", "three"):
        serve_next(file, function)
        os.kill(pid, signal.SIGHUP)
        server.wait(lambda function=function: server.get("/x").text == function, 180)  # type: ignore[misc]
    assert server.stats()["pid"] == pid
    server.terminate()
    assert server.ended(180) == -signal.SIGTERM
    assert "Traceback" not in server.log


def test_sighup_to_a_worker_reloads_it_and_to_their_parent_restarts_them(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    file = prepare(tmp_path)
    server = serve(tmp_path, "served:app", "--workers", "2", STARLETTE_WASM_RELOAD_INTERVAL_MS="0")
    pids: set[int] = set()

    def both() -> bool:
        pids.add(server.stats()["pid"])
        return len(pids) == 2

    server.wait(both, 180)
    serve_next(file, "two")
    for pid in pids:
        os.kill(pid, signal.SIGHUP)
    asyncio.run(eventually_all(server, "two", 2))
    both()
    assert len(pids) == 2
    serve_next(file, "three")
    os.kill(server.process.pid, signal.SIGHUP)

    def restarted() -> bool:
        try:
            return server.stats()["pid"] not in pids and server.get("/x").text == "three"
        except httpx.TransportError:
            return False

    server.wait(restarted, 180)


def test_a_server_ends_with_its_terminal(tmp_path: Path, aot_cache: Path) -> None:
    """SIGHUP is a reload only if it does not say that the terminal is gone."""
    prepare(tmp_path)
    (tmp_path / "served.py").write_text(
        "from starlette.applications import Starlette\n"
        "from starlette.middleware import Middleware\n"
        "from starlette_wasm import WasmMiddleware\n"
        "app = Starlette(middleware=[Middleware(WasmMiddleware, config='wasm.yaml')])\n"
    )
    ours, theirs = pty.openpty()
    server = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); import uvicorn;"
            "signal.signal(signal.SIGHUP, signal.SIG_DFL);"  # under nohup it is ignored
            "uvicorn.run('served:app', port=0)",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "STARLETTE_WASM_CACHE_DIR": str(aot_cache)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        said = b""
        while b"Uvicorn running" not in said:
            said += os.read(ours, 4096)
        server.send_signal(signal.SIGHUP)  # by hand, with the terminal there
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(0.5)
        os.close(ours)
        assert server.wait(180) == -signal.SIGHUP
    finally:
        server.kill()
        server.wait()
