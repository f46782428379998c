"""Functions as they lie on disk: ``functions/<name>/v<version>/<name>.wasm``, ``function.yaml`` beside."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr

from ..config.inside import open_inside
from ..config.loading import MOST_MANIFEST_BYTES, read_yaml
from ..config.names import is_function_name, is_version, version_key
from ..config.notation import misspelt_method
from ..config.secrets import TEXT_FORM, Chosen, SecretForm
from ..config.validation import FileModel, validate, wrong
from ..exceptions import ConfigError, FunctionNotFound, ModuleLoadError, WasmError
from .build_spec import BuildSpec
from .openapi import FunctionSchemas
from .variables import Text

if TYPE_CHECKING:
    from .required_signatures import RequiredSignatures

logger = logging.getLogger("starlette_wasm")

MANIFEST = "function.yaml"
_ENV_VAR = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII).fullmatch


def _check_path(path: str) -> str:
    if not path.startswith("/") or any(char <= " " or char in "?#\\\x7f" for char in path):
        raise wrong("is not a path", "use for example /healthz, without a query")
    return path


def _check_method(method: str) -> str:
    if not (method.isascii() and method.isalpha()):
        raise wrong("is not a valid HTTP method", "use for example GET")
    meant = misspelt_method(method.upper())
    if meant is not None:
        raise wrong("is not a valid HTTP method", f"did you mean {meant}?")
    return method.upper()


def _check_env_var(name: str) -> str:
    if not _ENV_VAR(name):
        raise wrong("is not a name of an environment variable", "write letters, digits and underscores, no value")
    return name


def _check_function(name: str) -> str:
    if not is_function_name(name):
        raise wrong("is not a function name", "use for example processor")
    return name


def _check_version(version: str) -> str:
    if not is_version(version):
        raise wrong("is not a version", 'use for example "2"')
    return version


class HealthCheck(FileModel):
    """A request that checks whether a function works, sent every ``healthCheckIntervalMs``."""

    path: Annotated[StrictStr, AfterValidator(_check_path)] = Field(description="Path of the request.")
    method: Annotated[StrictStr, AfterValidator(_check_method)] = Field(default="GET", description="Its method.")
    timeout_ms: StrictInt = Field(
        default=1000, ge=1, le=86_400_000, description="Time for the answer; never more than the policy's."
    )
    status: StrictInt | None = Field(default=None, ge=200, le=599, description="Status that is well. None: 200 to 399.")


class ImportSource(FileModel):
    """The function that satisfies an interface which a component imports."""

    function: Annotated[StrictStr, AfterValidator(_check_function)] = Field(description="Its name.")
    version: Annotated[StrictStr, AfterValidator(_check_version)] | None = Field(
        default=None, description="None: the stable one of a canary, else the highest."
    )


class FunctionManifest(FileModel):
    """``function.yaml``: the manifest of a version of a function."""

    protocol: Literal["edge", "wws", "cgi"] = Field(default="edge", description="How it reads and answers.")
    env_vars: list[Annotated[StrictStr, AfterValidator(_check_env_var)]] = Field(
        default=[], description="Environment variables it needs; its policy must grant each."
    )
    args: list[Text] = Field(
        default=[],
        description="Arguments behind the first, which is the function's name. For cgi the first is the path, and the"
        ' others are the query, as with ["${ARGS}"]; ${PATH_INFO} and other variables of CGI are replaced.',
    )
    env: dict[
        Annotated[StrictStr, AfterValidator(_check_env_var)], Annotated[Annotated[Text, TEXT_FORM] | SecretForm, Chosen]
    ] = Field(
        default={},
        repr=False,  # logs of apps may show the arguments of a record
        description="Environment variables with their values, or with {fromEnv: NAME} or {fromFile: PATH} for secrets,"
        " which the policy must grant.",
    )
    edge_environment: StrictBool = Field(default=True, description="Whether it gets the EDGE_ variables.")
    imports: dict[Annotated[StrictStr, Field(min_length=1)], ImportSource] = Field(
        default={}, max_length=50, description="Functions that satisfy what a component imports, by the interface."
    )
    description: StrictStr = Field(default="", description="For humans.")
    health_check: HealthCheck | None = Field(
        default=None, description="None: a probe makes an instance, and runs nothing of the function."
    )
    openapi: FunctionSchemas | None = Field(
        default=None, description="Schemas of request and answers, for the document of FastAPI."
    )
    build: BuildSpec | None = Field(
        default=None, description="How it is made from its sources; starlette-wasm build and dev read it."
    )


_MISNAMED = ("function.yml", "function.json", "Function.yaml", "functions.yaml", "manifest.yaml")


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """One version of a function on disk."""

    name: str
    version: str
    file: Path
    manifest: FunctionManifest
    root: Path | None = None
    """No link is followed out of it; None: the folder of the file."""
    required: RequiredSignatures | None = field(default=None, compare=False, repr=False)
    """Who must have signed it."""

    def check_signature(self, digest: str) -> None:
        """Raise UnsignedModule if nobody who must has signed the module with that digest."""
        if self.required is not None:
            self.required.check(self, digest)

    def open(self) -> BinaryIO:
        """Open the module. Raises OSError."""
        return os.fdopen(open_inside(self.root or self.file.parent, self.file), "rb")

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


class Catalog:
    """All versions of all functions below a directory.

    Raises ConfigError where the directory cannot be read or a manifest is wrong, ModuleLoadError where a version
    has no module; with ``leave_out``, such a version is in ``bad`` instead.
    """

    def __init__(self, directory: Path, *, leave_out: bool = False, required: RequiredSignatures | None = None) -> None:
        self.directory = directory
        self._required = required
        self.leave_out = leave_out
        self.bad: dict[tuple[str, str], WasmError] = {}
        """What is left out, with the reason."""
        self._versions: dict[str, dict[str, FunctionSource]] = {}
        for folder in _named(directory):
            try:
                versions = _versions(folder)
            except ConfigError as error:
                self.refuse(folder.name, "", error)
                continue
            for version, version_folder in versions.items():
                self._add(folder.name, version, version_folder)

    def _add(self, name: str, version: str, folder: Path) -> None:
        try:
            source = _source(self.directory, name, version, folder)
        except (ConfigError, ModuleLoadError) as error:
            self.refuse(name, version, error)
        else:
            self._versions.setdefault(name, {})[version] = replace(source, required=self._required)

    def refuse(self, name: str, version: str, error: WasmError) -> None:
        """Leave a version out; raises ``error`` without ``leave_out``."""
        if not self.leave_out:
            raise error
        logger.error("%s v%s is left out: %s", name, version, error)
        self.bad[name, version] = error
        versions = self._versions.get(name, {})
        versions.pop(version, None)
        if not versions:
            self._versions.pop(name, None)

    def bad_key(self, name: str, version: str | None) -> tuple[str, str] | None:
        """Return the key in ``bad`` of a version, or of a function of which nothing is left; None if it is fine."""
        if version is not None and (name, version) in self.bad:
            return name, version
        if name in self._versions:
            return None
        return next((key for key in self.bad if key[0] == name and (version is None or not key[1])), None)

    def __iter__(self) -> Iterator[FunctionSource]:
        for versions in self._versions.values():
            yield from versions.values()

    def __len__(self) -> int:
        return sum(map(len, self._versions.values()))

    @property
    def names(self) -> list[str]:
        return sorted(self._versions)

    def versions(self, name: str) -> list[str]:
        """List the versions of a function, the lowest first; none if it is unknown."""
        return sorted(self._versions.get(name, ()), key=version_key)

    def get(self, name: str, version: str | None = None) -> FunctionSource:
        """Get a version of a function, the highest by default. Raises FunctionNotFound."""
        versions = self._versions.get(name)
        if versions is None:
            raise FunctionNotFound(name, known=self.names, hint=_misplaced(self.directory, name))
        if version is None:
            version = self.versions(name)[-1]
        if version not in versions:
            hint = f'write "{version[1:]}"' if version[:1] == "v" and version[1:] in versions else None
            raise FunctionNotFound(name, version, known=self.versions(name), hint=hint)
        return versions[version]


def _named(directory: Path) -> Iterator[Path]:
    """Yield the folders of functions."""
    for folder in _folders(directory, "functionsDir"):
        if is_function_name(folder.name):
            yield folder
        else:
            logger.warning("%s: not a function name, skipped", folder)


def _versions(folder: Path) -> dict[str, Path]:
    """Return the folders of a function's versions. Raises ConfigError."""
    if os.path.lexists(folder / MANIFEST):
        logger.warning("%s is not read: each version has its own, beside its module", folder / MANIFEST)
    found = {}
    for version_folder in _folders(folder, folder.name):
        version = version_folder.name[1:]
        if version_folder.name[:1] == "v" and is_version(version):
            found[version] = version_folder
        else:
            logger.warning("%s: not a version (v1, v1.2, ...), skipped%s", version_folder, _bare(version_folder))
    return found


def _source(root: Path, name: str, version: str, folder: Path) -> FunctionSource:
    """Raise ConfigError and ModuleLoadError, also for a link that leads out of ``root``."""
    file, manifest = folder / f"{name}.wasm", folder / MANIFEST
    if os.path.lexists(manifest):
        what = "a manifest, with keys such as protocol"
        data = read_yaml(manifest, what, MOST_MANIFEST_BYTES, lambda *_: open_inside(root, manifest))
        source = FunctionSource(name, version, file, validate(FunctionManifest, data, manifest), root)
    else:
        _refuse_misnamed(folder)
        source = FunctionSource(name, version, file, FunctionManifest(), root)
    try:
        source.open().close()
    except FileNotFoundError:
        raise ModuleLoadError("no such file", file=file, hint=_without_module(source)) from None
    except OSError as error:
        raise ModuleLoadError(f"cannot be read: {error.strerror}", file=file) from None
    return source


def _refuse_misnamed(folder: Path) -> None:
    """Raise ConfigError for what is meant as the manifest: without it, the function would run as another."""
    for name in _MISNAMED:
        if os.path.lexists(folder / name):
            raise ConfigError("is not read", file=folder / name, hint=f"rename it to {MANIFEST}", kind="is not read")


def _bare(folder: Path) -> str:
    """Advise on a version's folder without its ``v``, as the end of a message."""
    return f"; rename it to v{folder.name}" if is_version(folder.name) and folder.name[0].isdigit() else ""


def _without_module(source: FunctionSource) -> str:
    """Advise on a version without the module that it is to have."""
    if source.manifest.build is not None:
        return f"run starlette-wasm build {source.name}@{source.version}"
    others = sorted(each.name for each in source.file.parent.glob("*.wasm"))
    if len(others) == 1:
        return f"rename {others[0]} to {source.file.name}"
    return f"put the module of {source.name} v{source.version} there"


def _misplaced(directory: Path, name: str) -> str | None:
    """Find the wrong place of a function that is not known, if it lies in one."""
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
            hint="give a directory laid out as <name>/v<version>/<name>.wasm",
        ) from None
