"""``signatures.json`` beside a module: its signatures, so that they are checked without the registry.

It holds the manifest of the artifact, which names the module by its digest, the function, the version and the text of
``function.yaml``; and the signatures of that manifest.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import artifact
from .artifact import Artifact
from .errors import RegistryError
from .keys import MOST_SIGNATURES, PublicKey, Signature, signer_of
from .reference import digest_of

NAME = "signatures.json"
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SignaturesFile:
    """A manifest and its signatures."""

    manifest: bytes
    signatures: tuple[Signature, ...]

    def dump(self) -> bytes:
        """Return the content of the file."""
        signatures = [{"payload": _text(each.payload), "signature": _text(each.signature)} for each in self.signatures]
        return json.dumps({"manifest": _text(self.manifest), "signatures": signatures}, indent=1).encode() + b"\n"

    def signer(self, keys: Sequence[PublicKey]) -> PublicKey | None:
        """Return the first of ``keys`` that has signed, or None."""
        return signer_of(self.signatures, digest_of(self.manifest), keys)

    def artifact(self, source: str) -> Artifact:
        """Return what the manifest holds. Raises RegistryError."""
        return artifact.read(self.manifest, source)


def load(data: bytes, source: str) -> SignaturesFile:
    """Read the content of the file. Raises RegistryError."""
    document = artifact.read_json(data, source)
    signatures = document.get("signatures")
    if isinstance(signatures, list) and len(signatures) > MOST_SIGNATURES:
        raise RegistryError(f"has more than {MOST_SIGNATURES} signatures", source=source, hint="sign it again")
    try:
        found = tuple(_signature(each) for each in signatures) if isinstance(signatures, list) else ()
        return SignaturesFile(_bytes(document.get("manifest")), found)
    except (binascii.Error, ValueError, TypeError, AttributeError):
        raise RegistryError("is damaged", source=source, hint="sign the function again, or pull it again") from None


def _signature(each: Any) -> Signature:
    return Signature(_bytes(each.get("payload")), _bytes(each.get("signature")))


def _bytes(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
