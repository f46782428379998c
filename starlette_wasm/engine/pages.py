"""Which pages of a range of memory this process has written: those that are its own, and no longer a file's (Linux).

``PAGEMAP_SCAN`` (Linux 6.7) answers for a range at once; with an older kernel ``/proc/self/pagemap`` has a number for
each page.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
from array import array
from contextlib import suppress
from ctypes import Structure, c_uint64
from functools import cache
from itertools import groupby

PAGE = 4096
_FILE, _PRESENT, _SWAPPED, _ZERO = 1 << 2, 1 << 3, 1 << 4, 1 << 5
_REGIONS = 512
Region = tuple[int, int]
"""Begin and end of a run of pages."""


class _Scan(Structure):
    """``struct pm_scan_arg``."""

    _fields_ = tuple(
        (name, c_uint64)
        for name in ("size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages", "inverted", "mask",
                     "anyof", "back")
    )  # fmt: skip


class _PageRegion(Structure):
    """``struct page_region``."""

    _fields_ = (("start", c_uint64), ("end", c_uint64), ("categories", c_uint64))


_SCAN = 3 << 30 | ctypes.sizeof(_Scan) << 16 | ord("f") << 8 | 16


class Pages:
    """Looks at this process's own page tables. ``scan`` is whether the kernel does the looking."""

    def __init__(self, *, scan: bool = True) -> None:
        """Raise OSError if they cannot be read."""
        self.descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self.scan = scan
        if scan:
            try:
                self._scanned(0, PAGE)
            except OSError:
                self.scan = False

    def written(self, start: int, size: int) -> list[Region]:
        """Return the pages in a range that are private: written since it was mapped. Raises OSError."""
        end = start + size
        return self._scanned(start, end) if self.scan else self._read(start, end)

    def _scanned(self, start: int, end: int) -> list[Region]:
        regions = (_PageRegion * _REGIONS)()
        found: list[Region] = []
        while start < end:
            scan = _Scan(
                ctypes.sizeof(_Scan), 0, start, end, 0, ctypes.addressof(regions), _REGIONS, 0,
                _FILE | _ZERO, _FILE | _ZERO, _PRESENT | _SWAPPED, _PRESENT,
            )  # fmt: skip
            count = fcntl.ioctl(self.descriptor, _SCAN, scan)
            found += ((each.start, each.end) for each in regions[:count])
            if scan.walk_end <= start:
                raise OSError(f"the scan of page tables stopped at {start:#x} of {end:#x}")
            start = scan.walk_end
        return found

    def _read(self, start: int, end: int) -> list[Region]:
        entries = array("Q", os.pread(self.descriptor, (end - start) // PAGE * 8, start // PAGE * 8))
        own = (entry >> 61 in (0b010, 0b100, 0b110) for entry in entries)
        found, at = [], start
        for private, run in groupby(own):
            size = sum(1 for _ in run) * PAGE
            if private:
                found.append((at, at + size))
            at += size
        return found


@cache
def pages_of(process: int) -> Pages | None:
    """Return the page tables of the process with that number, which is this one; None if they cannot be read."""
    if sys.platform == "linux" and os.sysconf("SC_PAGE_SIZE") == PAGE:
        with suppress(OSError):
            return Pages()
    return None
