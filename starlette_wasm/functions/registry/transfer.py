"""Push, pull, lock, sync and verify."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...config.names import is_function_name, is_version
from ...sync.own_thread import in_own_thread
from . import artifact, lockfile, place, signatures, signatures_file
from .client import Client, gather_bounded
from .errors import RegistryError, SignatureRefused
from .lockfile import Entry
from .pack import pack
from .part import part_of
from .reference import Reference, parse, to_tag

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_AT_ONCE = 4
_MOST_MANIFEST = 64 << 10
Admit = Callable[[Entry, Path, str | None], Awaitable[None]]
"""Gets an entry, its module before it is put in place, and its ``function.yaml``; raises to keep it out."""


@dataclass(frozen=True, slots=True)
class Change:
    """What was done, or is wrong, with one version."""

    name: str
    version: str
    module: str
    action: str
    """``pushed``, ``pulled``, ``unchanged``, ``removed``, ``ok`` or what is wrong."""
    source: str = ""

    def row(self) -> dict[str, str]:
        """Return a row of the command line's table."""
        return {
            "function": self.name,
            "version": self.version,
            "module": self.module,
            "result": self.action,
            "source": self.source,
        }


async def push(
    client: Client,
    directory: Path,
    name: str,
    version: str,
    reference: Reference,
    *,
    revision: str = "",
    key: PrivateKeyTypes | None = None,
) -> Entry:
    """Push a version of a function, and sign it with ``key``. Returns its entry for the lock file.

    The signature is put beside the module too, so that what was built here passes ``requireSignatures``.
    """
    packed = pack(directory, name, version, revision)
    await client.push_blob(reference, packed.config)
    layer = await client.push_blob(reference, packed.module, f"{name} v{version}")
    tagged = reference if reference.tag else reference.tagged(to_tag(version))
    digest = await client.push_manifest(tagged, packed.manifest)
    signer = ""
    if key is not None:
        signed = await signatures.sign(client, tagged, digest, key)
        packed.keep([signed])
        signer = signatures.PublicKey("", key.public_key()).fingerprint
    source = str(replace(reference, tag=None, digest=None))
    return Entry(name, version, layer, source, digest, signer)


async def pull(
    client: Client,
    directory: Path,
    reference: Reference,
    *,
    name: str | None = None,
    version: str | None = None,
    component: str | None = None,
    keys: Sequence[signatures.PublicKey] = (),
) -> Entry:
    """Pull an artifact into ``directory``. Returns its entry for the lock file.

    Name and version are those of the annotations, else they must be given. With ``keys`` one of them must have signed
    the artifact, else SignatureRefused is raised and nothing is placed.
    """
    document, digest = await client.manifest(reference)
    signed = await signatures.fetch(client, reference, digest)
    signer = signatures.require(signed, reference, digest, keys).fingerprint if keys else ""
    found = artifact.read(document, str(reference), component)
    name = name or found.ours("name")
    version = version or found.ours("version")
    if name is None or version is None or not is_function_name(name) or not is_version(version):
        raise RegistryError(
            "does not say name and version", source=str(reference), hint="give them with --as NAME@VERSION"
        )
    source = str(replace(reference, tag=None, digest=None))
    entry = Entry(name, version, found.layer.digest, source, digest, signer)
    await _install(client, directory, reference, found, entry, _sealed(document, signed))
    return entry


def _sealed(document: bytes, signed: Sequence[signatures.Signature]) -> bytes | None:
    """Return what is put beside the module, if anybody has signed."""
    return signatures_file.SignaturesFile(document, tuple(signed)).dump() if signed else None


async def _install(
    client: Client,
    directory: Path,
    reference: Reference,
    found: artifact.Artifact,
    entry: Entry,
    signed: bytes | None,
    admit: Admit | None = None,
) -> None:
    """Download a module beside its place, check it, and move it there."""
    manifest = found.ours("function.yaml")
    if manifest is not None and len(manifest.encode()) > _MOST_MANIFEST:
        raise RegistryError(f"its function.yaml has more than {_MOST_MANIFEST} bytes", source=str(reference))
    async with part_of(directory, found.layer.digest) as part:
        await client.blob(reference, found.layer.digest, found.layer.size, part, str(entry))
        with part.open("rb") as stream:
            artifact.kind_of(stream.read(8))
        if admit is not None:
            await admit(entry, part, manifest)
        await in_own_thread(lambda: place.place(directory, entry.name, entry.version, part, manifest, signed))


def lock(directory: Path, entries: Sequence[Entry], given: Sequence[Entry] = ()) -> list[Entry]:
    """Return what the lock file should hold: every version in ``directory``, by the digest of its module.

    What ``given`` or ``entries`` know of a module with the same digest is kept; any other module is ``local``.
    """
    known = {entry.key: entry for entry in [*entries, *given]}
    locked = []
    for name, version in place.installed(directory):
        digest = place.digest_of_file(place.module_file(directory, name, version))
        entry = known.get((name, version))
        same = entry is not None and entry.module == digest
        locked.append(entry if same and entry is not None else Entry(name, version, digest, "local"))
    return locked


async def sync(
    client: Client,
    directory: Path,
    entries: Sequence[Entry],
    *,
    keys: Sequence[signatures.PublicKey] = (),
    prune: bool = False,
    admit: Admit | None = None,
) -> list[Change]:
    """Bring ``directory`` to the state of a lock file; with ``prune`` other versions are removed.

    Each version is placed once its bytes are checked, and ``admit`` has not raised. Nothing is removed unless all of
    them are in place.
    """
    changes: list[Change] = []

    async def one(entry: Entry) -> None:
        changes.append(await _sync_one(client, directory, entry, keys, admit))

    await gather_bounded([partial(one, entry) for entry in entries], _AT_ONCE)
    wanted = {entry.key for entry in entries}
    for name, version in list(place.installed(directory)) if prune else ():
        if (name, version) not in wanted:
            place.remove(directory, name, version)
            changes.append(Change(name, version, "", "removed"))
    return sorted(changes, key=lambda change: (change.name, change.version))


async def _sync_one(
    client: Client,
    directory: Path,
    entry: Entry,
    keys: Sequence[signatures.PublicKey],
    admit: Admit | None = None,
) -> Change:
    file = place.module_file(directory, entry.name, entry.version)
    digest = await in_own_thread(lambda: place.digest_of_file(file))  # the app that polls serves meanwhile
    same = digest == entry.module
    if entry.source == "local":
        if not same:
            problem = "is not there" if not digest else "differs from the lock file"
            raise RegistryError(f"{entry} is local and {problem}", hint="push it, then lock again")
        if keys:
            raise SignatureRefused(f"{entry} is local, so nobody has signed it", hint="push it with --sign KEY")
        return Change(entry.name, entry.version, entry.module, "unchanged", entry.source)
    reference = parse(entry.source).at(entry.manifest)
    if same and not keys:
        return Change(entry.name, entry.version, entry.module, "unchanged", entry.source)
    signed = await signatures.fetch(client, reference, entry.manifest)
    if keys:
        signatures.require(signed, reference, entry.manifest, keys)
    document, _ = await client.manifest(reference)
    sealed = _sealed(document, signed)
    found = artifact.read(document, str(reference))
    if found.layer.digest != entry.module:
        raise RegistryError(f"its module is {found.layer.digest}, not {entry.module} as locked", source=str(reference))
    if same and place.has_beside(directory, entry.name, entry.version, found.ours("function.yaml"), sealed):
        return Change(entry.name, entry.version, entry.module, "unchanged", entry.source)
    await _install(client, directory, reference, found, entry, sealed, admit)
    return Change(entry.name, entry.version, entry.module, "pulled", entry.source)


async def verify(
    client: Client, directory: Path, entries: Sequence[Entry], keys: Sequence[signatures.PublicKey] = ()
) -> list[Change]:
    """Compare a directory with a lock file, and with ``keys`` the signatures in the registry; changes nothing."""
    results = []
    for entry in entries:
        digest = place.digest_of_file(place.module_file(directory, entry.name, entry.version))
        action = "ok" if digest == entry.module else "other bytes" if digest else "missing"
        if keys and action == "ok":
            action = await _signed(client, entry, keys)
        results.append(Change(entry.name, entry.version, digest or entry.module, action, entry.source))
    wanted = {entry.key for entry in entries}
    for name, version in place.installed(directory):
        if (name, version) not in wanted:
            digest = place.digest_of_file(place.module_file(directory, name, version))
            results.append(Change(name, version, digest, "not in the lock file"))
    return results


async def _signed(client: Client, entry: Entry, keys: Sequence[signatures.PublicKey]) -> str:
    if entry.source == "local":
        return "not signed"
    try:
        await signatures.verify(client, parse(entry.source).at(entry.manifest), entry.manifest, keys)
    except SignatureRefused:
        return "not signed"
    return "ok"


def read_lock(file: Path) -> list[Entry]:
    """Return the entries of a lock file, none before there is a file."""
    return lockfile.read(file) if file.exists() else []
