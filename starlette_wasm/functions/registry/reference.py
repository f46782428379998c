"""``oci://HOST/REPOSITORY[:TAG][@DIGEST]``."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

from .errors import RegistryError

_HOST = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?\Z")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_FORM = "write for example oci://registry.example.com/shop/greeter:1.2"


def digest_of(data: bytes) -> str:
    """Return the digest of bytes as registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest(text: str) -> bool:
    """Return whether a text is a SHA-256 digest as registries write it."""
    return _DIGEST.match(text) is not None


def to_tag(version: str) -> str:
    """Return the tag of a version. ``+`` is not allowed in tags and becomes ``_``, as Helm does it."""
    return version.replace("+", "_")


@dataclass(frozen=True, slots=True)
class Reference:
    """An artifact in a registry, by tag or digest, or a whole repository without either."""

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"oci://{self.host}/{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"

    @property
    def wanted(self) -> str:
        """The digest if there is one, else the tag, else ``latest``."""
        return self.digest or self.tag or "latest"

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine: only there plain HTTP is used without being asked for."""
        name = self.host if self.host.startswith("[") else self.host.rpartition(":")[0] or self.host
        return (name.partition("]")[0] + "]" if name.startswith("[") else name) in _LOOPBACK

    def at(self, digest: str) -> Reference:
        """Return the same repository at a digest."""
        return replace(self, tag=None, digest=digest)

    def tagged(self, tag: str) -> Reference:
        """Return the same repository at a tag."""
        return replace(self, tag=tag, digest=None)


def parse(text: str) -> Reference:
    """Read a reference. Raises RegistryError."""
    if not text.startswith("oci://"):
        raise RegistryError(f"{text!r} is not an OCI reference", hint=_FORM)
    host, _, path = text.removeprefix("oci://").partition("/")
    path, _, digest = path.partition("@")
    repository, colon, tag = path.partition(":")
    if not _HOST.match(host):
        raise RegistryError(f"{text!r} has no valid host", hint=_FORM)
    if not _REPOSITORY.match(repository) or len(repository) > 255:
        raise RegistryError(f"{text!r} has no valid repository", hint=f"use lower-case letters and digits: {_FORM}")
    if colon and not _TAG.match(tag):
        raise RegistryError(f"{text!r} has no valid tag", hint="a tag has letters, digits and '._-', 128 at most")
    if digest and not is_digest(digest):
        raise RegistryError(f"{text!r} has no valid digest", hint="write sha256: and 64 hexadecimal digits")
    return Reference(host, repository, tag or None, digest or None)
