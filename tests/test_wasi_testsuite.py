"""The harness for wasi-testsuite, on programs laid out as that suite lays them out."""

from __future__ import annotations

import asyncio
import json
import runpy
from pathlib import Path
from typing import Any

from starlette_wasm.engine import capi

HARNESS = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "wasi_testsuite.py"))
WASI = "wasi_snapshot_preview1"


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
    wrong = asyncio.run(HARNESS["run"](tmp_path / "suite", tmp_path / "place"))
    assert {Path(name).stem: problem.partition(":")[0] for name, problem in wrong.items()} == {
        "fails": "3, expected 0",
        "traps": "p4 v1",
    }
    assert not (folder / "fs.dir/made").exists()
