"""The globals of a module, and the instructions that give those that can change their first value again."""

from __future__ import annotations

from dataclasses import dataclass

from . import binary
from .binary import GLOBAL, Reader, leb

_GLOBAL_SET = b"\x24"


@dataclass(frozen=True, slots=True)
class Global:
    """A global that a module defines."""

    kind: int
    """A byte of VALUE_TYPES."""
    mutable: bool
    value: bytes
    """The constant expression of its first value, without its end. It is made of instructions like any."""


def globals_of(sections: dict[int, bytes]) -> list[Global]:
    """Read the globals of a validated module."""
    reader, found = Reader(sections.get(GLOBAL, b"\0")), []
    for _ in range(reader.u32()):
        kind, mutable, begin = reader.value_type(), bool(reader.byte()), reader.at
        binary.skip_constant(reader)
        found.append(Global(kind, mutable, reader.data[begin : reader.at - 1]))
    return found


def reset(found: list[Global]) -> bytes:
    """Return the instructions, for a module that imports no global."""
    return b"".join(each.value + _GLOBAL_SET + leb(index) for index, each in enumerate(found) if each.mutable)
