"""``WatchedFiles``: the files that a config is made of, and whether they have changed.

They are polled (``runtime/reload.py`` decides when): that sees the swap of a ConfigMap's symlinks, renames, directories
that come later or are replaced, and network file systems alike, where notifications need a watch for each case, miss
some, and cost a thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path

from ..exceptions import ConfigError
from .inside import check_inside
from .router import Config, load_config

Entry = tuple[str, *tuple[int, ...]]
Snapshot = frozenset[Entry]

_SUFFIXES = (".wasm", ".yaml", ".yml", "signatures.json")
_SLICE = 64
"""Files that are looked at in one go."""
_VERSIONS_BELOW = 2
"""From functionsDir to what a version's folder holds."""


class WatchedFiles:
    """The files of a config: itself, if it is one, and what its directories hold."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._file = Path(config).absolute() if isinstance(config, str | PathLike) else None
        self._read: Entry | None = None
        self._folders: tuple[tuple[Path, int], ...] = ()
        self._keys: tuple[Path, ...] = ()

    def snapshot(self, rest: Callable[[], None] | None = None) -> Snapshot:
        """Return what is there now, to be compared with another snapshot. Read files; raise nothing.

        ``rest`` is called now and then on the way.
        """
        own = ("",) if self._file is None else _entry(str(self._file))
        if own != self._read:
            self._read = own
            self._follow()
        found = {own, *(_entry(str(key)) for key in self._keys)}
        for folder, below in self._folders:
            base = os.path.realpath(folder) if below else None
            for entry in _below(str(folder), below, base):
                found.add(entry)
                if rest is not None and len(found) % _SLICE == 0:
                    rest()
        return frozenset(found)

    def _follow(self) -> None:
        """Find out which directories count; those from before if the file does not name any."""
        try:
            config = load_config(self._config)
        except ConfigError:
            return
        folders = [(config.functions_dir, _VERSIONS_BELOW)]
        if config.policies_dir is not None:
            folders.append((config.policies_dir, 0))
        self._folders, self._keys = tuple(folders), tuple(config.require_signatures or ())


def _entry(path: str, *, through_links: bool = True) -> Entry:
    """Return what a file is known by."""
    try:
        info = os.stat(path, follow_symlinks=through_links)
    except (OSError, ValueError):
        return (path,)
    return (path, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _below(folder: str, levels: int, base: str | None) -> Iterator[Entry]:
    """Yield what is in a folder, and ``levels`` of folders below. A link that leads out of ``base`` is not followed."""
    try:
        entries = list(os.scandir(folder))
    except (OSError, ValueError):
        return
    yield (folder,)
    for entry in entries:
        if entry.name[0] == ".":
            continue
        if base is not None and entry.is_symlink() and not _is_inside(base, entry.path):
            yield _entry(entry.path, through_links=False)
        elif os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
            if levels:
                yield from _below(entry.path, levels - 1, base)
        elif entry.name.endswith(_SUFFIXES):
            yield _entry(entry.path)


def _is_inside(base: str, path: str) -> bool:
    """Return whether a link stays below ``base``, which has no links itself: whoever deploys may have made it."""
    try:
        check_inside(base, os.path.realpath(path))
    except (OSError, ValueError):
        return False
    return True
