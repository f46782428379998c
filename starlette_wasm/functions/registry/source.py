"""``functionsSource``: which versions of functions a place in a registry means, now.

A tag or digest is a function, or a lock file that ``lock --push`` has published. A repository without either means its
tags that are versions: the highest ones, and those that somebody names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...config.names import is_function_name, is_version, version_key
from ...sync.own_thread import in_own_thread
from . import artifact, lockfile, signatures
from .errors import RegistryError
from .keys import PublicKey
from .lockfile import Entry
from .reference import Reference, digest_of, is_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from .client import Client

LOCK = "application/vnd.starlette-wasm.lock.v1+toml"
_EMPTY = "application/vnd.oci.empty.v1+json"

Named = Mapping[str, Set[str]]
"""Versions that are named by somebody, by function."""


async def resolve(
    client: Client, sources: Sequence[Reference], named: Named, keep: int, keys: Sequence[PublicKey] = ()
) -> list[Entry]:
    """Return what the sources hold. Of a whole repository the ``keep`` highest versions count, and the named ones.

    With ``keys`` a lock file must be signed by one of them; functions are checked when they are pulled.
    """
    found: dict[tuple[str, str], Entry] = {}
    for source in sources:
        whole = source.tag is None and source.digest is None
        entries = await (_repository(client, source, named, keep) if whole else _one(client, source, keys))
        for entry in entries:
            other = found.setdefault(entry.key, entry)
            if other.module != entry.module:
                hint = "take one of them out of functionsSource"
                raise RegistryError(
                    f"{entry} is in {other.source} too, with other bytes", source=str(source), hint=hint
                )
    return sorted(found.values(), key=lambda entry: (entry.name, version_key(entry.version)))


async def _repository(client: Client, source: Reference, named: Named, keep: int) -> list[Entry]:
    tags = sorted((tag for tag in await client.tags(source) if is_version(_version(tag))), key=_key, reverse=True)
    if not tags:
        raise RegistryError("has no tag that is a version", source=str(source), hint="push a function there")
    first = await _function(client, source.tagged(tags[0]))
    wanted = named.get(first.name, frozenset())
    chosen = [tag for index, tag in enumerate(tags) if index < keep or _version(tag) in wanted]
    return [first if tag == tags[0] else await _function(client, source.tagged(tag)) for tag in chosen]


async def _one(client: Client, source: Reference, keys: Sequence[PublicKey]) -> list[Entry]:
    manifest, digest = await client.manifest(source)
    layer = _lock_layer(artifact.read_json(manifest, str(source)))
    if layer is None:
        return [_entry(manifest, digest, source)]
    if keys:
        await signatures.verify(client, source, digest, keys)
    data = await client.small_blob(source, layer, lockfile.MOST_BYTES)
    return await in_own_thread(lambda: lockfile.parse(data, str(source)))


async def _function(client: Client, reference: Reference) -> Entry:
    return _entry(*await client.manifest(reference), reference)


def _entry(manifest: bytes, digest: str, reference: Reference) -> Entry:
    found = artifact.read(manifest, str(reference))
    name, version = found.ours("name") or "", found.ours("version") or ""
    if not is_function_name(name) or not is_version(version):
        hint = "push it with starlette-wasm push, or pull it with --as NAME@VERSION and publish a lock file"
        raise RegistryError("does not say name and version", source=str(reference), hint=hint)
    return Entry(name, version, found.layer.digest, str(replace(reference, tag=None, digest=None)), digest)


def _lock_layer(document: Mapping[str, Any]) -> str | None:
    """Return the digest of the lock file in an artifact, or None if it is another kind of artifact."""
    layers = document.get("layers")
    if document.get("artifactType") != LOCK or not isinstance(layers, list) or len(layers) != 1:
        return None
    digest = layers[0].get("digest") if isinstance(layers[0], dict) else None
    return digest if isinstance(digest, str) and is_digest(digest) else None


def _version(tag: str) -> str:
    return tag.replace("_", "+")


def _key(tag: str) -> Any:
    return version_key(_version(tag))


async def publish(
    client: Client, reference: Reference, entries: Sequence[Entry], key: PrivateKeyTypes | None = None
) -> str:
    """Push a lock file, under a tag that ``functionsSource`` names. Returns the digest. Raises RegistryError."""
    local = next((entry for entry in entries if entry.source == "local"), None)
    if local is not None:
        raise RegistryError(f"{local} is in no registry", source=str(reference), hint=f"push {local.name} first")
    if reference.tag is None:
        raise RegistryError("has no tag", source=str(reference), hint="write for example oci://HOST/shop/fleet:live")
    data = lockfile.render(entries).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": artifact.MANIFEST,
        "artifactType": LOCK,
        "config": {"mediaType": _EMPTY, "digest": await client.push_blob(reference, b"{}"), "size": 2},
        "layers": [{"mediaType": LOCK, "digest": await client.push_blob(reference, data), "size": len(data)}],
    }
    encoded = json.dumps(manifest, separators=(",", ":")).encode()
    digest = digest_of(encoded)
    if key is not None:  # first: a node that looks in between finds the lock file before, rather than an unsigned one
        await client.push_manifest(reference.at(digest), encoded)
        await signatures.sign(client, reference, digest, key)
    return await client.push_manifest(reference, encoded)
