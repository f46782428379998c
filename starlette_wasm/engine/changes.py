"""Whether all that a core module can change is its memory and its plain globals: what an instance that is restored gets
back (restore.py).

Tables and segments cannot be put back: the instructions that change them are looked for in the code.
"""

from __future__ import annotations

import re

from . import binary
from .binary import CODE

_PLAIN = frozenset((0x7F, 0x7E, 0x7D, 0x7C, 0x7B))
_TABLE_SET, _DATA_DROP, _TABLE_INIT, _ELEM_DROP = 0x26, 0xFC09, 0xFC0C, 0xFC0D
_TABLE_COPY, _TABLE_GROW, _TABLE_FILL = 0xFC0E, 0xFC0F, 0xFC11
_CHANGING = frozenset((_TABLE_SET, _DATA_DROP, _TABLE_INIT, _ELEM_DROP, _TABLE_COPY, _TABLE_GROW, _TABLE_FILL))
_MOST_TABLES = 8
# table.set and the index of one of _MOST_TABLES, or the prefix and the number of one of the others; both may be padded.
_MAYBE_CHANGING = re.compile(rb"\x26[\x00-\x07\x80-\x87]|\xfc[\x09\x0c-\x0f\x11\x89\x8c-\x8f\x91]")


def only_memory_changes(sections: dict[int, bytes], mutable: list[int], tables: int) -> bool:
    """Return whether only a module's memory changes. It is validated.

    ``mutable`` has the types of its mutable globals; ``tables`` is how many it has, those that it imports included.
    """
    if tables > _MOST_TABLES or not _PLAIN.issuperset(mutable):
        return False
    return not any(map(_changes, binary.bodies(sections.get(CODE, b"\0"))))


def _changes(body: bytes) -> bool:
    """Decode only bodies in which the bytes of such an instruction occur, and return whether one has it."""
    if not _MAYBE_CHANGING.search(body):
        return False
    return any(opcode in _CHANGING for _, opcode, _ in binary.instructions(body))
