"""``WasmSettings``: the settings of the process."""

from __future__ import annotations

import logging
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..engine.processor import NATIVE, Processor, fits, machine
from ..exceptions import ConfigError
from .error_text import nearest, show
from .names import PatternSyntaxError, check_path_pattern, is_node_address
from .validation import config_error, wrong

logger = logging.getLogger("starlette_wasm")

_PREFIX = "STARLETTE_WASM_"
_ENV_FILE = ".env"
REQUEST_ID_HEADER = b"x-request-id"
"""The header that has a request's id, unless the settings name another."""
WINCH_IS_HERE = platform.machine().lower() in ("x86_64", "amd64")
"""Whether wasmtime's baseline compiler knows this processor."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}").fullmatch
_NOT_FOR_IDS = ("connection", "content-length", "content-type", "cookie", "host", "set-cookie", "transfer-encoding")


@dataclass(frozen=True, slots=True)
class RequestSettings:
    """The settings that each request needs. They are copied, as attributes of pydantic's models are slow."""

    region: str
    trust_region_header: bool
    allow_version_header: bool
    request_id_header: bytes

    @classmethod
    def of(cls, settings: WasmSettings) -> RequestSettings:
        name = settings.request_id_header.encode("ascii")
        return cls(settings.region, settings.trust_region_header, settings.allow_version_header, name)


class WasmSettings(BaseSettings):
    """Settings: from arguments, then the environment (``STARLETTE_WASM_`` and the name), then ``.env``.

    ``REGION`` and ``APP_MODE`` are also read without the prefix. An empty variable counts as unset. Raises
    pydantic's ``ValidationError``; ``load_settings`` raises ``ConfigError`` instead.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_file=_ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        frozen=True,
    )

    region: str = Field(
        default="",
        validation_alias=AliasChoices(f"{_PREFIX}REGION", "REGION"),
        description="Region of this node. Empty: it matches only rules without regions.",
    )
    app_mode: str = Field(
        default="",
        validation_alias=AliasChoices(f"{_PREFIX}APP_MODE", "APP_MODE"),
        description="Mode of the deployment, such as production, for the app; changes nothing here.",
    )
    trust_region_header: bool = Field(
        default=False, description="Whether an incoming x-region header overrides region."
    )
    allow_version_header: bool = Field(
        default=False, description="Whether an incoming x-wasm-version header picks the version."
    )
    request_id_header: str = Field(
        default="x-request-id",
        description="Header of the request's id, in requests and answers. none, or empty in code: not sent.",
    )
    debug: bool = Field(default=False, description="Whether problem responses carry the full detail.")
    cache_dir: Path | None = Field(
        default=None, description="Folder of the AOT cache. None: starlette-wasm in the XDG cache folder."
    )
    cache_volume: bool = Field(
        default=False,
        description="Whether cache_dir is a pod's volume, open to others: a folder of this user is made in it.",
    )
    processor: Processor = Field(
        default=NATIVE,
        description="What modules are compiled for: native (this machine), or for a cache that other machines load,"
        " baseline (x86-64-v2, ARMv8), x86-64-v3 or x86-64-v4.",
    )
    aot_cache: bool = Field(default=True, description="Whether compiled code is kept on disk.")
    max_instances: int = Field(
        default=1000, ge=1, le=10_000, description="Guests alive at once in the process; sizes the pool."
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Threads for guests that run longer than a tick. None: the number of CPUs.",
    )
    kv_url: str = Field(
        default="sqlite:///starlette-wasm-kv.db",
        repr=False,  # it may hold a password
        description="Key/value store of guests: sqlite:///relative.db, sqlite:////absolute.db, redis:// or rediss://.",
    )
    queue_url: str = Field(
        default="sqlite:///starlette-wasm-queue.db",
        repr=False,  # it may hold a password
        description="Queues that guests publish to: sqlite:///relative.db, sqlite:////absolute.db, redis:// or nats://.",
    )
    canary_url: str = Field(
        default="sqlite:///starlette-wasm-canary.db",
        repr=False,  # it may hold a password
        description="State of canaries, for all workers: sqlite:///relative.db, sqlite:////absolute.db or redis://.",
    )
    canary_prefix: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description="Put before the names of canaries in canary_url, so that several apps can share a store.",
    )
    canary_waves_url: str = Field(
        default="",
        repr=False,  # it may hold a password
        description="What the regions of waves share, if each has a canary_url of its own. Empty: canary_url.",
    )
    max_namespace_mb: int = Field(
        default=64, ge=1, le=1024, description="Space of each key/value namespace in SQLite, in MiB."
    )
    max_queue_mb: int = Field(default=64, ge=1, le=1024, description="Space of each queue in SQLite, in MiB.")
    body_timeout_ms: int = Field(
        default=60_000,
        ge=0,
        le=86_400_000,
        description="How long the body of a request may take to come, in ms; then 408. 0: as long as it likes.",
    )
    drain_timeout_ms: int = Field(
        default=10_000, ge=0, le=86_400_000, description="How long guests may go on at shutdown, in ms."
    )
    flush_timeout_ms: int = Field(
        default=2000,
        ge=0,
        le=60_000,
        description="How long OpenTelemetry may take at shutdown to send what it has, in ms. 0: it is not asked to.",
    )
    clock_resolution_ms: int = Field(
        default=1, ge=1, le=1000, description="Resolution of the clocks that guests see, in ms."
    )
    default_policy: str = Field(default="edge-none", min_length=1, description="Policy if a rule or route names none.")
    compile_threads: int | None = Field(
        default=None, ge=1, le=1024, description="Threads that compile modules. None: the number of CPUs."
    )
    compiler: Literal["cranelift", "winch"] = Field(
        default="cranelift",
        description="What compiles modules: winch takes a fifth of the time, for slower code, and is for development.",
    )
    compile_cpu_s: int = Field(
        default=60, ge=1, le=3600, description="CPU time that compiling one module may take, in s."
    )
    compile_timeout_s: int = Field(
        default=300, ge=1, le=86_400, description="How long compiling one module may take on the clock, in s."
    )
    compile_memory_mb: int = Field(
        default=2048, ge=64, le=1 << 20, description="Memory that compiling one module may take, in MiB."
    )
    max_module_mb: int = Field(default=64, ge=1, le=1024, description="How large a module may be, in MiB.")
    cache_max_mb: int = Field(
        default=1024, ge=1, le=1 << 20, description="How large the AOT cache may get, in MiB; the least used goes."
    )
    access_log: bool = Field(
        default=False,
        description="Whether each invocation is logged as a line of JSON, by starlette_wasm.access, to stdout.",
    )
    log: Literal["text", "json"] | None = Field(
        default=None,
        description="text or json: log lines on stderr, guests' included, if the app has no handler. None: none.",
    )
    endpoints_token: SecretStr | None = Field(
        default=None,
        min_length=1,
        description="Token that the endpoints require, as authorization: Bearer TOKEN. None: they require none.",
    )
    untraced_paths: str = Field(
        default="",
        description="Paths whose requests get no spans: patterns as in rules, separated by commas.",
    )
    reload_interval_ms: int = Field(
        default=1000,
        ge=0,
        le=3_600_000,
        description="How often wasm.yaml, policies and functions are looked at for changes, in ms. 0: never.",
    )
    max_open_files: int = Field(
        default=65_536,
        ge=0,
        le=1 << 20,
        description="How far the soft limit on open files is raised at start, if the hard one allows it. 0: not.",
    )
    nodes: str = Field(
        default="",
        description="Addresses of nodes that the dashboard compares, separated by commas, as in http://10.0.0.7:8000.",
    )
    registry_plain_http: bool = Field(
        default=False, description="Whether functionsSource may be read without TLS from other machines."
    )
    registry_ca: Path | None = Field(
        default=None, description="File of certificates that functionsSource is checked by, beside the system's."
    )
    check_restored_every: int = Field(
        default=10_000,
        ge=0,
        le=1_000_000_000,
        description="After how many restored instances of a function one is compared with its first state. 0: never.",
    )
    guest_nice: int = Field(
        default=10, ge=0, le=19, description="Niceness of the threads that run guests, above that of the process."
    )

    def __init__(self, **given: Any) -> None:
        """Raise ConfigError for an argument that is not a setting."""
        for name, value in given.items():
            if name not in _accepted() and not name.startswith("_"):
                hint = nearest(name, WasmSettings.model_fields)
                raise ConfigError(f"unknown setting, with the value {show(value)}", key=name, hint=hint)
        if "endpoints_token" not in given:
            _refuse_empty("endpoints_token")
        super().__init__(**given)

    @field_validator("cache_dir")
    @classmethod
    def _expand(cls, path: Path | None) -> Path | None:
        if path is None:
            return None
        if "\0" in str(path):
            raise wrong("has a NUL character", "take it out")
        try:
            return path.expanduser()
        except RuntimeError:
            raise wrong("starts with a home that is not known", "give an absolute path") from None

    @field_validator("compiler")
    @classmethod
    def _check_compiler(cls, compiler: str) -> str:
        if compiler == "winch" and not WINCH_IS_HERE:
            raise wrong(f"is not there for {platform.machine()}", "take cranelift")
        return compiler

    @field_validator("processor")
    @classmethod
    def _check_processor(cls, processor: Processor) -> Processor:
        if not fits(processor):
            raise wrong(f"is not a level of {machine()}", "use native or baseline")
        return processor

    @field_validator("request_id_header")
    @classmethod
    def _check_header(cls, name: str) -> str:
        name = name.lower()
        if name in ("", "none"):
            return ""
        if not _HEADER_NAME(name):
            raise wrong("is not a name of a header", "use for example x-request-id, or none")
        if name in _NOT_FOR_IDS:
            raise wrong("has a meaning of its own in HTTP", "give another, such as x-request-id, or none")
        return name

    @field_validator("untraced_paths")
    @classmethod
    def _check_paths(cls, paths: str) -> str:
        for path in split_list(paths):
            try:
                check_path_pattern(path)
            except PatternSyntaxError as error:
                raise wrong(f"has the path {path!r}, which {error.problem}", error.hint) from None
        return paths

    @field_validator("nodes")
    @classmethod
    def _check_nodes(cls, nodes: str) -> str:
        for url in split_list(nodes):
            if not is_node_address(url):
                raise wrong(
                    f"has {url!r}, which is not the address of a node", "write for example http://10.0.0.7:8000"
                )
        return nodes

    def aot_cache_dir(self) -> Path | None:
        """Return where compiled code is kept; None if it is not, for want of ``aot_cache`` or of a home.

        By the XDG Base Directory Specification: ``$XDG_CACHE_HOME`` where it is absolute, else ``~/.cache``.
        """
        if not self.aot_cache:
            return None
        if self.cache_dir is not None:
            return self.cache_dir
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not base.is_absolute():
            try:
                base = Path.home() / ".cache"
            except RuntimeError:
                return None
        return base / "starlette-wasm"


def split_list(text: str) -> list[str]:
    """Return the entries of a list with commas, each once."""
    return list(dict.fromkeys(filter(None, (entry.strip() for entry in text.split(",")))))


def env_names(field: str) -> list[str]:
    """Return the environment variables that set ``field``, the strongest first."""
    alias = WasmSettings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [f"{_PREFIX}{field.upper()}"]


@cache
def _accepted() -> frozenset[str]:
    """Return the names of arguments: of the settings, and what may stand for them."""
    fields = WasmSettings.model_fields
    return frozenset([*fields, *(name for field in fields for name in env_names(field))])


def load_settings(**kwargs: Any) -> WasmSettings:
    """Make ``WasmSettings(**kwargs)``; raises ``ConfigError`` that names the variable or argument."""
    known = WasmSettings.model_fields
    _warn_of_typos()
    try:
        return WasmSettings(**kwargs)
    except ValidationError as error:
        plain = config_error(error, WasmSettings)
        field = next(name for name in known if plain.key in (name, *env_names(name)))
        file, key = (None, field) if field in kwargs else _origin(field)
        raise ConfigError(plain.problem, file=file, key=key, hint=plain.hint) from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8", file=_ENV_FILE, hint="save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=_ENV_FILE, hint="make it readable") from None


def _warn_of_typos() -> None:
    """Warn of variables that look like settings and are none: they would be passed over in silence."""
    names = {name for field in WasmSettings.model_fields for name in env_names(field)}
    for place, variables in (("", os.environ), (f"{_ENV_FILE}: ", _env_file())):
        for name in sorted(variables):
            if name.upper().startswith(_PREFIX) and name.upper() not in names:
                hint = nearest(name.upper(), names, _PREFIX)
                logger.warning("%s%s is not a setting, and has no effect; %s", place, name, hint)


def _refuse_empty(field: str) -> None:
    """Refuse a token's variable if it is empty: what should be guarded would be open. Others count as not set."""
    for file, variables in ((None, os.environ), (_ENV_FILE, _env_file())):
        for name in sorted(variables):
            if name.upper() in env_names(field) and not variables[name]:
                raise ConfigError("is empty", file=file, key=name, hint="give a token, or take the variable out")


def _env_file() -> Mapping[str, str | None]:
    """Read what ``.env`` sets; nothing if it cannot be read, which the settings themselves complain of."""
    try:
        return dotenv_values(_ENV_FILE, interpolate=False)
    except (OSError, UnicodeDecodeError):
        return {}


def _origin(field: str) -> tuple[str | None, str]:
    """Find the file, if it is one, and the variable that gave ``field`` its value."""
    sources: list[tuple[str | None, Mapping[str, str | None]]] = [
        (None, os.environ),
        (_ENV_FILE, dotenv_values(_ENV_FILE)),
    ]
    for file, source in sources:
        there = {name.upper() for name, value in source.items() if value}
        for name in env_names(field):
            if name in there:
                return file, name
    return None, field
