"""Fills a folder with wheels: those of an index, or packed again from what is installed here."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

_EARLIEST = f"{sys.version_info[0]}.{sys.version_info[1]}.0"


class PackError(Exception):
    """A wheel cannot be had; the text is the reason."""


def from_index(wanted: Iterable[str], folder: Path, python: str, constraints: Path) -> None:
    """Download wheels of the requirements, and of theirs, for a version of Python on this platform."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder),
        "--only-binary", ":all:", "--python-version", python, "--constraint", str(constraints), *wanted,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PackError("\n".join(["pip download failed:", *done.stderr.splitlines()[-10:]]))


def pack_installed(wanted: Iterable[str], folder: Path) -> None:
    """Pack wheels of what is installed in this environment. Raises PackError for what is not.

    They are for the same version of Python, of any patch level.
    """
    for found in _closure(wanted):
        _pack(found, folder)


def _closure(wanted: Iterable[str]) -> list[Distribution]:
    """Return the distributions of the requirements, and of theirs."""
    found: dict[str, Distribution] = {}
    done: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(each) for each in wanted]
    while waiting:
        requirement = waiting.pop()
        key = re.sub(r"[-_.]+", "-", requirement.name).lower(), frozenset(requirement.extras)
        if key in done:
            continue
        done.add(key)
        try:
            each = found[key[0]] = distribution(requirement.name)
        except PackageNotFoundError:
            raise PackError(f"{requirement.name} is not installed here; run scripts/setup") from None
        waiting += _needed(each, requirement.extras)
    return [found[name] for name in sorted(found)]


def _needed(found: Distribution, extras: Iterable[str]) -> Iterator[Requirement]:
    for text in found.requires or ():
        requirement = Requirement(text)
        # The earliest patch level is not satisfied by less.
        environments = [{"python_full_version": _EARLIEST, "extra": extra} for extra in (*extras, "")]
        if requirement.marker is None or any(requirement.marker.evaluate(each) for each in environments):
            yield requirement


def _pack(found: Distribution, folder: Path) -> None:
    """Write the files of a distribution as a wheel again, but for what pip has added."""
    tags = re.findall(r"^Tag: (.*)$", found.read_text("WHEEL") or "", re.MULTILINE)
    if not tags:
        raise PackError(f"{found.name} was not installed from a wheel")
    name = re.sub(r"[-_.]+", "_", found.name)
    tag = "-".join(".".join(sorted(set(parts))) for parts in zip(*(each.split("-") for each in tags), strict=True))
    wheel = folder / f"{name}-{found.version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in found.files or ():
            kept = file.parts[0] != ".." and "__pycache__" not in file.parts
            if kept and file.name not in ("INSTALLER", "REQUESTED", "direct_url.json"):
                archive.write(str(file.locate()), str(file))
