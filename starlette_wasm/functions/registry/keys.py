"""Keys that sign, and the payloads that they sign: cosign's key scheme, without the network.

ECDSA, RSA and Ed25519 keys are read, as PEM. What is signed is a payload: Red Hat's "simple signing" JSON, which names
the digest of a manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RegistryError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

_TYPE = "cosign container image signature"


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


MOST_SIGNATURES = 32
"""Of one artifact: each costs a verification."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A payload and its signature, both as bytes."""

    payload: bytes
    signature: bytes


def payload_of(digest: str, repository: str) -> bytes:
    """Return the payload that names ``digest`` as the manifest of an artifact in ``repository``."""
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": _TYPE,
    }
    return json.dumps({"critical": critical, "optional": None}, separators=(",", ":")).encode()


def signer_of(
    signatures: Sequence[Signature], digest: str, keys: Sequence[PublicKey], repository: str | None = None
) -> PublicKey | None:
    """Return the first of ``keys`` that has signed a payload about ``digest``, or None.

    With ``repository`` the payload must be for that path, in any registry: a signature that was copied from another
    repository does not count, and one that a mirror has does.
    """
    for each in signatures:
        signer = next((key for key in keys if _is_signed(key, each)), None)
        found, place = _named_in(each.payload) if signer is not None else (None, None)
        if found == digest and (repository is None or place in (None, repository)):
            return signer
    return None


def _named_in(payload: bytes) -> tuple[str | None, str | None]:
    """Return the digest that a payload is about, None if it is of another type; and its repository, if it names one."""
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return None, None
    critical = document.get("critical") if isinstance(document, dict) else None
    if not isinstance(critical, dict) or critical.get("type") != _TYPE:
        return None, None
    image, identity = critical.get("image"), critical.get("identity")
    digest = image.get("docker-manifest-digest") if isinstance(image, dict) else None
    place = identity.get("docker-reference") if isinstance(identity, dict) else None
    return digest if isinstance(digest, str) else None, _path_of(place) if isinstance(place, str) and place else None


def _path_of(place: str) -> str:
    """Return a reference without its host, tag and digest."""
    first, slash, rest = place.partition("@")[0].partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    path = rest if is_host else place.partition("@")[0]
    return path.partition(":")[0]


def sign_payload(key: PrivateKeyTypes, payload: bytes) -> Signature:
    """Sign a payload. Raises RegistryError for a kind of key that cannot."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return Signature(payload, key.sign(payload, ec.ECDSA(hashes.SHA256())))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return Signature(payload, key.sign(payload))
    if isinstance(key, rsa.RSAPrivateKey):
        return Signature(payload, key.sign(payload, padding.PKCS1v15(), hashes.SHA256()))
    raise RegistryError("the key is of a kind that cannot sign", hint="use an EC (P-256), Ed25519 or RSA key")


def _is_signed(public: PublicKey, signed: Signature) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    key, signature, payload = public.key, signed.signature, signed.payload
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
