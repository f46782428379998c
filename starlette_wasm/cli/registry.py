"""What the commands of functions in an OCI registry have in common."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config.loading import read_yaml
from ..exceptions import ConfigError

if TYPE_CHECKING:
    from ..registry.client import Client
    from ..registry.signatures import PublicKey

_INSTALL = "run python -m pip install 'starlette-wasm[registry]'"

Ca = Annotated[Path | None, typer.Option("--ca", metavar="FILE", help="Certificates to trust beside the system's.")]
PlainHttp = Annotated[bool, typer.Option("--plain-http", help="Use HTTP; by default only for this machine.")]
Mirror = Annotated[
    list[str] | None, typer.Option("--mirror", metavar="HOST=MIRROR", help="Read from a mirror first; repeatable.")
]
Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", metavar="FILE", help="PEM file of a public key; one of them must have signed; repeatable."),
]


@dataclass(frozen=True, slots=True)
class Access:
    """How a registry is reached."""

    ca: Path | None = None
    plain_http: bool = False
    mirrors: Sequence[str] = ()

    def client(self) -> Client:
        """Return a client, to be used with ``async with``. Raises ConfigError."""
        try:
            from ..registry.client import Client
        except ImportError:
            raise ConfigError("the registry commands need httpx", hint=_INSTALL) from None
        mirrors = dict(_mirror(each) for each in self.mirrors)
        progress = _progress if sys.stderr.isatty() else None
        return Client(plain_http=self.plain_http, ca=self.ca, mirrors=mirrors, progress=progress)


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


def public_keys(files: Sequence[Path] | None) -> list[PublicKey]:
    """Return the keys in PEM files. Raises ConfigError."""
    from ..registry.signatures import load_public_key

    return [load_public_key(file) for file in files or ()]
