"""Signatures of artifacts, as cosign's key scheme has them.

The signature of the manifest ``sha256:HEX`` is an artifact under the tag ``sha256-HEX.sig``: its layers are payloads
(Red Hat's "simple signing" JSON), each with a signature of the payload's bytes as an annotation. ECDSA, RSA and
Ed25519 keys are read, as PEM.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifact import read_json
from .client import MANIFEST, Client
from .errors import RegistryError, SignatureRefused
from .reference import Reference, is_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_ANNOTATION = "dev.cosignproject.cosign/signature"
_TYPE = "cosign container image signature"
_MOST_PAYLOAD = 64 << 10
_MOST_SIGNATURES = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that may sign."""

    name: str
    key: PublicKeyTypes

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the key (SubjectPublicKeyInfo), which a lock file names."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return hashlib.sha256(self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def load_public_key(file: Path) -> PublicKey:
    """Read a PEM file that begins with ``-----BEGIN PUBLIC KEY-----``. Raises RegistryError."""
    serialization = _cryptography()
    try:
        return PublicKey(file.name, serialization.load_pem_public_key(file.read_bytes()))
    except OSError as error:
        raise RegistryError(f"cannot be read: {error.strerror}", source=str(file)) from None
    except Exception as error:  # ValueError, UnsupportedAlgorithm and, for odd input, others
        raise RegistryError(f"is not a public key: {error}", source=str(file), hint="give a PEM file") from None


def load_private_key(file: Path, password: str | None = None) -> PrivateKeyTypes:
    """Read a PEM file with a private key (PKCS #8), which ``openssl genpkey`` makes. Raises RegistryError."""
    serialization = _cryptography()
    try:
        key: PrivateKeyTypes = serialization.load_pem_private_key(
            file.read_bytes(), password.encode() if password else None
        )
        return key
    except OSError as error:
        raise RegistryError(f"cannot be read: {error.strerror}", source=str(file)) from None
    except TypeError:
        raise RegistryError(
            "the key needs a password" if password is None else "the key has no password", source=str(file)
        ) from None
    except Exception as error:
        hint = "export a key of cosign to PKCS #8" if b"COSIGN" in _head(file) or b"SIGSTORE" in _head(file) else ""
        raise RegistryError(f"is not a private key that can be used: {error}", source=str(file), hint=hint) from None


def signature_tag(digest: str) -> str:
    """Return the tag under which cosign puts the signatures of a manifest."""
    return digest.replace(":", "-") + ".sig"


async def sign(client: Client, reference: Reference, digest: str, key: PrivateKeyTypes) -> str:
    """Sign a manifest, beside the signatures that it has already. Returns the digest of the signature's manifest."""
    payload = json.dumps(
        {
            "critical": {
                "identity": {"docker-reference": f"{reference.host}/{reference.repository}"},
                "image": {"docker-manifest-digest": digest},
                "type": _TYPE,
            },
            "optional": None,
        },
        separators=(",", ":"),
    ).encode()
    place = reference.tagged(signature_tag(digest))
    layers = await _layers(client, place)
    new = {
        "mediaType": _PAYLOAD,
        "digest": await client.push_blob(reference, payload),
        "size": len(payload),
        "annotations": {_ANNOTATION: base64.b64encode(_sign(key, payload)).decode("ascii")},
    }
    layers = [*layers, new][-_MOST_SIGNATURES:]
    diffs = [layer["digest"] for layer in layers]
    config = json.dumps({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs}})
    encoded = config.encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": await client.push_blob(reference, encoded), "size": len(encoded)},
        "layers": layers,
    }
    return await client.push_manifest(place, json.dumps(manifest, separators=(",", ":")).encode())


async def verify(client: Client, reference: Reference, digest: str, keys: Sequence[PublicKey]) -> PublicKey:
    """Return the key that has signed a manifest. Raises SignatureRefused if none of ``keys`` has."""
    place = reference.tagged(signature_tag(digest))
    for layer in await _layers(client, place):
        payload = await client.small_blob(place, layer["digest"], _MOST_PAYLOAD)
        signature = _decode(layer)
        signer = next((key for key in keys if signature is not None and _is_signed(key, signature, payload)), None)
        if signer is not None and _names(payload, str(place)) == digest:
            return signer
    names = ", ".join(key.name for key in keys)
    raise SignatureRefused(
        f"{digest} has no signature of {names}", source=str(reference), hint="sign it with push --sign KEY, or check it"
    )


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
        for layer in layers[-_MOST_SIGNATURES:]
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
    except binascii.Error:
        return None


def _names(payload: bytes, source: str) -> str | None:
    """Return the digest that a payload is about, or None if it is of another type."""
    critical = read_json(payload, source).get("critical")
    if not isinstance(critical, dict) or critical.get("type") != _TYPE:
        return None
    image = critical.get("image")
    digest = image.get("docker-manifest-digest") if isinstance(image, dict) else None
    return digest if isinstance(digest, str) else None


def _sign(key: PrivateKeyTypes, payload: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(payload, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(payload)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
    raise RegistryError("the key is of a kind that cannot sign", hint="use an EC (P-256), Ed25519 or RSA key")


def _is_signed(public: PublicKey, signature: bytes, payload: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    key = public.key
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, payload)
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(100)


def _cryptography() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise RegistryError(
            "signatures need the package cryptography", hint="run pip install 'starlette-wasm[registry]'"
        ) from None
    return serialization
