"""Resident memory of a real server whose guests have all that their policies allow, and make it copy beside that."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from apps import add_function, config
from processes import PLAIN, Server

from starlette_wasm.components.wasi.edge import EDGE_HOST
from starlette_wasm.engine import capi

N = 4
"""Guests of each function at once."""
PAGES = 512
MEMORY = PAGES << 16
PAYLOAD = 2 << 20
"""A sixteenth: what a call may copy if the memory is full."""
POLICY = {
    "maxMemoryPages": PAGES, "maxConcurrency": N, "executionTimeoutMs": 600_000, "maxRequestBytes": 65_536,
    "maxResponseBytes": 1 << 20, "maxLogBytes": 4096, "maxNetworkRequests": 10, "allowPrivateNetworks": True,
}  # fmt: skip
PLACE = 65536


def escaped(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


def payload(port: int) -> bytes:
    """The head of a request to a server that never answers."""
    text = json.dumps({"url": f"http://127.0.0.1:{port}/", "method": "POST"}).encode()
    return struct.pack("<I", len(text)) + text


def attack(call: str, pages: int, *sizes: int) -> str:
    """Fill so many pages, then have the host copy so much."""
    size = pages << 16
    calls = "".join(call.replace("SIZE", str(each)) for each in sizes)
    return f"""(drop (memory.grow (i32.sub (i32.const {pages}) (memory.size))))
      (memory.fill (i32.const {2 * PLACE}) (i32.const 120) (i32.const {size - 2 * PLACE})) {calls}"""


def core(port: int, pages: int, *sizes: int) -> str:
    return f"""(module (import "edge" "call" (func $call (param i32 i32 i32) (result i32)))
      (memory (export "memory") 2) (data (i32.const {PLACE}) "{escaped(payload(port))}")
      (func (export "_start")
       {attack(f"(drop (call $call (i32.const 1) (i32.const {PLACE}) (i32.const SIZE)))", pages, *sizes)}))"""


def component(port: int, pages: int) -> str:
    """A component of the world edge; it would be ended for what does not fit."""
    allocator = """(memory (export "mem") 2) (global $next (mut i32) (i32.const 1024))
     (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get 3)) (i32.const 15)) (i32.const -16)))
      (i32.sub (global.get $next) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -16))))"""
    return f"""(component
     (import "{EDGE_HOST}" (instance $e
      (export "call" (func (param "operation" u32) (param "payload" (list u8)) (result (list u8))))))
     (core module $l {allocator})
     (core instance $l (instantiate $l))
     (core func $f (canon lower (func $e "call") (memory (core memory $l "mem")) (realloc (core func $l "realloc"))))
     (core module $m (import "l" "mem" (memory 2)) (import "" "call" (func $call (param i32 i32 i32 i32)))
      (data (i32.const {PLACE}) "{escaped(payload(port))}")
      (func (export "handle") (param i32 i32) (result i32)
       {attack(f"(call $call (i32.const 1) (i32.const {PLACE}) (i32.const SIZE) (i32.const 32))", pages, PAYLOAD)}
       (i32.const 16)))
     (core instance $i (instantiate $m (with "l" (instance $l)) (with "" (instance (export "call" (func $f))))))
     (func (export "handle") (param "request" string) (result string)
      (canon lift (core func $i "handle") (memory (core memory $l "mem")) (realloc (core func $l "realloc")))))"""


@pytest.fixture
def upstream() -> Iterator[socket.socket]:
    """It takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        listening.settimeout(600)
        yield listening


@pytest.fixture
def server(tmp_path: Path, upstream: socket.socket) -> Iterator[Server]:
    port = upstream.getsockname()[1]
    guests = {
        "full": core(port, PAGES, MEMORY - PLACE, MEMORY // 2, PAYLOAD),
        "half": core(port, PAGES // 2, MEMORY // 2 - PLACE),
        "component": component(port, PAGES),
        "warm": core(port, 4, 1000),
    }
    for name, text in guests.items():
        home = tmp_path / "functions" / name / "v1"
        home.mkdir(parents=True)
        (home / f"{name}.wasm").write_bytes(capi.assemble(text))
    add_function(tmp_path, "stream", "components/http_stream")
    rules = {f"/{name}": {"functionName": name, "policy": "p"} for name in guests}
    rules["/stream/{rest:path}"] = {"functionName": "stream", "policy": "p"}
    policy = POLICY | {"allowedHosts": [f"http://127.0.0.1:{port}"]}
    made = config(tmp_path, rules, policies={"p": policy}, exposeEndpoints=True)
    (tmp_path / "wasm.yaml").write_text(yaml.safe_dump(made))
    (tmp_path / "plain.py").write_text(PLAIN)
    running = Server(tmp_path, tmp_path / "log", "plain:app", STARLETTE_WASM_CACHE_DIR=str(tmp_path / "cache"))
    running.wait_until_ready()
    yield running
    running.process.kill()  # its guests would hold it for long
    running.process.wait(60)


def resident(server: Server, what: str) -> int:
    """``VmRSS`` or ``VmHWM``, the highest so far, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


def test_memory_is_within_all_policies(server: Server, upstream: socket.socket) -> None:
    """As many guests as may run, with all the memory that they may have, calls under way, and clients that stall."""
    server.get("/stream/hello")
    with server.ask("/warm") as client:  # what is imported for the first request of a guest
        upstream.accept()[0].close()
        assert client.recv(1)
    base = resident(server, "VmRSS")
    with ExitStack() as stack:
        for path in ("/full", "/component", "/half"):
            for _ in range(N):
                stack.enter_context(server.ask(path))
        for _ in range(N):
            client = stack.enter_context(server.ask("/stream/events/60000"))
            client.settimeout(600)
            assert client.recv(1)  # it is answered, and nobody takes the rest
        for _ in range(3 * N):  # each guest waits for the host to send its copy
            stack.enter_context(upstream.accept()[0])
        used, filled = resident(server, "VmHWM") - base, 3 * N * MEMORY
        print(f"{used >> 20} MiB above {base >> 20} MiB; policies allow the guests that fill them {filled >> 20} MiB")
        assert 0.9 * filled < used < 1.1 * filled
