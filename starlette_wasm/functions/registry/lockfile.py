"""``functions.lock``: which versions a node serves, by digest. TOML, sorted, one block an entry, made to be merged."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config.names import is_function_name, is_version, version_key
from . import place
from .errors import RegistryError
from .reference import is_digest
from .reference import parse as parse_reference

NAME = "functions.lock"
MOST_BYTES = 4 << 20
_HEADER = "# Written by starlette-wasm lock. Which versions of functions a node serves, by digest.\nversion = 1\n"
_KEYS = {"name", "version", "module", "source", "manifest", "signed-by"}
_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one function."""

    name: str
    version: str
    module: str
    """Digest of the module: what ``/ready`` shows, and what the AOT cache is keyed by."""
    source: str
    """Its origin: a reference without tag and digest, or ``local``."""
    manifest: str = ""
    """Digest of the manifest: what is pulled and signed. Empty for a local module."""
    signed_by: str = ""
    """SHA-256 of the public key that had signed it when it was locked."""

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.version


def read(file: Path) -> list[Entry]:
    """Read a lock file. Raises RegistryError, which names the file, the entry and the key."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise RegistryError("does not exist", source=str(file), hint="make it with starlette-wasm lock") from None
    except OSError as error:
        raise RegistryError(f"cannot be read: {error.strerror}", source=str(file)) from None
    return parse(data, str(file))


def parse(data: bytes, source: str) -> list[Entry]:
    """Read the content of a lock file. Raises RegistryError, as read()."""
    if len(data) > MOST_BYTES:
        raise RegistryError(f"has more than {MOST_BYTES} bytes", source=source)
    try:
        document = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise RegistryError(f"is not valid TOML: {error}", source=source) from None
    if document.get("version") != 1:
        raise RegistryError(
            f"version is {document.get('version')!r}, not 1",
            source=source,
            hint="make it anew with starlette-wasm lock",
        )
    blocks = document.get("function", [])
    if not isinstance(blocks, list):
        raise RegistryError("'function' is not a list of blocks", source=source, hint="write [[function]]")
    entries = [_entry(block, f"{source}: [[function]] {number}") for number, block in enumerate(blocks, 1)]
    times = Counter(entry.key for entry in entries)
    twice = next((entry for entry in entries if times[entry.key] > 1), None)
    if twice is not None:
        raise RegistryError(f"{twice} stands there twice", source=source, hint="keep one block of it")
    return entries


def _entry(block: Any, source: str) -> Entry:
    def wrong(key: str, hint: str) -> RegistryError:
        value = block.get(key) if isinstance(block, dict) else block
        return RegistryError(f"{key}: {str(value)[:80]!r} is not valid", source=source, hint=hint)

    if not isinstance(block, dict):
        raise RegistryError("is not a block", source=source, hint="write [[function]] and keys below it")
    unknown = sorted(set(block) - _KEYS)
    if unknown:
        raise RegistryError(f"unknown key {unknown[0]!r}", source=source, hint=f"known are {', '.join(sorted(_KEYS))}")
    values = {key: block.get(key, "") for key in _KEYS}
    if not all(isinstance(value, str) for value in values.values()):
        raise RegistryError("has a value that is not text", source=source, hint="quote it")
    if not is_function_name(values["name"]):
        raise wrong("name", "use letters, digits and '._-'")
    if not is_version(values["version"]):
        raise wrong("version", "use digits and dots, without a leading v")
    if not is_digest(values["module"]):
        raise wrong("module", "write sha256: and 64 hexadecimal digits")
    if values["signed-by"] and not _HEX.match(values["signed-by"]):
        raise wrong("signed-by", "write 64 hexadecimal digits")
    if values["source"] != "local":
        parse_reference(values["source"])
        if not is_digest(values["manifest"]):
            raise wrong("manifest", "write sha256: and 64 hexadecimal digits")
    return Entry(
        values["name"], values["version"], values["module"], values["source"], values["manifest"], values["signed-by"]
    )


def write(file: Path, entries: Iterable[Entry]) -> bool:
    """Write a lock file, atomically. Returns whether its text has changed."""
    text = render(entries)
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return False
    try:
        place.write(file, text.encode())
    except OSError as error:
        raise RegistryError(f"cannot be written: {error.strerror}", source=str(file)) from None
    return True


def render(entries: Iterable[Entry]) -> str:
    """Return the text of a lock file."""
    blocks = [_HEADER]
    for entry in sorted(entries, key=lambda each: (each.name, version_key(each.version))):
        pairs = {
            "name": entry.name,
            "version": entry.version,
            "source": entry.source,
            "manifest": entry.manifest,
            "module": entry.module,
            "signed-by": entry.signed_by,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in pairs.items() if value]
        blocks.append("\n".join(["[[function]]", *lines]) + "\n")
    return "\n".join(blocks)
