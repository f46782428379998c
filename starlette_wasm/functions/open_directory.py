"""A directory of the host that is held open for those it is granted to."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from ..config.inside import walk

_DESCRIPTORS = Path("/proc/self/fd")


class OpenDirectory:
    """A directory, closed by close(), or with the last one that holds it. Raises OSError if it cannot be opened.

    It is opened step by step: a symlink anywhere in ``path``, which is absolute, is an error, be it one that a guest
    with another grant puts there at this moment.

    ``path`` leads to the very directory that was opened: by its own path a guest could make another of it, between
    two requests, one that may write above it. A descriptor's number that is closed may come to stand for another
    directory, so whoever uses ``path`` holds this.
    """

    def __init__(self, path: Path) -> None:
        self._close: weakref.finalize[[int], OpenDirectory] | None = None
        if not _DESCRIPTORS.is_dir():
            self.path = str(path)
            return
        descriptor = walk(path.anchor, path.parts[1:])
        self.path = str(_DESCRIPTORS / str(descriptor))
        self._close = weakref.finalize(self, os.close, descriptor)
        self._close.atexit = False

    def close(self) -> None:
        if self._close is not None:
            self._close()
