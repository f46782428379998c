"""``push``, ``pull``, ``lock``, ``sync`` and ``verify``."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.loading import read_yaml
from ..exceptions import ConfigError
from ..functions.catalog import Catalog

if TYPE_CHECKING:
    from ..registry.client import Client
    from ..registry.signatures import PublicKey

_INSTALL = "run pip install 'starlette-wasm[registry]'"


def add_parsers(commands: Any) -> None:
    """Add the commands to the parser of ``starlette-wasm``."""
    push = _command(commands, "push", _push, "push a version of a function to a registry, and lock it")
    push.add_argument("function", help="NAME, for its highest version, or NAME@VERSION")
    push.add_argument("reference", help="oci://HOST/REPOSITORY[:TAG]; the tag is the version by default")
    push.add_argument("--sign", metavar="KEY", type=Path, help="PEM file of a private key; see --password-env")
    push.add_argument("--password-env", metavar="NAME", help="environment variable with the key's password")
    push.add_argument("--revision", default="", help="revision of the source, kept in the artifact")
    pull = _command(commands, "pull", _pull, "pull a function from a registry, and lock it")
    pull.add_argument("reference", help="oci://HOST/REPOSITORY[:TAG|@DIGEST]")
    pull.add_argument("--as", dest="name", metavar="NAME@VERSION", help="name and version, if the artifact has none")
    pull.add_argument("--component", help="which module of an artifact that has several, such as a Spin app")
    lock = _command(commands, "lock", _lock, "write functions.lock: every version in functionsDir, by digest")
    lock.add_argument("--check", action="store_true", help="change nothing; fail if the file is not up to date")
    sync = _command(commands, "sync", _sync, "bring functionsDir to what functions.lock says")
    sync.add_argument("--prune", action="store_true", help="remove versions that the file does not name")
    sync.add_argument("--watch", metavar="SECONDS", type=float, help="go on, and look at the file this often")
    _command(commands, "verify", _verify, "compare functionsDir with functions.lock, changing nothing")
    for each in (pull, sync, commands.choices["verify"]):
        each.add_argument("--key", metavar="FILE", type=Path, action="append", default=[],
                          help="PEM file of a public key; one of them must have signed (may be repeated)")  # fmt: skip


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("--config", default="wasm.yaml", help="path of a wasm.yaml (default: %(default)s)")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.add_argument("--ca", type=Path, metavar="FILE", help="certificates to trust beside the system's")
    command.add_argument("--plain-http", action="store_true", help="use HTTP; by default only for this machine")
    command.add_argument(
        "--mirror", metavar="HOST=MIRROR", action="append", default=[], help="read from a mirror first"
    )
    command.set_defaults(run=run, of="functions")
    return command


async def _push(options: argparse.Namespace) -> list[dict[str, Any]]:
    from ..registry import lockfile, signatures, transfer
    from ..registry.reference import parse

    directory, lock_file = _places(options.config)
    name, _, version = options.function.partition("@")
    version = Catalog(directory).get(name, version or None).version
    password = os.environ.get(options.password_env) if options.password_env else None
    key = None
    if options.sign is not None:
        key = signatures.load_private_key(options.sign, password or _ask_password(options.sign))
    async with _client(options) as client:
        entry = await transfer.push(
            client, directory, name, version, parse(options.reference), revision=options.revision, key=key
        )
    lockfile.write(lock_file, transfer.lock(directory, transfer.read_lock(lock_file), [entry]))
    return [transfer.Change(name, version, entry.module, "pushed", f"{entry.source}@{entry.manifest}").row()]


async def _pull(options: argparse.Namespace) -> list[dict[str, Any]]:
    from ..registry import lockfile, transfer
    from ..registry.reference import parse

    directory, lock_file = _places(options.config)
    name, _, version = (options.name or "").partition("@")
    async with _client(options) as client:
        entry = await transfer.pull(
            client,
            directory,
            parse(options.reference),
            name=name or None,
            version=version or None,
            component=options.component,
            keys=_keys(options),
        )
    lockfile.write(lock_file, transfer.lock(directory, transfer.read_lock(lock_file), [entry]))
    return [
        transfer.Change(entry.name, entry.version, entry.module, "pulled", f"{entry.source}@{entry.manifest}").row()
    ]


async def _lock(options: argparse.Namespace) -> list[dict[str, Any]]:
    from ..registry import lockfile, transfer

    directory, lock_file = _places(options.config)
    entries = transfer.lock(directory, transfer.read_lock(lock_file))
    if options.check:
        if not lock_file.exists() or lockfile.render(entries) != lock_file.read_text(encoding="utf-8"):
            raise ConfigError("is not up to date", file=lock_file, hint="run starlette-wasm lock")
    else:
        lockfile.write(lock_file, entries)
    return [transfer.Change(entry.name, entry.version, entry.module, "locked", entry.source).row() for entry in entries]


async def _sync(options: argparse.Namespace) -> list[dict[str, Any]]:
    from ..registry import lockfile, transfer
    from ..registry.errors import RegistryError

    keys = _keys(options)
    async with _client(options) as client:
        while True:
            directory, lock_file = _places(options.config)
            try:
                changes = await transfer.sync(
                    client, directory, lockfile.read(lock_file), keys=keys, prune=options.prune
                )
            except RegistryError as error:
                if options.watch is None:
                    raise
                print(f"starlette-wasm sync: {error}", file=sys.stderr, flush=True)
                changes = []
            if options.watch is None:
                return [change.row() for change in changes]
            for change in changes:
                if change.action != "unchanged":
                    print(f"{change.name} v{change.version}: {change.action} {change.module}", flush=True)
            await asyncio.sleep(max(options.watch, 1.0))


async def _verify(options: argparse.Namespace) -> list[dict[str, Any]]:
    from ..registry import lockfile, transfer

    directory, lock_file = _places(options.config)
    async with _client(options) as client:
        results = await transfer.verify(client, directory, lockfile.read(lock_file), _keys(options))
    wrong = [f"{each.name} v{each.version}: {each.action}" for each in results if each.action != "ok"]
    if wrong:
        raise ConfigError("; ".join(wrong), file=lock_file, hint="run starlette-wasm sync, or lock what is meant")
    return [result.row() for result in results]


def _places(config: str) -> tuple[Path, Path]:
    """Return ``functionsDir`` of a config, which need not hold anything yet, and its lock file."""
    file = Path(config)
    document = read_yaml(file, "a config")
    given = document.get("functionsDir", "functions") if isinstance(document, dict) else "functions"
    if not isinstance(given, str):
        raise ConfigError(
            f"is not a path: {given!r}", file=file, key="functionsDir", hint="write for example functions"
        )
    return file.parent / given, file.parent / "functions.lock"


def _client(options: argparse.Namespace) -> Client:
    try:
        from ..registry.client import Client
    except ImportError:
        raise ConfigError("the registry commands need httpx", hint=_INSTALL) from None
    mirrors = {}
    for each in options.mirror:
        host, equals, mirror = each.partition("=")
        if not (host and equals and mirror):
            raise ConfigError(
                f"--mirror {each!r} is not HOST=MIRROR", hint="write for example ghcr.io=mirror.local:5000"
            )
        mirrors[host] = mirror
    progress = _progress if sys.stderr.isatty() else None
    return Client(plain_http=options.plain_http, ca=options.ca, mirrors=mirrors, progress=progress)


def _progress(name: str, done: int, size: int) -> None:
    filled = 30 * done // max(size, 1)
    end = "\n" if done >= size else ""
    print(
        f"\r{name[:30]:30} [{'#' * filled:30}] {done >> 10} of {size >> 10} KiB", end=end, file=sys.stderr, flush=True
    )


def _keys(options: argparse.Namespace) -> list[PublicKey]:
    from ..registry.signatures import load_public_key

    return [load_public_key(file) for file in options.key]


def _ask_password(file: Path) -> str | None:
    """Ask for the password of an encrypted key, if somebody can answer."""
    encrypted = file.is_file() and b"ENCRYPTED" in file.read_bytes()[:100]
    return getpass.getpass(f"password of {file}: ") if encrypted and sys.stdin.isatty() else None
