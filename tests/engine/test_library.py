"""What of the libraries is resident."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel
from support import run

from starlette_wasm.engine.library import unmap_cold_pages
from starlette_wasm.engine.module import Module
from starlette_wasm.engine.outcome import End


def resident(library: str = "_libwasmtime.so") -> int:
    """KiB of a library, by the end of its name."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = library in line
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


def test_configs_are_read_on_pages_that_were_given_back() -> None:
    class Config(BaseModel):
        name: str
        number: int

    def read() -> Config:
        return Config.model_validate({"name": "a", "number": "3"})

    before = read(), resident("_pydantic_core")
    unmap_cold_pages()
    assert resident("_pydantic_core") < before[1] / 2
    assert read() == before[0] == Config(name="a", number=3)
