"""Functions as they lie on disk: ``functions/<name>/v<version>/<name>.wasm``, ``function.yaml`` beside."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictInt, StrictStr

from ..config.loading import FileModel, read_yaml, validate, wrong
from ..config.names import is_function_name, is_version, version_key
from ..config.notation import misspelt_method
from ..exceptions import ConfigError, FunctionNotFound, ModuleLoadError

logger = logging.getLogger("starlette_wasm")

MANIFEST = "function.yaml"
_ENV_VAR = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII).fullmatch


def _check_path(path: str) -> str:
    if not path.startswith("/") or any(char <= " " or char in "?#\\\x7f" for char in path):
        raise wrong("is no path", "write such as /healthz, without a query")
    return path


def _check_method(method: str) -> str:
    if not (method.isascii() and method.isalpha()):
        raise wrong("is no HTTP method", "write such as GET")
    meant = misspelt_method(method.upper())
    if meant is not None:
        raise wrong("is no HTTP method", f"did you mean {meant}?")
    return method.upper()


def _check_env_var(name: str) -> str:
    if not _ENV_VAR(name):
        raise wrong("is no name of an environment variable", "write letters, digits and underscores, no value")
    return name


class HealthCheck(FileModel):
    """A request that tells whether a function works, sent every ``healthCheckIntervalMs``."""

    path: Annotated[StrictStr, AfterValidator(_check_path)] = Field(description="Path of the request.")
    method: Annotated[StrictStr, AfterValidator(_check_method)] = Field(default="GET", description="Its method.")
    timeout_ms: StrictInt = Field(
        default=1000, ge=1, le=86_400_000, description="Time for the answer; never more than the policy's."
    )
    status: StrictInt | None = Field(default=None, ge=200, le=599, description="Status that is well. None: 200 to 399.")


class FunctionManifest(FileModel):
    """``function.yaml``: what a version of a function says of itself."""

    protocol: Literal["edge", "wws", "cgi"] = Field(default="edge", description="How it reads and answers.")
    env_vars: list[Annotated[StrictStr, AfterValidator(_check_env_var)]] = Field(
        default=[], description="Environment variables it needs; its policy must grant each."
    )
    description: StrictStr = Field(default="", description="For humans.")
    health_check: HealthCheck | None = Field(
        default=None, description="None: a probe makes an instance, and runs nothing of the function."
    )


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """One version of a function on disk."""

    name: str
    version: str
    file: Path
    manifest: FunctionManifest

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


class Catalog:
    """All versions of all functions below a directory.

    Raises ConfigError where the directory cannot be read or a manifest is wrong, ModuleLoadError where a version
    has no module.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._versions: dict[str, dict[str, FunctionSource]] = {}
        for source in _scan(directory):
            self._versions.setdefault(source.name, {})[source.version] = source

    def __iter__(self) -> Iterator[FunctionSource]:
        for versions in self._versions.values():
            yield from versions.values()

    def __len__(self) -> int:
        return sum(map(len, self._versions.values()))

    @property
    def names(self) -> list[str]:
        return sorted(self._versions)

    def versions(self, name: str) -> list[str]:
        """The versions of a function, the lowest first; none where it is unknown."""
        return sorted(self._versions.get(name, ()), key=version_key)

    def get(self, name: str, version: str | None = None) -> FunctionSource:
        """A version of a function, the highest by default. Raises FunctionNotFound."""
        versions = self._versions.get(name)
        if versions is None:
            raise FunctionNotFound(name, known=self.names, mend=_misplaced(self.directory, name))
        if version is None:
            version = self.versions(name)[-1]
        if version not in versions:
            mend = f'write "{version[1:]}"' if version[:1] == "v" and version[1:] in versions else None
            raise FunctionNotFound(name, version, known=self.versions(name), mend=mend)
        return versions[version]


def _scan(directory: Path) -> Iterator[FunctionSource]:
    for folder in _folders(directory, "functionsDir"):
        name = folder.name
        if not is_function_name(name):
            logger.warning("%s: not a function name, skipped", folder)
            continue
        for version_folder in _folders(folder, name):
            version = version_folder.name[1:]
            if version_folder.name[:1] != "v" or not is_version(version):
                logger.warning("%s: not a version (v1, v1.2, ...), skipped%s", version_folder, _bare(version_folder))
                continue
            file = version_folder / f"{name}.wasm"
            if not file.is_file():
                raise ModuleLoadError("no such file", file=file, mend=_renamed(file, f"{name} v{version}"))
            yield FunctionSource(name, version, file, _manifest(version_folder / MANIFEST))


def _bare(folder: Path) -> str:
    """The remedy for a version's folder without its ``v``, as the end of a message."""
    return f"; rename it to v{folder.name}" if is_version(folder.name) and folder.name[0].isdigit() else ""


def _renamed(file: Path, what: str) -> str:
    """The remedy for a version without the module that it is to have."""
    others = sorted(each.name for each in file.parent.glob("*.wasm"))
    return f"rename {others[0]} to {file.name}" if len(others) == 1 else f"put the module of {what} there"


def _misplaced(directory: Path, name: str) -> str | None:
    """Where a function that is not known lies, if it lies in the wrong place."""
    if not is_function_name(name):
        return None
    wanted = directory / name / "v1" / f"{name}.wasm"
    for found in (directory / name / f"{name}.wasm", directory / f"{name}.wasm"):
        if found.is_file():
            return f"move {found} to {wanted}"
    folder = directory / name
    if not folder.is_dir():
        return None
    for each in sorted(folder.iterdir()):
        if each.is_dir() and is_version(each.name) and each.name[0].isdigit():
            return f"rename {each} to v{each.name}"
        if each.suffix == ".wasm":
            return f"move {each} to {wanted}"
    return f"put its module into {wanted}"


def _folders(directory: Path, key: str) -> list[Path]:
    try:
        return sorted(each for each in directory.iterdir() if each.name[0] != "." and each.is_dir())
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}",
            file=directory,
            key=key,
            mend="give a directory laid out as <name>/v<version>/<name>.wasm",
        ) from None


def _manifest(file: Path) -> FunctionManifest:
    if not file.exists():
        return FunctionManifest()
    return validate(FunctionManifest, read_yaml(file, "a manifest, with keys such as protocol"), file)
