"""A lock on a functions directory, for the processes that share it."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from .errors import RegistryError

_LOCK = ".source.busy"
_PAUSE_SECONDS = 0.1


@asynccontextmanager
async def directory_lock(directory: Path) -> AsyncIterator[None]:
    """Wait until no other process, and no other task of this one, puts functions into a directory.

    The directory is made if it is missing. Raises RegistryError if it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        hint = "make it writable for the user that runs the app"
        raise RegistryError(f"cannot be written: {error.strerror}", source=str(directory), hint=hint) from None
    try:
        while not _locked(descriptor):
            await asyncio.sleep(_PAUSE_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
