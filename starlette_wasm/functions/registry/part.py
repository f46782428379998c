"""The file that a module is downloaded into, which stays for a next try if the download breaks off."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from .errors import RegistryError
from .reference import is_digest

_PARTS = ".parts"
_MOST = 16
"""Files that are kept for a next try, of 64 MiB at most: a registry may name others again and again."""
_PAUSE_SECONDS = 0.05


@asynccontextmanager
async def part_of(directory: Path, digest: str) -> AsyncIterator[Path]:
    """Give the file for a module, which nobody else writes to meanwhile, be it a task or another process.

    It is to be moved away. If it is not, it stays for a next try unless it is empty. Raises RegistryError.
    """
    folder = directory / _PARTS
    file = folder / digest.removeprefix("sha256:")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.is_symlink():
            raise RegistryError("is a link, which is not followed", source=str(folder), hint="remove it")
        descriptor = await _locked(file)
    except OSError as error:
        hint = "check owner, mode and free space, and that it is a plain file"
        raise RegistryError(f"cannot be made: {error.strerror}", source=str(file), hint=hint) from None
    try:
        yield file
    finally:
        try:
            _tidy(folder, file, descriptor)
        finally:
            os.close(descriptor)  # and with it the lock: the next one would wait for that for ever


def _tidy(folder: Path, file: Path, descriptor: int) -> None:
    with suppress(FileNotFoundError):  # the folder was removed meanwhile
        if _is(file, descriptor) and os.fstat(descriptor).st_size == 0:
            file.unlink()
        _remove_old(folder)


async def _locked(file: Path) -> int:
    """Return a descriptor of the file with a lock on it. Raises OSError, for a link too."""
    while True:
        descriptor = _opened(file)
        try:
            while not _lock(descriptor):
                await asyncio.sleep(_PAUSE_SECONDS)
            if _is(file, descriptor):  # else whoever had the lock has moved it away
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _lock(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _is(file: Path, descriptor: int) -> bool:
    """Return whether the file is still the one that was opened."""
    try:
        return os.path.samestat(os.lstat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_old(folder: Path) -> None:
    """Remove what was left longest ago, if it is too much and nobody writes to it."""
    kept = [file for file in folder.iterdir() if is_digest(f"sha256:{file.name}") and file.is_file()]
    if len(kept) <= _MOST:
        return
    kept.sort(key=_changed)
    for file in kept[:-_MOST]:
        with suppress(OSError):
            descriptor = _opened(file)
            try:
                if _lock(descriptor):
                    file.unlink()
            finally:
                os.close(descriptor)


def _changed(file: Path) -> float:
    try:
        return file.lstat().st_mtime
    except FileNotFoundError:  # moved to its place meanwhile
        return 0.0
