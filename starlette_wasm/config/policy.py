"""What a guest may do: ``SandboxPolicy``, and where policies come from."""

from __future__ import annotations

import logging
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PrivateAttr, StrictBool, StrictInt, StrictStr, field_validator

from ..exceptions import ConfigError, GrantError
from . import policy_flags as policy_args
from .error_text import nearest, plain, show
from .host_patterns import HostPattern, HostSyntaxError
from .loading import MOST_POLICY_BYTES, read_yaml
from .validation import FileModel, validate, wrong

logger = logging.getLogger("starlette_wasm")

PAGE_BYTES = 65536

_ENV_VAR = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_CAPABILITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}\Z", re.ASCII)
_SUFFIXES = (".yaml", ".yml")
# Symlinks that systems ship: /tmp and /home on some, /var/run on nearly all.
_SYSTEM_DIRS = ("/", "/var")


def _host(text: str) -> str:
    try:
        HostPattern.parse(text)
    except HostSyntaxError as error:
        raise wrong(error.problem, error.hint) from None
    return text


def _env_var(name: str) -> str:
    if not _ENV_VAR.match(name):
        raise wrong("is not a name of an environment variable", "write letters, digits and underscores, no value")
    return name


def _secret(place: str) -> str:
    if "\0" in place or not (place.startswith("/") or _ENV_VAR.match(place)):
        raise wrong("is neither a name of an environment variable nor an absolute path", "write either, no value")
    return place


def _capability(name: str) -> str:
    if not _CAPABILITY.match(name):
        raise wrong("is not a valid name", "write at most 128 letters, digits and . _ : / -, a letter or digit first")
    return name


_Host = Annotated[StrictStr, AfterValidator(_host)]
_Secret = Annotated[StrictStr, AfterValidator(_secret)]
_EnvVar = Annotated[StrictStr, AfterValidator(_env_var)]
_Capability = Annotated[StrictStr, AfterValidator(_capability)]
_Milliseconds = Annotated[StrictInt, Field(le=86_400_000)]
_Bytes = Annotated[StrictInt, Field(le=1 << 30)]


class DirMapping(FileModel):
    """A directory of the host that a guest sees under ``guest_path``."""

    host_path: StrictStr = Field(
        min_length=1, description="Directory of the host; a relative one counts from the policy file."
    )
    guest_path: StrictStr = Field(description="Absolute path at which the guest sees it.")
    readonly: StrictBool = Field(default=True, description="Whether writing is refused.")

    @field_validator("host_path")
    @classmethod
    def _no_nul(cls, path: str) -> str:
        if "\0" in path:
            raise wrong("has a NUL character", "take it out")
        return path

    @field_validator("guest_path")
    @classmethod
    def _normal(cls, path: str) -> str:
        if "\0" in path:
            raise wrong("has a NUL character", "take it out")
        if not path.startswith("/"):
            raise wrong("is not absolute", f"write /{path}")
        if ".." in path.split("/"):
            raise wrong("has a .. in it", "write the path without it")
        return "/" + posixpath.normpath(path).lstrip("/")


class SandboxPolicy(FileModel):
    """What a guest may use and do; what is not granted is denied.

    Sizes are in bytes, times in milliseconds of wall clock, pages are of 64 KiB. Files have the same keys in
    camelCase. ``name`` is not a key of a file: a loaded policy is named by its file.
    """

    name: StrictStr = Field(default="custom", exclude=True, description="The policy's name, from its file.")
    max_memory_pages: StrictInt = Field(
        default=256, ge=1, le=65536, description="Pages of 64 KiB that the guest's memory may have."
    )
    execution_timeout_ms: _Milliseconds = Field(
        default=5000, ge=1, description="Wall clock for a whole invocation, sleeping and host calls included."
    )
    allowed_hosts: list[_Host] = Field(
        default=[],
        description="Hosts for requests: host, *.domain, scheme://host:port, host:port, IP, CIDR or *.",
    )
    max_network_requests: StrictInt = Field(
        default=0, ge=0, le=1_000_000, description="Outbound requests in one invocation, redirects included."
    )
    allow_private_networks: StrictBool = Field(
        default=False, description="Whether hosts may resolve to loopback, private and link-local addresses."
    )
    allowed_env_vars: list[_EnvVar] = Field(
        default=[], description="Environment variables of the host that are passed in, where set."
    )
    allowed_secrets: list[_Secret] = Field(
        default=[],
        description="What function.yaml may name as a secret: variables of the host, absolute paths of files.",
    )
    allowed_dirs: list[DirMapping] = Field(default=[], description="Directories of the host that the guest sees.")
    max_request_bytes: _Bytes = Field(default=1 << 20, ge=0, description="Largest request body.")
    max_response_bytes: _Bytes = Field(default=8 << 20, ge=1, description="Largest output on stdout.")
    max_log_bytes: _Bytes = Field(default=64 << 10, ge=0, description="Bytes of stderr kept of one invocation.")
    instances: Literal["restored", "growing", "fresh"] = Field(
        default="restored",
        description="Whether instances are brought back to their first state, those that have grown too, or made anew "
        "each time.",
    )
    cpu_weight: StrictInt | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Share of a busy CPU that a long guest gets beside the process itself, which has 100; none: 11.",
    )
    max_concurrency: StrictInt = Field(default=64, ge=1, le=10_000, description="Invocations of a route at once.")
    max_queue: StrictInt = Field(default=256, ge=0, le=100_000, description="Requests that may wait for a place.")
    queue_timeout_ms: _Milliseconds = Field(default=1000, ge=0, description="How long a request may wait.")
    kv_namespaces: list[_Capability] = Field(default=[], description="Key/value namespaces the guest may use.")
    queues: list[_Capability] = Field(default=[], description="Queues the guest may publish to.")

    max_spans: StrictInt = Field(
        default=16, ge=0, le=1000, description="Spans that the guest may add to the trace of one invocation."
    )
    max_trace_events: StrictInt = Field(
        default=64, ge=0, le=1000, description="Events that the guest may add to the trace of one invocation."
    )

    _file: str | None = PrivateAttr(default=None)

    @field_validator("allowed_dirs")
    @classmethod
    def _dirs(cls, dirs: list[DirMapping]) -> list[DirMapping]:
        seen = set()
        for each in dirs:
            if each.guest_path in seen:
                raise wrong(f"maps the guestPath {each.guest_path} twice", "give each directory its own guestPath")
            seen.add(each.guest_path)
        return dirs

    @property
    def max_memory_bytes(self) -> int:
        return self.max_memory_pages * PAGE_BYTES

    @cached_property
    def host_patterns(self) -> tuple[HostPattern, ...]:
        """``allowed_hosts``, parsed."""
        return tuple(map(HostPattern.parse, self.allowed_hosts))

    def allows_host(self, scheme: str, host: str, port: int) -> bool:
        """Return whether ``allowed_hosts`` has the host as it is written; what it resolves to is another check."""
        return any(pattern.matches(scheme, host, port) for pattern in self.host_patterns)

    def to_wasmedge_args(self, environ: Mapping[str, str] | None = None) -> list[str]:
        """Return options of ``wasmedge`` 0.14 that set the same limits, to go before the module.

        ``wasmedge`` takes variables by value only: those of ``allowed_env_vars`` that ``environ`` (default:
        ``os.environ``) has are written out. See ``not_expressible`` for what is left.
        """
        return policy_args.wasmedge_args(self, os.environ if environ is None else environ)

    def to_wasmtime_args(self) -> list[str]:
        """Return options of ``wasmtime run`` that set the same limits, to go between ``run`` and the module.

        Directories are writable there, even read-only ones. See ``not_expressible`` for what is left.
        """
        return policy_args.wasmtime_args(self)

    def not_expressible(self, tool: Literal["wasmedge", "wasmtime"]) -> list[str]:
        """List what ``tool`` cannot enforce of this policy: one sentence each, with the key first."""
        return policy_args.not_expressible(self, tool)


@dataclass(frozen=True, slots=True)
class GrantedDir:
    """A directory that existed when it was checked; ``host_path`` is absolute, and has no symlink to be followed."""

    guest_path: str
    host_path: Path
    readonly: bool


def load_policy_file(path: str | PathLike[str]) -> SandboxPolicy:
    """Load the policy in ``path``, named by it. Raises ``ConfigError``."""
    file = Path(path)
    data = read_yaml(file, "a policy, with keys such as maxMemoryPages", MOST_POLICY_BYTES)
    if "name" in data:
        hint = f"take it out: the policy is named {file.stem} by its file"
        raise ConfigError(f"unknown key, with the value {show(data['name'])}", file=file, key="name", hint=hint)
    policy = validate(SandboxPolicy, data, file)
    folder = os.path.realpath(file.parent)
    dirs = [
        each.model_copy(update={"host_path": os.path.normpath(os.path.join(folder, each.host_path))})
        for each in policy.allowed_dirs
    ]
    policy = policy.model_copy(update={"name": file.stem, "allowed_dirs": dirs})
    policy._file = str(file)
    return policy


def load_policies(directory: Path | None = None, config: str | None = None) -> dict[str, SandboxPolicy]:
    """Load all policies by name: the shipped ones, and over them those of ``directory``. Raises ``ConfigError``.

    Entries that are hidden, such as a ConfigMap's ``..data``, or neither ``.yaml`` nor ``.yml`` are skipped, and so is
    ``config``, the ``wasm.yaml`` that may lie beside its policies.
    """
    policies = _load_folder(shipped_policies())
    if directory is not None:
        policies |= _load_folder(directory, config)
    return policies


def unknown_policy(name: str, policies: Iterable[str], directory: Path | None) -> str:
    """Return the hint for a policy that is not there: the nearest, or why only those of the package are known."""
    bare = name.removesuffix(".yaml").removesuffix(".yml")
    if bare != name and bare in policies:
        return f"write {bare}, without the ending of its file"
    hint = nearest(name, policies)
    if directory is not None or hint.startswith("did you mean"):
        return hint
    return f"{hint}; policiesDir is not set: name the folder of {name}.yaml there"


def shipped_policies() -> Path:
    """Return the folder of the shipped policies: in the package when installed, beside it in a source checkout."""
    package = Path(__file__).parents[1]
    inside = package / "policies"
    return inside if inside.is_dir() else package.parent / "policies"


def is_shipped(policy: SandboxPolicy) -> bool:
    return policy._file is not None and Path(policy._file).parent == shipped_policies()


def _load_folder(folder: Path, config: str | None = None) -> dict[str, SandboxPolicy]:
    try:
        files = sorted(each for each in folder.iterdir() if each.suffix in _SUFFIXES and each.name[0] != ".")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "give a readable directory of policies, or leave policiesDir out"
        raise ConfigError(f"cannot be read: {reason}", file=folder, key="policiesDir", hint=hint) from None
    policies: dict[str, SandboxPolicy] = {}
    for file in files:
        if config is not None and file.name == Path(config).name and _is_same(file, config):
            continue
        if file.stem in policies:
            raise ConfigError(f"the policy {file.stem} is there twice", file=file, hint="keep .yaml or .yml, not both")
        policies[file.stem] = load_policy_file(file)
    return policies


def _is_same(file: Path, config: str) -> bool:
    try:
        return file.samefile(config)
    except OSError:
        return False


def resolve_dirs(policy: SandboxPolicy, *, warn: bool = True) -> list[GrantedDir]:
    """Return the directories of ``policy`` that can be granted now.

    One that does not exist is logged as a warning and left out. ``GrantError`` for what is not a directory, and
    for a path with a symlink anywhere in it, since whoever may change that could choose what is granted.
    Symlinks directly in ``/`` or ``/var``, which the system ships (``/tmp`` of macOS, ``/var/run``), are
    followed.
    """
    granted = []
    for index, mapping in enumerate(policy.allowed_dirs):
        key = f"allowedDirs[{index}].hostPath"
        path = _resolve(policy, mapping, key)
        if path is None:
            if warn:
                logger.warning(
                    "%s: %s: no such directory: %s; it is not granted: make it, or take it out of allowedDirs",
                    *(_file_of(policy), key, mapping.host_path),
                )
        else:
            granted.append(GrantedDir(mapping.guest_path, path, mapping.readonly))
    return granted


def _resolve(policy: SandboxPolicy, mapping: DirMapping, key: str) -> Path | None:
    file = _file_of(policy)

    def error(problem: str, hint: str) -> GrantError:
        return GrantError(f"{plain(repr(mapping.host_path))} {problem}", file=file, key=key, hint=hint)

    path = Path(os.path.abspath(mapping.host_path))
    try:
        for step in [*reversed(path.parents), path]:
            if step.is_symlink() and str(step.parent) not in _SYSTEM_DIRS:
                raise error(f"goes through the symlink {step}", f"write {os.path.realpath(path)}")
        if not stat.S_ISDIR(path.stat().st_mode):
            raise error("is not a directory", "give a directory, and grant a file by the directory that holds it")
        return _without_system_links(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RuntimeError) as failure:
        reason = getattr(failure, "strerror", None) or str(failure)
        raise error(f"cannot be used: {reason}", "give a directory that this user can read") from None


def _without_system_links(path: Path) -> Path:
    """Return the path with the system's own links resolved; all else is opened as it is written, links refused."""
    for place in (1, 2):
        step = Path(*path.parts[: place + 1])
        if len(path.parts) > place and str(step.parent) in _SYSTEM_DIRS and step.is_symlink():
            path = Path(os.path.realpath(step), *path.parts[place + 1 :])
    return path


def _file_of(policy: SandboxPolicy) -> str:
    return policy._file or f"policy {policy.name}"
