"""Makes the artifact of a version in ``functionsDir``, and signs it where it lies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from . import artifact, place, signatures_file
from .errors import RegistryError
from .keys import Signature, payload_of, sign_payload
from .reference import digest_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


@dataclass(frozen=True, slots=True)
class Packed:
    """What is pushed: the module, and the config and manifest of its artifact."""

    file: Path
    module: bytes
    config: bytes
    manifest: bytes

    def keep(self, signatures: Sequence[Signature]) -> None:
        """Put signatures beside the module, for the app to find. Raises RegistryError."""
        target = self.file.with_name(signatures_file.NAME)
        try:
            place.write(target, signatures_file.SignaturesFile(self.manifest, tuple(signatures)).dump())
        except OSError as error:
            raise RegistryError(f"cannot be written: {error.strerror}", source=str(target)) from None


def pack(directory: Path, name: str, version: str, revision: str = "") -> Packed:
    """Make the artifact of a version. The same files and ``SOURCE_DATE_EPOCH`` give the same bytes."""
    file = place.module_file(directory, name, version)
    try:
        module = file.read_bytes()
        modified = file.stat().st_mtime
    except OSError as error:
        raise RegistryError(f"cannot be read: {error.strerror}", source=str(file), hint="build it first") from None
    if len(module) > artifact.MAX_MODULE:
        raise RegistryError(f"has more than {artifact.MAX_MODULE} bytes", source=str(file))
    created = datetime.fromtimestamp(float(os.environ.get("SOURCE_DATE_EPOCH", int(modified))), UTC)
    annotations = {
        artifact.NAMESPACE + "name": name,
        artifact.NAMESPACE + "version": version,
        "org.opencontainers.image.title": f"{name}.wasm",
        "org.opencontainers.image.version": version,
    }
    manifest = file.with_name(place.MANIFEST)
    if manifest.is_file():
        annotations[artifact.NAMESPACE + "function.yaml"] = manifest.read_text(encoding="utf-8")
    if revision:
        annotations["org.opencontainers.image.revision"] = revision
    return Packed(file, module, *artifact.build(module, annotations, created.isoformat()))


def sign(directory: Path, name: str, version: str, key: PrivateKeyTypes) -> Packed:
    """Sign a version where it lies, without a registry."""
    packed = pack(directory, name, version)
    packed.keep([sign_payload(key, payload_of(digest_of(packed.manifest), f"local/{name}"))])
    return packed
