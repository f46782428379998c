"""Who logs in: the files and helpers of ``docker login`` and ``podman login``."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import RegistryError

_HELPER = re.compile(r"[A-Za-z0-9_-]+\Z")
_HELPER_SECONDS = 20.0
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A user name and password, or an identity token to be changed for an access token."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    @property
    def basic(self) -> str:
        """Return the value of an ``authorization`` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


async def find(host: str, repository: str) -> Credentials | None:
    """Return the credentials for a repository, or None if nobody has logged in. Raises RegistryError."""
    for file in _files():
        config = _read(file)
        helpers = config.get("credHelpers")
        helper = helpers.get(host) if isinstance(helpers, dict) else None
        helper = helper or (config.get("credsStore") if _entry(config, host, repository) is not None else None)
        if isinstance(helper, str) and helper:
            found = await _ask_helper(helper, host)
        else:
            found = _decode(_entry(config, host, repository), file)
        if found is not None:
            return found
    return None


def _files() -> list[Path]:
    """Return the files that may hold credentials, the most specific first."""
    environ = os.environ
    files = []
    if "REGISTRY_AUTH_FILE" in environ:
        files.append(Path(environ["REGISTRY_AUTH_FILE"]))
    folder = environ.get("DOCKER_CONFIG")
    files.append(Path(folder) / "config.json" if folder else Path.home() / ".docker" / "config.json")
    if "XDG_RUNTIME_DIR" in environ:
        files.append(Path(environ["XDG_RUNTIME_DIR"]) / "containers" / "auth.json")
    return files


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            text = stream.read(_MOST_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RegistryError(f"cannot be read: {error.strerror}", source=str(file)) from None
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        raise RegistryError("is not valid JSON", source=str(file), hint="log in again with docker login") from None
    return config if isinstance(config, dict) else {}


def _entry(config: dict[str, Any], host: str, repository: str) -> dict[str, Any] | None:
    """Return the entry with the longest key that covers the repository."""
    auths = config.get("auths")
    if not isinstance(auths, dict):
        return None
    path = f"{host}/{repository}"
    best: tuple[int, dict[str, Any]] | None = None
    for key, entry in auths.items():
        prefix = re.sub(r"^https?://", "", str(key)).rstrip("/")
        prefix = re.sub(r"/v[12]\Z", "", prefix)
        covers = path == prefix or path.startswith(prefix + "/")
        if covers and isinstance(entry, dict) and (best is None or len(prefix) > best[0]):
            best = len(prefix), entry
    return None if best is None else best[1]


def _decode(entry: dict[str, Any] | None, file: Path) -> Credentials | None:
    if entry is None:
        return None
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(identity_token=token)
    auth = entry.get("auth")
    if not isinstance(auth, str) or not auth:
        return None
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise RegistryError("has an entry 'auth' that is not base64 of user:password", source=str(file),
                            hint="log in again with docker login")  # fmt: skip
    return Credentials(user, password)


async def _ask_helper(name: str, host: str) -> Credentials | None:
    """Run ``docker-credential-NAME get``. None if it knows no credentials."""
    if not _HELPER.match(name):
        raise RegistryError(f"{name!r} is not a valid name of a credential helper")
    program = f"docker-credential-{name}"
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise RegistryError(f"{program} cannot be run: {error.strerror}", hint="install it, or log in again") from None
    try:
        async with asyncio.timeout(_HELPER_SECONDS):
            out, err = await process.communicate(host.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise RegistryError(f"{program} has not answered within {_HELPER_SECONDS:.0f} s") from None
    if process.returncode != 0:
        if b"credentials not found" in out + err:
            return None
        raise RegistryError(f"{program} failed with exit code {process.returncode}")
    try:
        answer = json.loads(out)
        user, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RegistryError(f"{program} has not answered with JSON that has Username and Secret") from None
    return Credentials(identity_token=secret) if user == "<token>" else Credentials(user, secret)
