"""Running guests, and writing small ones."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from starlette_wasm.engine import layout
from starlette_wasm.engine.invocation import Invocation
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.outcome import End, Outcome
from starlette_wasm.engine.plan import Limits, Plan, Preopen

GUESTS = Path(__file__).parent.parent / "guests"
WASI = "wasi_snapshot_preview1"

# Parameters and results as the witx of preview 1 gives them: i is i32, l is i64.
SIGNATURES = {
    "args_get": "ii", "args_sizes_get": "ii", "environ_get": "ii", "environ_sizes_get": "ii",
    "clock_res_get": "ii", "clock_time_get": "ili",
    "fd_advise": "illi", "fd_allocate": "ill", "fd_close": "i", "fd_datasync": "i", "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii", "fd_fdstat_set_rights": "ill", "fd_filestat_get": "ii",
    "fd_filestat_set_size": "il", "fd_filestat_set_times": "illi", "fd_pread": "iiili", "fd_prestat_get": "ii",
    "fd_prestat_dir_name": "iii", "fd_pwrite": "iiili", "fd_read": "iiii", "fd_readdir": "iiili",
    "fd_renumber": "ii", "fd_seek": "ilii", "fd_sync": "i", "fd_tell": "ii", "fd_write": "iiii",
    "path_create_directory": "iii", "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiilli",
    "path_link": "iiiiiii", "path_open": "iiiiillii", "path_readlink": "iiiiii", "path_remove_directory": "iii",
    "path_rename": "iiiiii", "path_symlink": "iiiii", "path_unlink_file": "iii",
    "poll_oneoff": "iiii", "proc_exit": "i", "proc_raise": "i", "sched_yield": "", "random_get": "ii",
    "sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii", "sock_shutdown": "ii",
}  # fmt: skip


def imported(*names: str) -> str:
    """The imports of some WASI functions, as ``$name``."""
    return "".join(
        f'(import "{WASI}" "{name}" (func ${name}'
        + "".join(f" (param {'i32' if kind == 'i' else 'i64'})" for kind in SIGNATURES[name])
        + ("" if name == "proc_exit" else " (result i32)")
        + "))\n"
        for name in names
    )


def command(body: str, *imports: str, more: str = "", pages: int = 1) -> str:
    """The text of a command with this body.

    ``$print`` writes bytes of memory to stdout and ``$print_i32`` a number, little-endian; both use the 16 bytes
    from 65000.
    """
    return f"""(module
      {imported(*dict.fromkeys(("fd_write", *imports)))}
      (memory (export "memory") {pages})
      (func $print (param $at i32) (param $len i32)
        (i32.store (i32.const 65000) (local.get $at))
        (i32.store (i32.const 65004) (local.get $len))
        (drop (call $fd_write (i32.const 1) (i32.const 65000) (i32.const 1) (i32.const 65008))))
      (func $print_i32 (param $value i32)
        (i32.store (i32.const 65012) (local.get $value))
        (call $print (i32.const 65012) (i32.const 4)))
      {more}
      (func (export "_start") {body}))"""


def numbers(outcome: Outcome) -> list[int]:
    """What ``$print_i32`` printed."""
    assert outcome.end is End.OK, outcome
    return [int.from_bytes(outcome.stdout[at : at + 4], "little") for at in range(0, len(outcome.stdout), 4)]


def strings(*values: str) -> bytes:
    return layout.strings([value.encode() for value in values])


async def invoke(
    module: Module,
    stdin: bytes = b"",
    *,
    limits: Limits = Limits(),  # noqa: B008
    args: Sequence[str] = (),
    environ: Sequence[str] = (),
    preopens: tuple[Preopen, ...] = (),
) -> Outcome:
    """One invocation; its deadline counts from here."""
    invocation = Invocation(Plan(module, limits, strings(*args), preopens), stdin, strings(*environ))
    return await invocation.run(time.monotonic() + limits.time, nullcontext)


def run(module: Module, stdin: bytes = b"", **options: Any) -> Outcome:
    """One invocation in an event loop of its own."""
    return asyncio.run(invoke(module, stdin, **options))


def ask(module: Module, *, body: Any = None, **options: Any) -> Any:
    """What a guest of the edge protocol answers to a request with this body or ``query``."""
    request: dict[str, Any] = {"path": "/", "method": "POST", "headers": {}, "query": options.pop("query", {})}
    request["body"] = json.dumps(body)
    outcome = run(module, json.dumps(request).encode(), **options)
    return answer(outcome)


def answer(outcome: Outcome) -> Any:
    """The JSON in the body of an answer."""
    assert outcome.end is End.OK, outcome
    return json.loads(json.loads(outcome.stdout)["body"])
