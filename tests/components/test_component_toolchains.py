"""Components of other toolchains over WASI 0.2, compared with wasmtime: Rust's standard library."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import wasmtime
from running import compiled
from wasmtime import component as oracle

from starlette_wasm.components.bound import ComponentPlan
from starlette_wasm.components.invocation import ComponentInvocation
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits, Preopen

RUST = Path(__file__).parents[1] / "guests" / "components" / "wasi_rust.wasm"


def run(module: Path, stdin: bytes, preopen: Preopen) -> Outcome:
    plan = ComponentPlan(compiled(module.read_bytes()), Limits(), preopens=(preopen,))
    return asyncio.run(ComponentInvocation(plan, stdin).run(time.monotonic() + 60, nullcontext))


def run_in_wasmtime(module: Path, stdin: bytes, preopen: Preopen, folder: Path) -> tuple[bytes, bytes]:
    """What a command writes to stdout and stderr."""
    engine = wasmtime.Engine()
    linker = oracle.Linker(engine)
    linker.add_wasip2()
    store = wasmtime.Store(engine)
    config = wasmtime.WasiConfig()
    files = [folder / name for name in ("stdin", "stdout", "stderr")]
    files[0].write_bytes(stdin)
    config.stdin_file, config.stdout_file, config.stderr_file = map(str, files)
    config.preopen_dir(preopen.host, preopen.guest, preopen.writable)
    store.set_wasi(config)
    instance = linker.instantiate(store, oracle.Component(engine, module.read_bytes()))
    found = (instance.get_export_index(store, f"wasi:cli/run@0.2.{patch}") for patch in range(30))
    interface = next(each for each in found if each is not None)
    index = instance.get_export_index(store, "run", interface)
    assert index is not None
    function = instance.get_func(store, index)
    assert function is not None
    function(store)
    return files[1].read_bytes(), files[2].read_bytes()


@pytest.mark.parametrize("writable", [True, False])
def test_rust_has_files_as_in_wasmtime(tmp_path: Path, writable: bool) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    outcome = run(RUST, b"hello world", Preopen(str(tmp_path / "ours"), "/data", writable))
    assert outcome.end is End.OK, outcome
    preopen = Preopen(str(tmp_path / "theirs"), "/data", writable)
    assert (outcome.stdout, outcome.stderr) == run_in_wasmtime(RUST, b"hello world", preopen, tmp_path)
    assert outcome.stdout.startswith(b"rest llo world and more\n" if writable else b"error: PermissionDenied\n")
