"""Where things live in the io memory, the second memory of every linked guest.

The guest reaches it only through the bodies of wasi.wat; still, everything read back from it is treated as
written by the guest.
"""

from __future__ import annotations

import struct

PAGE = 65536
IO = 32768
"""Bytes that the io memory has from the start: all of them are cleared after each request. It grows in whole pages."""
SHORTEST_SLEEP_NS = 1_000

# fmt: off
FIELDS = {
    "in_ptr": 0, "in_len": 4, "in_pos": 8,
    "out_ptr": 12, "out_len": 16, "out_cap": 20,
    "err_ptr": 24, "err_len": 28, "err_cap": 32,
    "overflow": 36,  # 1: stdout past its bound, 2: no memory for it
    "exit": 40, "exit_code": 44,
    "refused": 48, "refused_pages": 52,
    "denials": 56,
    "open_fds": 60,
    "dropped": 64,  # i64: bytes of stderr past its bound
    "pages": 72,  # of the guest's memory, as far as the guest knows
    "max_pages": 76, "files": 80, "max_fds": 84,
    "args": 88, "environ": 92,
    "resolution": 96, "started": 104,  # i64, nanoseconds
    "realtime": 112, "monotonic": 120,  # i64, nanoseconds
    "max_file": 128, "bytes_left": 136,  # i64
    "entries_left": 144,
    "random_key": 160, "random_counter": 192, "random_block": 208,
    "random_pos": 272,
    "streams": 276,  # 3 i32: the descriptors of stdin, stdout and stderr, see $stream
    "scratch": 288,
    "denial_list": 352,  # 8 entries of 144 bytes
    "size": 1504, "missing": 1512,  # i64
}
# fmt: on
DENIALS, DENIAL_SIZE = 8, 144
DATA = 1520  # args, environment, stdin, stdout and stderr follow, in this order

HEADER_HEAD = struct.Struct("<9I")  # in_ptr to err_cap
HEADER_TAIL = struct.Struct("<3I 2I 2I Q I 3I 2I 2Q 2Q 2Q I 12x 32s")  # overflow to random_key
RESULTS = struct.Struct("<9I 3I 2I 2I Q I")  # in_ptr to pages
CLOCKS = struct.Struct("<2Q")  # realtime, monotonic
STREAMS = struct.Struct("<3i")
DENIAL = struct.Struct("<4I")

assert FIELDS["denial_list"] + DENIALS * DENIAL_SIZE <= FIELDS["size"]
assert HEADER_HEAD.size + HEADER_TAIL.size == FIELDS["random_counter"]
assert RESULTS.size == FIELDS["max_pages"]
HEADER_PADDING = bytes(DATA - FIELDS["random_counter"])


def strings(values: list[bytes]) -> bytes:
    """Make a block as ``$strings`` of wasi.wat reads it: count, size, offsets, NUL-terminated data."""
    offsets, at = [], 0
    for value in values:
        offsets.append(at)
        at += len(value) + 1
    return struct.pack(f"<{2 + len(offsets)}I", len(offsets), at, *offsets) + b"".join(v + b"\0" for v in values)
