"""What of wasmtime's library is resident."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from support import run

from starlette_wasm.engine.library import unmap_cold_pages
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.outcome import End


def resident() -> int:
    """KiB of the library."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = line.endswith("_libwasmtime.so")
        elif ours and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def test_guests_run_and_trap_on_pages_that_were_given_back(guest: Callable[[str], Module]) -> None:
    def ends() -> list[End]:
        return [run(guest("hello")).end, run(guest("trap"), b'{"query":{"mode":"div0"}}').end]

    assert ends() == [End.OK, End.TRAP]
    before = resident()
    unmap_cold_pages()
    assert resident() < before / 2
    assert ends() == [End.OK, End.TRAP]
