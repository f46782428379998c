"""What the commands of functions in an OCI registry have in common."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config.loading import read_yaml
from ..exceptions import ConfigError
from ..functions.catalog import Catalog
from ..functions.registry.place import module_file
from . import output
from .build_runner import is_quick

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from ..functions.registry.client import Client
    from ..functions.registry.keys import PublicKey

_INSTALL = "run python -m pip install 'starlette-wasm[registry]'"

Keys = Annotated[
    list[Path] | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="PEM file of a public key; one of them must have signed; repeatable.",
        show_default="requireSignatures of the config",
    ),
]
PasswordEnv = Annotated[
    str | None, typer.Option("--password-env", metavar="NAME", help="Environment variable with the key's password.")
]


@dataclass(frozen=True, slots=True)
class Access:
    """How a registry is reached: a group of options."""

    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="Certificates to trust beside the system's.")
    ] = None
    plain_http: Annotated[bool, typer.Option("--plain-http", help="Use HTTP; by default only for this machine.")] = (
        False
    )
    mirrors: Annotated[
        list[str] | None, typer.Option("--mirror", metavar="HOST=MIRROR", help="Read from a mirror first; repeatable.")
    ] = None

    def client(self) -> Client:
        """Return a client, to be used with ``async with``. Raises ConfigError."""
        try:
            from ..functions.registry.client import Client
        except ImportError:
            raise ConfigError("the registry commands need httpx", hint=_INSTALL) from None
        mirrors = dict(_mirror(each) for each in self.mirrors or ())
        progress = _progress if sys.stderr.isatty() else None
        return Client(plain_http=self.plain_http, ca=self.ca, mirrors=mirrors, progress=progress)


DEFAULT_ACCESS = Access()


def _mirror(given: str) -> tuple[str, str]:
    host, equals, mirror = given.partition("=")
    if not (host and equals and mirror):
        raise ConfigError(f"--mirror {given!r} is not HOST=MIRROR", hint="write for example ghcr.io=mirror.local:5000")
    return host, mirror


def _progress(name: str, done: int, size: int) -> None:
    filled = 30 * done // max(size, 1)
    end = "\n" if done >= size else ""
    print(
        f"\r{name[:30]:30} [{'#' * filled:30}] {done >> 10} of {size >> 10} KiB", end=end, file=sys.stderr, flush=True
    )


def places(config: Path) -> tuple[Path, Path]:
    """Return ``functionsDir`` of a config, which need not hold anything yet, and its lock file."""
    document = read_yaml(config, "a config")
    given = document.get("functionsDir", "functions") if isinstance(document, dict) else "functions"
    if not isinstance(given, str):
        raise ConfigError(
            f"is not a path: {given!r}", file=config, key="functionsDir", hint="write for example functions"
        )
    return config.parent / given, config.parent / "functions.lock"


def version_of(directory: Path, function: str) -> tuple[str, str]:
    """Return name and version of NAME or NAME@VERSION. Raises FunctionNotFound."""
    name, _, version = function.partition("@")
    return name, Catalog(directory).get(name, version or None).version


def public_keys(files: Sequence[Path], config: Path) -> list[PublicKey]:
    """Return the keys in PEM files, by default those that the config requires. Raises RegistryError."""
    from ..functions.registry.keys import load_public_key

    if not files:
        named = read_yaml(config, "a config").get("requireSignatures")
        files = [config.parent / str(each) for each in (named if isinstance(named, list) else [])]
    return [load_public_key(file) for file in files]


def private_key(file: Path, password_env: str | None) -> PrivateKeyTypes:
    """Return the key in a PEM file, of which the password may be asked. Raises RegistryError."""
    from ..functions.registry.keys import load_private_key

    password = os.environ.get(password_env) if password_env else None
    return load_private_key(file, password or _ask_password(file))


def _ask_password(file: Path) -> str | None:
    """Ask for the password of an encrypted key, if somebody can answer."""
    encrypted = file.is_file() and b"ENCRYPTED" in file.read_bytes()[:100]
    return getpass.getpass(f"password of {file}: ") if encrypted and sys.stdin.isatty() else None


def warn_of_quick(directory: Path, versions: Iterable[tuple[str, str]]) -> None:
    """Warn of modules that dev has built quickly: they are slower, or larger, than what build makes."""
    for name, version in versions:
        if is_quick(module_file(directory, name, version)):
            output.warn(
                f"{name} v{version} is what dev has built quickly, by build.quick; run starlette-wasm build "
                f"{name}@{version} first"
            )
