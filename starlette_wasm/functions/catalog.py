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
            raise FunctionNotFound(name, known=self.names)
        if version is None:
            version = self.versions(name)[-1]
        if version not in versions:
            raise FunctionNotFound(name, version, known=self.versions(name))
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
                logger.warning("%s: not a version (v1, v1.2, ...), skipped", version_folder)
                continue
            file = version_folder / f"{name}.wasm"
            if not file.is_file():
                raise ModuleLoadError("no such file", file=file, mend=f"put the module of {name} v{version} there")
            yield FunctionSource(name, version, file, _manifest(version_folder / MANIFEST))


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
