"""``requireSignatures``: refuses what none of the required keys has signed, when a function is loaded.

Nothing is asked of a registry: the signatures lie beside the module, in ``signatures.json``. They cover the module's
bytes, its ``function.yaml``, and the name and version that it is served under.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.inside import open_inside
from ..config.loading import parse_yaml
from ..config.validation import validate
from ..exceptions import ConfigError, UnsignedModule
from .registry import signatures_file
from .registry.errors import RegistryError
from .registry.keys import PublicKey, load_public_key

if TYPE_CHECKING:
    from .catalog import FunctionSource

_MANIFEST = "function.yaml"


@dataclass(frozen=True, slots=True)
class RequiredSignatures:
    """The keys of which one must have signed every function."""

    keys: tuple[PublicKey, ...]

    def check(self, source: FunctionSource, digest: str) -> None:
        """Raise UnsignedModule unless one of the keys has signed the module with that digest, as ``source`` has it."""
        names = ", ".join(key.name for key in self.keys)
        problem = self._problem(source, f"sha256:{digest}", names)
        if problem is not None:
            raise UnsignedModule(source.name, source.version, problem, file=source.file, keys=names)

    def _problem(self, source: FunctionSource, digest: str, names: str) -> str | None:
        file = source.file.with_name(signatures_file.NAME)
        try:
            content = signatures_file.load(_read(source, file), str(file))
            if content.signer(self.keys) is None:
                return f"it is not signed by {names}" if content.signatures else f"{file} holds no signature"
            signed = content.artifact(str(file))
        except FileNotFoundError:
            return f"it is not signed: there is no {file}"
        except OSError as error:
            return f"{file} cannot be read: {error.strerror}"
        except RegistryError as error:
            return str(error)
        if signed.layer.digest != digest:
            return f"its bytes are not those that were signed: {digest}, signed was {signed.layer.digest}"
        name, version = signed.ours("name"), signed.ours("version")
        if (name, version) != (source.name, source.version):
            return (
                f"it was signed as {name} v{version}" if name else "the signed manifest names no function and version"
            )
        return (
            None
            if _same_manifest(source, signed.ours(_MANIFEST))
            else f"its {_MANIFEST} is not the one that was signed"
        )


def load_required(files: Sequence[Path], config: str | PathLike[str] | None) -> RequiredSignatures | None:
    """Read the keys that a config names; None if it names none. Raises ConfigError."""
    keys = []
    for index, file in enumerate(files):
        try:
            keys.append(load_public_key(file))
        except RegistryError as error:
            hint = error.hint or "give a PEM file of a public key"
            key = f"requireSignatures[{index}]"
            raise ConfigError(
                f"{file} {error.problem}", file=config, key=key, hint=hint, kind="no public key"
            ) from None
    return RequiredSignatures(tuple(keys)) if keys else None


def _read(source: FunctionSource, file: Path) -> bytes:
    with open(open_inside(source.root or file.parent, file), "rb") as stream:
        return stream.read(signatures_file.MOST_BYTES)


def _same_manifest(source: FunctionSource, text: str | None) -> bool:
    """Compare what is in force with what was signed, rather than the file, which may change between two looks."""
    model = type(source.manifest)
    try:
        signed = model() if text is None else validate(model, parse_yaml(text, "a manifest"))
    except ConfigError:
        return False
    return signed == source.manifest
