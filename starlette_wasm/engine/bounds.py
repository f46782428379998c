"""Bounds on what a guest consists of: what a compiler needs of time and memory may grow faster than its input.

Far above what toolchains make, far below what the format allows.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import binary
from .binary import (
    CODE,
    DATA,
    ELEMENT,
    EXPORT,
    FUNCTION,
    GLOBAL,
    IMPORT,
    TABLE,
    TYPE,
    Reader,
    UnsupportedError,
    vector,
)

LOCALS = 10_000
"""Locals of one function, without its parameters."""
BODY = 2 << 20
"""Bytes of one function."""
TABLE_ELEMENTS = 100_000
"""Elements of one table."""
TABLES = 8
"""Tables of one guest, the host's included."""
_ELEMENT_BYTES = 4 << 20
_COUNTS = {
    TYPE: (10_000, "types"),
    IMPORT: (1_000, "imports"),
    FUNCTION: (100_000, "functions"),
    TABLE: (TABLES - 1, "tables"),
    GLOBAL: (10_000, "globals"),
    EXPORT: (50_000, "exports"),
    ELEMENT: (10_000, "element segments"),
    DATA: (100_000, "data segments"),  # as many as Go's linker makes at most, and wasmtime takes
}


def check(guest: bytes) -> None:
    """Raise UnsupportedError for a validated core module that is out of bounds."""
    sections, _ = binary.split(guest)
    for kind, (most, what) in _COUNTS.items():
        count, _ = vector(sections.get(kind))
        _at_most(count, most, what)
    _at_most(len(sections.get(ELEMENT, b"")), _ELEMENT_BYTES, "bytes of element segments")
    for minimum in _tables(sections.get(TABLE, b"\0")):
        _at_most(minimum, TABLE_ELEMENTS, "elements in a table")
    for index, body in enumerate(binary.bodies(sections.get(CODE, b"\0"))):
        where = f" in function {index} of its code"
        _at_most(len(body), BODY, f"bytes{where}")
        _at_most(_locals(body), LOCALS, f"locals{where}")


def _at_most(count: int, most: int, what: str) -> None:
    if count > most:
        raise UnsupportedError(f"it has {count:,} {what}; the most is {most:,}", "build it for size, or split it")


def _tables(section: bytes) -> Iterator[int]:
    reader = Reader(section)
    for _ in range(reader.u32()):
        reader.value_type()
        _, minimum, _ = reader.limits()
        yield minimum


def _locals(body: bytes) -> int:
    reader, count = Reader(body), 0
    for _ in range(reader.u32()):
        count += reader.u32()
        reader.value_type()
    return count
