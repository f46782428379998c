"""Puts versions of functions into ``functionsDir``, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from ...config.names import is_function_name, is_version
from . import signatures_file
from .errors import RegistryError

MANIFEST = "function.yaml"
PULLED = ".pulled"
"""A file beside a ``function.yaml`` that came from elsewhere: its ``build:`` is run by nobody who has not read it."""
_MARK = b"function.yaml came from elsewhere: starlette-wasm build asks before it runs what is in it\n"
_PIECE = 1 << 20


def module_file(directory: Path, name: str, version: str) -> Path:
    """Return where the module of a version lies."""
    return directory / name / f"v{version}" / f"{name}.wasm"


def digest_of_file(file: Path) -> str:
    """Return the digest of a file, or an empty text if there is none. Raises RegistryError."""
    hashed = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE):
                hashed.update(piece)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise RegistryError(f"cannot be read: {error.strerror}", source=str(file)) from None
    return f"sha256:{hashed.hexdigest()}"


def installed(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, version) of every version in a directory. Raises RegistryError if it is a file."""
    if directory.exists() and not directory.is_dir():
        raise RegistryError("is not a directory", source=str(directory), hint="correct functionsDir")
    for file in sorted(directory.glob("*/v*/*.wasm")):
        name, version = file.parts[-3], file.parts[-2][1:]
        if file.stem == name and is_function_name(name) and is_version(version) and file.is_file():
            yield name, version


def place(
    directory: Path, name: str, version: str, part: Path, manifest: str | None, signatures: bytes | None = None
) -> Path:
    """Move a module, with its ``function.yaml`` and signatures if it has them, to where the app looks.

    Returns the module.

    A new version appears by one rename of its folder. In a folder that is there already each file is replaced by a
    rename, the manifest first; a reload takes both in one look, since it waits until files rest.
    """
    folder = module_file(directory, name, version).parent
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.is_symlink() or folder.parent.is_symlink():
            raise RegistryError("is a link, which is not followed", source=str(folder), hint="remove it")
        fresh = folder if folder.is_dir() else folder.with_name(f".{folder.name}.{mine()}")
        fresh.mkdir(exist_ok=True)
        given = None if manifest is None else manifest.encode()
        for file, content in ((PULLED, given and _MARK), (MANIFEST, given), (signatures_file.NAME, signatures)):
            if content is None:
                (fresh / file).unlink(missing_ok=True)
            else:
                write(fresh / file, content)
        os.replace(part, fresh / f"{name}.wasm")
        _sync(fresh)
        if fresh != folder:
            fresh.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        raise RegistryError(
            f"cannot be written: {error.strerror}", source=str(folder), hint="check owner, mode and free space"
        ) from None
    return folder / f"{name}.wasm"


def has_beside(directory: Path, name: str, version: str, manifest: str | None, signatures: bytes | None) -> bool:
    """Return whether a version has that ``function.yaml`` and those signatures beside its module."""
    folder = module_file(directory, name, version).parent
    wanted = {MANIFEST: None if manifest is None else manifest.encode(), signatures_file.NAME: signatures}
    return all(content == _content(folder / file) for file, content in wanted.items())


def has_manifest(directory: Path, name: str, version: str, manifest: str | None) -> bool:
    """Return whether a version has that ``function.yaml`` beside its module."""
    wanted = None if manifest is None else manifest.encode()
    return _content(module_file(directory, name, version).with_name(MANIFEST)) == wanted


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def remove(directory: Path, name: str, version: str) -> None:
    """Remove a version: it disappears by one rename."""
    folder = module_file(directory, name, version).parent
    removed = folder.with_name(f".{folder.name}.removed.{mine()}")
    folder.rename(removed)
    shutil.rmtree(removed)
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def mine() -> str:
    """Return a name that no other process uses, not even one with the same id in another container on the volume."""
    return f"{socket.gethostname()}.{os.getpid()}"


def write(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Raises OSError."""
    temporary = file.with_name(f".{file.name}.{mine()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
