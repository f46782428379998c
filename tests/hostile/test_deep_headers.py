"""Nested JSON in calls of the host: no Python recurses on a guest's stack of 2 MiB, which Python 3.14 knows nothing of.

A fault here is no failed test: it ends the process.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from apps import JSON, config, settings

from starlette_wasm import EdgeRequest, WasmRuntime
from starlette_wasm.capabilities import Operation
from starlette_wasm.engine import capi

DEEP = {
    "arrays": b'{"a":' + b"[" * 60_000,
    "closed arrays": b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "objects": b'{"a":' * 12_000,
    "both": b'{"a":[' * 10_000,
    "behind a string": b'{"a":"' + b'\\"[' * 1000 + b'","b":' + b"[" * 56_000,
}
GUEST = """(module (import "edge" "call" (func $call (param i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
 (memory (export "memory") 4)
 (data (i32.const 65536) "{data}") (data (i32.const 0) "\\10\\00\\00\\00{size}") (data (i32.const 16) "{answer}")
 (func (export "_start") {calls} (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
ANSWER = b'{"status_code": 200, "body": "lives"}'


def escaped(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


def guest(header: bytes) -> bytes:
    """One that makes every call there is with this header, and then answers."""
    data = len(header).to_bytes(4, "little") + header
    calls = "".join(
        f"(drop (call $call (i32.const {number}) (i32.const 65536) (i32.const {len(data)})))" for number in Operation
    )
    text = GUEST.replace("{data}", escaped(data)).replace("{calls}", calls)
    text = text.replace("{size}", escaped(len(ANSWER).to_bytes(4, "little"))).replace("{answer}", escaped(ANSWER))
    return capi.assemble(text)


@pytest.fixture(scope="module")
def wasm(tmp_path_factory: pytest.TempPathFactory) -> JSON:
    folder: Path = tmp_path_factory.mktemp("deep")
    for number, header in enumerate(DEEP.values()):
        home = folder / f"functions/f{number}/v1"
        home.mkdir(parents=True)
        (home / f"f{number}.wasm").write_bytes(guest(header))
    policies = {"long": {"executionTimeoutMs": 60_000}}
    return config(folder, policies=policies)


def test_deep_headers_of_all_calls_end_nothing(wasm: JSON) -> None:
    async def main() -> None:
        async with WasmRuntime(wasm, settings()) as runtime:
            for number in range(len(DEEP)):
                response = await runtime.invoke(f"f{number}", EdgeRequest(path="/"), policy="long")
                assert response.body == "lives"

    asyncio.run(main())
