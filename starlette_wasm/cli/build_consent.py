"""Consent to builds: commands of a ``function.yaml`` that was pulled run here once somebody has allowed them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..functions.build_spec import BuildSpec
from ..functions.registry.place import PULLED


def lines_to_allow(folder: Path, spec: BuildSpec) -> list[str]:
    """Return the commands that came with a pull, if nobody has allowed them in that folder; else nothing."""
    if not (folder / PULLED).exists() or _note(folder, spec).exists():
        return []
    return list(dict.fromkeys([*spec.commands, *spec.quick_commands]))


def allow(folder: Path, spec: BuildSpec) -> None:
    """Remember that they may run in that folder, for this user. Other commands are asked for anew."""
    note = _note(folder, spec)
    note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    note.write_text("\n".join([str(folder.resolve()), *spec.commands, *spec.quick_commands, ""]), encoding="utf-8")


def _note(folder: Path, spec: BuildSpec) -> Path:
    """Return the file that exists once they are allowed: nothing that is pulled can bring it along."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    said = "\0".join([os.fspath(folder.resolve()), *spec.commands, "", *spec.quick_commands])
    return state / "starlette-wasm" / "allowed-builds" / hashlib.sha256(os.fsencode(said)).hexdigest()
