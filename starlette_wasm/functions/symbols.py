"""Where in the sources of a function a trap was, as far as its module says."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.outcome import Outcome

if TYPE_CHECKING:
    from ..engine.dwarf import Lines

logger = logging.getLogger("starlette_wasm")


class Symbols:
    """The lines of one module, read from its file when it first traps; neither loading nor compiling pays for them."""

    def __init__(self, file: Path, digest: str, size: int) -> None:
        """``digest`` and ``size`` are of the bytes which were loaded: lines of others would be wrong."""
        self._file = file
        self._size = size
        self._digest = digest
        self._lines: Lines | None = None
        self._reading = threading.Lock()

    async def frames(self, outcome: Outcome) -> tuple[str, ...]:
        """The frames of a trap, with `` (file:line)`` where that is known. A trap while they are read goes without."""
        if self._lines is None:
            if not self._reading.acquire(blocking=False):
                return outcome.frames
            try:
                self._lines = await asyncio.to_thread(self._read)
            finally:
                self._reading.release()
        lines = self._lines
        if not lines:
            return outcome.frames
        found = (lines.find(*place) for place in outcome.places)
        named = [f"{name} ({where})" if where else name for name, where in zip(outcome.frames, found, strict=False)]
        return (*named, *outcome.frames[len(named) :])

    def _read(self) -> Lines:
        from ..engine.dwarf import Lines  # few functions trap

        try:
            with self._file.open("rb") as stream:
                guest = stream.read(self._size + 1)  # whatever is there now
        except OSError as error:
            logger.warning("no lines for traps: %s: %s", self._file, error.strerror)
            guest = b""
        if hashlib.sha256(guest).hexdigest() != self._digest:
            return Lines(b"")
        return Lines(guest)
