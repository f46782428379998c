"""Descriptors of a guest behave as those of wasmtime's own WASI, which each call is compared with."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
import time
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path

import pytest
import wasmtime

from starlette_wasm.engine.engine import Engine
from starlette_wasm.engine.invocation import Invocation
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.outcome import End
from starlette_wasm.engine.plan import Limits, Plan, Preopen

Call = tuple[str, *tuple[int, ...]]

WASI = "wasi_snapshot_preview1"
TYPES = {
    "fd_advise": "iIIi",
    "fd_allocate": "iII",
    "fd_close": "i",
    "fd_datasync": "i",
    "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii",
    "fd_fdstat_set_rights": "iII",
    "fd_filestat_get": "ii",
    "fd_filestat_set_size": "iI",
    "fd_filestat_set_times": "iIIi",
    "fd_pread": "iiiIi",
    "fd_prestat_dir_name": "iii",
    "fd_prestat_get": "ii",
    "fd_pwrite": "iiiIi",
    "fd_read": "iiii",
    "fd_readdir": "iiiIi",
    "fd_renumber": "ii",
    "fd_seek": "iIii",
    "fd_sync": "i",
    "fd_tell": "ii",
    "fd_write": "iiii",
    "path_create_directory": "iii",
    "path_open": "iiiiiIIii",
    "sock_accept": "iii",
    "sock_recv": "iiiiii",
    "sock_send": "iiiii",
    "sock_shutdown": "ii",
}
RECORD = struct.Struct("<10Q")
IOVS, AT = 0x100, 0x400
"""Of one vector of 4 bytes; where results go."""
GOOD = {
    "fd_advise": (0, 0, 0),
    "fd_allocate": (0, 1),
    "fd_close": (),
    "fd_datasync": (),
    "fd_fdstat_get": (AT,),
    "fd_fdstat_set_flags": (0,),
    "fd_filestat_get": (AT,),
    "fd_filestat_set_size": (1,),
    "fd_filestat_set_times": (0, 0, 0),
    "fd_pread": (IOVS, 1, 0, AT),
    "fd_prestat_dir_name": (AT, 8),
    "fd_prestat_get": (AT,),
    "fd_pwrite": (IOVS, 1, 0, AT),
    "fd_read": (IOVS, 1, AT),
    "fd_readdir": (AT, 8, 0, AT),
    "fd_seek": (0, 1, AT),
    "fd_sync": (),
    "fd_tell": (AT,),
    "fd_write": (IOVS, 1, AT),
    "sock_accept": (0, AT),
    "sock_recv": (IOVS, 1, 0, AT, AT + 8),
    "sock_send": (IOVS, 1, 0, AT),
    "sock_shutdown": (0,),
}
"""Arguments behind the descriptor."""
OPEN: Call = ("path_open", 3, 0, 0, 1, 1, 0x40 | 0x2 | 0x4 | 0x20, 0, 0, AT)
"""Of a new file."""


def call(name: str, fd: int) -> Call:
    return (name, fd, *GOOD[name])


@cache
def guest() -> bytes:
    """Reads calls from stdin, makes them, and exits with the errno of the last."""
    kinds = {"i": "i32", "I": "i64"}
    imports = "".join(
        f'(import "{WASI}" "{name}" (func ${name} {" ".join(f"(param {kinds[k]})" for k in kind)} (result i32)))'
        for name, kind in TYPES.items()
    )
    lines = []
    for number, (name, types) in enumerate(TYPES.items()):
        arguments = [f"(i64.load offset={8 * i + 8} (local.get $at))" for i in range(len(types))]
        given = [each if kind == "I" else f"(i32.wrap_i64 {each})" for kind, each in zip(types, arguments, strict=True)]
        wanted = f"(i64.eq (i64.load (local.get $at)) (i64.const {number}))"
        lines.append(f"(if {wanted} (then (local.set $e (call ${name} {' '.join(given)}))))")
    return bytes(
        wasmtime.wat2wasm(
            f"""(module {imports} (import "{WASI}" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 2) (data (i32.const 0) "f")
            (data (i32.const {IOVS}) "\\00\\02\\00\\00\\04\\00\\00\\00\\00\\00\\01\\00\\00\\10\\00\\00")
            (func (export "_start") (local $e i32) (local $at i32)
              (drop (call $fd_read (i32.const 0) (i32.const {IOVS + 8}) (i32.const 1) (i32.const {AT})))
              (i32.store (i32.const {AT - 8}) (i32.load (i32.const {AT})))
              (local.set $at (i32.const 65536))
              (loop $next
                {" ".join(lines)}
                (local.set $at (i32.add (local.get $at) (i32.const {RECORD.size})))
                (br_if $next (i32.lt_u (local.get $at) (i32.add (i32.const 65536) (i32.load (i32.const {AT - 8}))))))
              (call $exit (local.get $e))))"""
        )
    )


def script(calls: tuple[Call, ...]) -> bytes:
    """What the guest reads of ``calls``."""
    numbers = list(TYPES)
    rows = [(numbers.index(name), *arguments, *[0] * (9 - len(arguments))) for name, *arguments in calls]
    return b"".join(RECORD.pack(*row) for row in rows)


@cache
def _engine() -> wasmtime.Engine:
    return wasmtime.Engine()


@cache
def _module() -> wasmtime.Module:
    return wasmtime.Module(_engine(), guest())


def theirs(calls: bytes, folder: Path, granted: bool) -> int:
    """The exit code with wasmtime's own WASI."""
    (folder / "stdin").write_bytes(calls)
    store = wasmtime.Store(_engine())
    config = wasmtime.WasiConfig()
    config.stdin_file = str(folder / "stdin")
    if granted:
        (folder / "granted").mkdir()
        config.preopen_dir(str(folder / "granted"), "/")
    store.set_wasi(config)
    linker = wasmtime.Linker(_engine())
    linker.define_wasi()
    start = linker.instantiate(store, _module()).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    with pytest.raises(wasmtime.ExitTrap) as trap:
        start(store)
    return int(trap.value.code)


@contextlib.asynccontextmanager
async def unguarded() -> AsyncIterator[None]:
    yield


def ours(module: Module, calls: bytes, folder: Path, granted: bool) -> int:
    (folder / "ours").mkdir()
    preopens = (Preopen(str(folder / "ours"), "/", True),) if granted else ()
    outcome = asyncio.run(
        Invocation(Plan(module, Limits(), preopens=preopens), calls).run(time.monotonic() + 60, unguarded)
    )
    assert outcome.end in (End.OK, End.EXIT), outcome
    return outcome.exit_code or 0


@pytest.fixture(scope="module")
def module(engine: Engine) -> Module:
    return Module.compile(engine, guest())


@pytest.fixture
def compare(module: Module, tmp_path: Path) -> Callable[..., None]:
    numbers = itertools.count()

    def compare(*calls: Call, granted: bool) -> None:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        made = script(calls)
        assert ours(module, made, folder, granted) == theirs(made, folder, granted), calls

    return compare


@pytest.mark.parametrize("granted", [False, True])
@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.parametrize("fd", [0, 1, 2, 3, 77, 2**31, 2**32 - 1])
def test_a_call_gives_the_errno_of_wasmtime(compare: Callable[..., None], name: str, fd: int, granted: bool) -> None:
    compare(call(name, fd), granted=granted)


@pytest.mark.parametrize("granted", [False, True])
@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.parametrize("fd", [0, 1, 2])
def test_a_closed_stream_is_no_descriptor(compare: Callable[..., None], name: str, fd: int, granted: bool) -> None:
    compare(call("fd_close", fd), call(name, fd), granted=granted)


@pytest.mark.parametrize("granted", [False, True])
@pytest.mark.parametrize("to", [0, 1, 2, 3, 4, 77])
@pytest.mark.parametrize("source", [0, 1, 2, 3, 4, 77])
def test_renumbering_moves_what_is_there(compare: Callable[..., None], source: int, to: int, granted: bool) -> None:
    moved = ("fd_renumber", source, to)
    compare(OPEN, moved, granted=granted)
    for name, fd in itertools.product(("fd_read", "fd_write", "fd_seek", "fd_tell", "sock_shutdown"), (source, to)):
        compare(OPEN, moved, call(name, fd), granted=granted)


def test_a_file_takes_the_place_of_stdout(compare: Callable[..., None]) -> None:
    compare(OPEN, ("fd_renumber", 4, 1), call("fd_tell", 1), granted=True)
    compare(call("fd_close", 0), OPEN, call("fd_tell", 0), granted=True)
