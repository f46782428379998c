"""Copies and comparisons of memory, large ones without the GIL: a copy of 34 MiB takes 20 ms, for which every other
thread would wait.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence

LARGE = 256 << 10
"""Bytes from which the GIL is left."""
_libc = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
_move = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(("memmove", _libc))
_compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(("memcmp", _libc))
_BLOCK = 64 << 10
_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
place_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyBytes_AsString", ctypes.pythonapi))


"""The address of what is in bytes, as long as those exist."""


def unset(size: int) -> tuple[bytes, int]:
    """Return bytes with no set content, and their address: whoever makes them fills them before anybody looks."""
    made: bytes = _new_bytes(None, size)
    return made, place_of(made)


def read(address: int, size: int) -> bytes:
    """Return so many bytes from an address."""
    if size < LARGE:
        return ctypes.string_at(address, size)
    made, place = unset(size)
    _move(place, address, size)
    return made


def write(address: int, data: bytes | int, size: int) -> None:
    """Copy to an address, from bytes or another address."""
    (ctypes.memmove if size < LARGE else _move)(address, data, size)


def copied(view: memoryview) -> bytes:
    """Return the bytes of a view; nothing else writes to it meanwhile."""
    if view.nbytes < LARGE or view.readonly:
        return bytes(view)
    return read(ctypes.addressof((ctypes.c_char * view.nbytes).from_buffer(view)), view.nbytes)


def joined(pieces: Sequence[bytes | bytearray]) -> bytes:
    """Return all in a row."""
    size = sum(map(len, pieces))
    if size < LARGE:
        return b"".join(pieces)
    made, place = unset(size)
    for each in pieces:
        write(place, bytes(each), len(each))
        place += len(each)
    return made


def first_difference(address: int, other: int, size: int) -> int | None:
    """Return the offset of the first byte that is another one in the other place; None if all are the same."""
    if not _compare(address, other, size):
        return None
    at = next(at for at in range(0, size, _BLOCK) if _compare(address + at, other + at, min(_BLOCK, size - at)))
    here, there = (ctypes.string_at(each + at, min(_BLOCK, size - at)) for each in (address, other))
    return at + next(i for i, (mine, theirs) in enumerate(zip(here, there, strict=True)) if mine != theirs)
