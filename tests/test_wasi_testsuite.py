"""The harness for wasi-testsuite, on programs laid out as that suite lays them out."""

from __future__ import annotations

import asyncio
import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from wasi_endpoints import serving

from starlette_wasm.engine import capi

HARNESS = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "wasi_testsuite.py"))
WASI = "wasi_snapshot_preview1"
GUESTS = Path(__file__).parent / "guests"


def program(folder: Path, name: str, text: str, **beside: Any) -> None:
    (folder / f"{name}.wasm").write_bytes(capi.assemble(text))
    if beside:
        (folder / f"{name}.json").write_text(json.dumps(beside))


def test_the_harness_names_what_ends_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "suite/tests/c/testsuite/wasm32-wasip1"
    (folder / "fs.dir").mkdir(parents=True)
    start = '(memory (export "memory") 1) (func (export "_start")'
    exits = f'(module (import "{WASI}" "proc_exit" (func $exit (param i32))) {start} (call $exit (i32.const 3))))'
    makes = f"""(module (import "{WASI}" "proc_exit" (func $exit (param i32)))
        (import "{WASI}" "fd_prestat_get" (func (param i32 i32) (result i32)))
        (import "{WASI}" "path_create_directory" (func $make (param i32 i32 i32) (result i32)))
        (data (i32.const 0) "made") {start} (call $exit (call $make (i32.const 3) (i32.const 0) (i32.const 4)))))"""
    program(folder, "ends", f"(module {start}))")
    program(folder, "exits", exits, exit_code=3)
    program(folder, "makes", makes, root="fs.dir")
    program(folder, "fails", exits)
    program(folder, "traps", f"(module {start} unreachable))")
    (tmp_path / "place").mkdir()
    wrong, refused = asyncio.run(HARNESS["run"](tmp_path / "suite", tmp_path / "place"))
    assert {Path(name).stem: problem.partition(":")[0] for name, problem in wrong.items()} == {
        "fails": "3, expected 0",
        "traps": "p4 v1",
    }
    assert not (folder / "fs.dir/made").exists()
    assert not refused


UNKNOWN = """(component
    (import "wasi:webgpu/types@0.3.0" (instance $s (export "create" (func))))
    (core func $create (canon lower (func $s "create")))
    (core module $m (import "" "create" (func $create)) (func (export "run") (call $create)))
    (core instance $i (instantiate $m (with "" (instance (export "create" (func $create))))))
    (func (export "run") (canon lift (core func $i "run"))))"""


def test_handlers_answer_requests_and_ask_servers(tmp_path: Path) -> None:
    folder = tmp_path / "suite/tests/c/testsuite/wasm32-wasip3"
    folder.mkdir(parents=True)
    program(folder, "unknown", UNKNOWN)
    for name, body in (("right", "hello"), ("other", "bye")):
        shutil.copy(GUESTS / "components/http_task.wasm", folder / f"{name}.wasm")
        request = {"type": "request", "path": "/hello", "response": {"status": 200, "body": body}}
        (folder / f"{name}.json").write_text(json.dumps({"operations": [{"type": "run"}, request]}))
    (tmp_path / "place").mkdir()
    wrong, refused = asyncio.run(HARNESS["run"](tmp_path / "suite", tmp_path / "place"))
    assert {Path(name).stem: problem for name, problem in wrong.items()} == {"other": "body 'hello', expected 'bye'"}
    assert [Path(name).stem for name in refused] == ["unknown"]
    assert "it imports wasi:webgpu/types@0.3.0 create, which is not offered" in next(iter(refused.values()))


def test_endpoints_answer_as_specified() -> None:
    endpoints = [
        {"method": "POST", "path": "/echo", "mode": "echo-body"},
        {"path": "/headers", "mode": "echo-headers"},
        {"path": "/parts", "response": {"status": 201, "chunks": ["a", "bc"], "headers": {"x-a": "1"}}},
    ]

    async def go() -> None:
        async with serving(
            [{"name": "main", "endpoints": endpoints}, {"name": "dead", "kind": "closed"}]
        ) as environment:
            origin = f"http://{environment['HTTP_SERVER_MAIN']}"
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                assert (await client.post(f"{origin}/echo", content=b"abc")).content == b"abc"
                headers = (await client.get(f"{origin}/headers", headers={"x-b": "2"})).headers
                assert (headers["x-echo-x-b"], headers["x-request-path"]) == ("2", "/headers")
                parts = await client.get(f"{origin}/parts")
                assert (parts.status_code, parts.content, parts.headers["x-a"]) == (201, b"abc", "1")
                assert (await client.get(f"{origin}/other")).status_code == 404
                with pytest.raises(httpx.ConnectError):
                    await client.get(f"http://{environment['HTTP_SERVER_DEAD']}/")

    asyncio.run(go())
