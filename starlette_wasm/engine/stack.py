"""How much of a guest's memory its own stack takes, as wasm-ld lays it out: up to where the stack pointer begins."""

from __future__ import annotations

from . import layout
from .binary import DATA, GLOBAL, Reader

_I32, _MUTABLE, _I32_CONST = 0x7F, 1, 0x41
_MOST = 1 << 31


def stack_pages(sections: dict[int, bytes]) -> int:
    """Count the pages of 64 KiB below the stack pointer, the first global; 0 if data lies there, or it is none."""
    reader = Reader(sections.get(GLOBAL, b"\0"))
    if not reader.u32() or (reader.byte(), reader.byte(), reader.byte()) != (_I32, _MUTABLE, _I32_CONST):
        return 0
    pointer = reader.u32()
    first = _first_data(sections.get(DATA, b"\0"))
    return 0 if pointer >= _MOST or first < pointer else pointer // layout.PAGE


def _first_data(section: bytes) -> int:
    """Find where the first data segment goes, if that is a constant: wasm-ld sorts them."""
    reader = Reader(section)
    if not reader.u32() or reader.u32() != 0 or reader.byte() != _I32_CONST:
        return _MOST
    return reader.u32()
