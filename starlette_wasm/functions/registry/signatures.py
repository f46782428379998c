"""Signatures of artifacts in a registry, as cosign's key scheme has them.

The signature of the manifest ``sha256:HEX`` is an artifact under the tag ``sha256-HEX.sig``: its layers are payloads,
each with a signature of the payload's bytes as an annotation.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .artifact import MANIFEST, read_json
from .errors import SignatureRefused
from .keys import (
    MOST_SIGNATURES,
    PublicKey,
    Signature,
    load_private_key,
    load_public_key,
    payload_of,
    sign_payload,
    signer_of,
)
from .reference import Reference, is_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from .client import Client

__all__ = ["PublicKey", "Signature", "fetch", "load_private_key", "load_public_key", "sign", "verify"]

_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_ANNOTATION = "dev.cosignproject.cosign/signature"
_MOST_PAYLOAD = 64 << 10


def signature_tag(digest: str) -> str:
    """Return the tag under which cosign puts the signatures of a manifest."""
    return digest.replace(":", "-") + ".sig"


async def sign(client: Client, reference: Reference, digest: str, key: PrivateKeyTypes) -> Signature:
    """Sign a manifest, beside the signatures that it has already."""
    signed = sign_payload(key, payload_of(digest, f"{reference.host}/{reference.repository}"))
    place = reference.tagged(signature_tag(digest))
    layers = await _layers(client, place)
    new = {
        "mediaType": _PAYLOAD,
        "digest": await client.push_blob(reference, signed.payload),
        "size": len(signed.payload),
        "annotations": {_ANNOTATION: base64.b64encode(signed.signature).decode("ascii")},
    }
    layers = [*layers, new][-MOST_SIGNATURES:]
    diffs = [layer["digest"] for layer in layers]
    config = json.dumps({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs}})
    encoded = config.encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": await client.push_blob(reference, encoded), "size": len(encoded)},
        "layers": layers,
    }
    await client.push_manifest(place, json.dumps(manifest, separators=(",", ":")).encode())
    return signed


async def fetch(client: Client, reference: Reference, digest: str) -> list[Signature]:
    """Return the signatures of a manifest that are well formed, whoever has made them; none if nobody has signed."""
    place = reference.tagged(signature_tag(digest))
    found = []
    for layer in await _layers(client, place):
        signature = _decode(layer)
        if signature is not None:
            payload = await client.small_blob(place, layer["digest"], _MOST_PAYLOAD)
            found.append(Signature(payload, signature))
    return found


async def verify(client: Client, reference: Reference, digest: str, keys: Sequence[PublicKey]) -> PublicKey:
    """Return the key that has signed a manifest. Raises SignatureRefused if none of ``keys`` has."""
    return require(await fetch(client, reference, digest), reference, digest, keys)


def require(signatures: Sequence[Signature], reference: Reference, digest: str, keys: Sequence[PublicKey]) -> PublicKey:
    """Return the key that has made one of ``signatures``. Raises SignatureRefused if none of ``keys`` has."""
    signer = signer_of(signatures, digest, keys, reference.repository)
    if signer is None:
        names = ", ".join(key.name for key in keys)
        hint = "sign it with push --sign KEY, or check it"
        raise SignatureRefused(
            f"{digest} has no signature of {names} for {reference.repository}", source=str(reference), hint=hint
        )
    return signer


async def _layers(client: Client, place: Reference) -> list[dict[str, Any]]:
    """Return the layers of the signature artifact that are well formed; none if nobody has signed."""
    if not await client.exists(place):
        return []
    data, _ = await client.manifest(place)
    layers = read_json(data, str(place)).get("layers")
    if not isinstance(layers, list):
        return []
    return [
        layer
        for layer in layers[-MOST_SIGNATURES:]
        if isinstance(layer, dict)
        and layer.get("mediaType") == _PAYLOAD
        and isinstance(layer.get("digest"), str)
        and is_digest(layer["digest"])
    ]


def _decode(layer: dict[str, Any]) -> bytes | None:
    annotations = layer.get("annotations")
    text = annotations.get(_ANNOTATION) if isinstance(annotations, dict) else None
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        return None
