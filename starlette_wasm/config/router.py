"""``wasm.yaml``: which paths are served by which functions, canaries and pipelines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from itertools import combinations, pairwise, product
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..exceptions import ConfigError
from .error_text import show
from .events import WebhookConfig, has_user, http_url
from .loading import read_yaml
from .pipelines import CircuitBreakerConfig, PipelineConfig, both_serve
from .tenants import Host, TenantConfig, TenantName
from .types import TOKEN, Directory, FunctionName, Methods, Name, PathPattern, Percent, Version
from .validation import FileModel, validate, wrong

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


def _source(url: str) -> str:
    if not url.startswith("oci://") or not url.removeprefix("oci://").partition("/")[2]:
        raise wrong("is no place in a registry", "use for example oci://registry.example.com/shop/fleet:live")
    return url


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


FunctionsSource = Annotated[
    list[Annotated[StrictStr, AfterValidator(_source)]], BeforeValidator(_listed), Field(min_length=1)
]


class RouteRule(FileModel):
    """One function that serves a path, and its share of the traffic.

    ``path_pattern`` is a plain prefix of whole segments, or has parameters: ``{name}``, and last
    ``{name:path}``.
    """

    path_pattern: PathPattern
    function_name: FunctionName
    version: Version | None = Field(default=None, description="None: the stable or highest version.")
    weight: StrictInt = Field(default=100, ge=0, le=100_000, description="Share among the rules of a pattern.")
    regions: list[Name] = Field(default=[], description="Regions served; none means every region.")
    policy: Name | None = Field(default=None, description="Name of a policy; None means edge-none.")
    methods: Methods | None = Field(default=None, description="HTTP methods served; None means all.")
    hosts: list[Host] = Field(default=[], description='Hosts served, such as a.example or "*.b.example"; none: all.')
    tenants: list[TenantName] = Field(default=[], description="Tenants served; none means all.")

    @property
    def audience(self) -> tuple[frozenset[str], frozenset[str]]:
        """Whose requests it is for."""
        return frozenset(self.hosts), frozenset(self.tenants)


def _without_user(url: str) -> str:
    if has_user(url):
        raise wrong("has a user or password, which are not sent", "take them out; a token may be in the path")
    return url


class CanaryHook(FileModel):
    """An HTTP endpoint that is asked before each step of a canary, with a POST; any 2xx lets it pass."""

    url: Annotated[StrictStr, AfterValidator(http_url), AfterValidator(_without_user)] = Field(repr=False)
    timeout_ms: Annotated[StrictInt, Field(ge=1, le=30_000)] = Field(default=5000, description="Of the answer.")


class CanaryConfig(FileModel):
    """A roll-out of ``canary_version`` over ``stable_version`` in steps of per cent."""

    function_name: FunctionName
    stable_version: Version
    canary_version: Version
    canary_weight_percent: Percent | None = Field(default=None, description="Sets the first of steps.")
    steps: list[Percent] = Field(
        default=[10, 30, 50, 100], min_length=1, validate_default=True, description="Per cent, rising to 100."
    )
    step_seconds: float = Field(
        default=300,
        gt=0,
        allow_inf_nan=False,
        strict=True,
        description="Observation of each step, in seconds.",
    )
    success_rate_threshold: float = Field(
        default=0.99, gt=0, le=1, strict=True, description="Success rate to advance, from 0 to 1."
    )
    latency_p99_threshold_ms: float | None = Field(
        default=50, gt=0, allow_inf_nan=False, strict=True, description="p99 to advance; None: not looked at."
    )
    auto_promote: StrictBool = Field(default=True, description="False: each step waits for a hand.")
    progress_deadline_seconds: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        strict=True,
        description="Seconds without a step after which the log and /ready say so; None: never.",
    )
    bake_seconds: float = Field(
        default=0,
        ge=0,
        allow_inf_nan=False,
        strict=True,
        description="Seconds after the promotion in which a clear worsening brings the stable version back.",
    )
    low_traffic: StrictBool = Field(
        default=False, description="True: exact tests at fixed times, for functions of a few requests a minute."
    )
    hooks: list[CanaryHook] = Field(default=[], description="Asked before each step, the first included.")
    shadow: StrictBool = Field(
        default=False, description="True: begins with copies of safe requests, whose answers nobody gets."
    )
    waves: list[Name] = Field(
        default=[], max_length=100, description="Regions in order: each begins when the one before has promoted."
    )

    @field_validator("canary_version")
    @classmethod
    def _differs(cls, version: str, info: ValidationInfo) -> str:
        if version == info.data.get("stable_version"):
            raise wrong("is the stable version too", "give the version that is to be tried")
        return version

    @field_validator("waves")
    @classmethod
    def _each_once(cls, waves: list[str]) -> list[str]:
        for region in waves:
            if waves.count(region) > 1:
                raise wrong(f"has {region} twice", "name each region once, in their order")
            if not region.isprintable() or len(region) > 100:
                raise wrong(f"has {region!r:.40}, which cannot be a region", "use for example ap-southeast-1")
        return waves

    def before(self, region: str) -> str | None:
        """Return the region of ``waves`` that has to promote before ``region`` begins; None if nothing has to."""
        at = self.waves.index(region) if region in self.waves else 0
        return self.waves[at - 1] if at else None

    @field_validator("steps")
    @classmethod
    def _rising(cls, steps: list[int], info: ValidationInfo) -> list[int]:
        if any(step >= after for step, after in pairwise(steps)) or steps[-1] != 100:
            raise wrong("does not rise step by step to 100", "use for example [10, 30, 50, 100]")
        first = info.data.get("canary_weight_percent")
        if first is None or first == 100:
            return steps if first is None else [100]
        return [first, *(step for step in steps[1:] or [100] if step > first)]


class Stickiness(FileModel):
    """What keeps a caller on one version: the value of a header or of a cookie."""

    header: Name | None = None
    cookie: Name | None = None

    @field_validator("header", "cookie")
    @classmethod
    def _token(cls, name: str | None) -> str | None:
        if name is not None and not TOKEN.match(name):
            raise wrong("is not a name of a header or cookie", "use for example x-user-id")
        return name

    @model_validator(mode="after")
    def _one_of_two(self) -> Stickiness:
        if (self.header is None) == (self.cookie is None):
            raise wrong("does not name one header or cookie", "use for example {header: x-user-id}")
        return self


class EdgeRouterConfig(FileModel):
    """The whole of ``wasm.yaml``."""

    functions_dir: Directory = Field(default=Path("functions"), description="Folder of the functions.")
    require_signatures: list[Directory] | None = Field(
        default=None,
        description="PEM files of public keys: one of them must have signed every function. None: no check.",
    )
    functions_source: FunctionsSource | None = Field(
        default=None, description="Where functions come from: oci://HOST/REPOSITORY[:TAG], or a list. None: nowhere."
    )
    functions_poll_seconds: float = Field(
        default=30, ge=1, le=86_400, allow_inf_nan=False, strict=True, description="How often functionsSource is asked."
    )
    keep_versions: Annotated[StrictInt, Field(ge=1, le=1000)] = Field(
        default=3, description="Of a repository in functionsSource, how many of the highest versions are kept."
    )
    policies_dir: Directory | None = Field(default=None, description="Folder of further policies.")
    rules: list[RouteRule] = Field(default=[])
    default_function: FunctionName | None = Field(
        default=None, description="Serves where a pattern matched, but region or health left no rule."
    )
    default_policy: Name | None = Field(default=None, description="Policy of defaultFunction.")
    import_policies: dict[FunctionName, Name] = Field(
        default={}, description="Policies of functions while they satisfy what another one imports."
    )
    health_check_interval_ms: StrictInt = Field(default=10000, ge=1, le=86_400_000)
    ready_requires: Literal["all", "serving"] | list[FunctionName] = Field(
        default="serving",
        description="Which functions /ready needs: all, those that take traffic (serving), or a list of names.",
    )
    canaries: list[CanaryConfig] = Field(default=[])
    pipelines: list[PipelineConfig] = Field(default=[])
    circuit_breaker: CircuitBreakerConfig = Field(default=CircuitBreakerConfig(), description="Of pipelines' calls.")
    bad_functions: Literal["refuse", "leave-out"] = Field(
        default="refuse", description="Whether one bad function refuses the whole config, or is left out alone."
    )
    expose_endpoints: StrictBool = Field(default=False, description="Whether /health, /ready, /metrics are served.")
    endpoints_prefix: StrictStr = Field(default="", description="Path in front of them, such as /internal.")
    stickiness: Stickiness | None = None
    tenants: list[TenantConfig] = Field(default=[], max_length=1000, description="Tenants, with their quotas.")
    events: list[WebhookConfig] = Field(default=[], max_length=20, description="Webhooks for what happens.")

    @field_validator("endpoints_prefix")
    @classmethod
    def _plain_path(cls, prefix: str) -> str:
        if not _PREFIX.fullmatch(prefix):
            raise wrong("is no plain path", "use for example /internal, without a slash at the end")
        return prefix

    @field_validator("require_signatures")
    @classmethod
    def _names_a_key(cls, keys: list[Path] | None) -> list[Path] | None:
        if keys == []:
            raise wrong("names no key, so that nothing could be required", "name a public key, or take it out")
        return keys

    @field_validator("canaries")
    @classmethod
    def _one_canary_each(cls, canaries: list[CanaryConfig]) -> list[CanaryConfig]:
        names = [canary.function_name for canary in canaries]
        for name in names:
            if names.count(name) > 1:
                raise wrong(f"has two canaries of {name}", "keep one")
        return canaries

    @field_validator("tenants")
    @classmethod
    def _each_tenant_once(cls, tenants: list[TenantConfig]) -> list[TenantConfig]:
        for what, listed in (
            ("the tenant", [tenant.name for tenant in tenants]),
            ("the host", [host for tenant in tenants for host in tenant.hosts]),
        ):
            for each, count in Counter(listed).items():
                if count > 1:
                    raise wrong(f"has {what} {each} twice", "keep one")
        return tenants

    @field_validator("pipelines")
    @classmethod
    def _one_for_each_method(cls, pipelines: list[PipelineConfig], info: ValidationInfo) -> list[PipelineConfig]:
        for one, other in combinations(pipelines, 2):
            if one.path == other.path and both_serve(one.methods, other.methods):
                raise wrong(f"has two pipelines for {one.path}", "keep one, or tell them apart by methods")
        rules: list[RouteRule] = info.data.get("rules", [])
        for rule, pipeline in product(rules, pipelines):
            if (
                not any(rule.audience)
                and rule.path_pattern == pipeline.path
                and both_serve(rule.methods, pipeline.methods)
            ):
                raise wrong(f"has {pipeline.path}, which rules serve too", "keep one, or tell them apart by methods")
        return pipelines


Config = str | PathLike[str] | Mapping[str, Any] | EdgeRouterConfig
"""The path of a ``wasm.yaml``, a mapping with the same keys, or a model."""


def load_config(source: Config) -> EdgeRouterConfig:
    """Load the config in a file, a mapping or a model, with absolute directories. Raises ``ConfigError``.

    Relative directories count from the file, or from the working directory if there is none.
    """
    folder = Path.cwd()
    if isinstance(source, EdgeRouterConfig):
        config = source
    elif isinstance(source, Mapping):
        config = validate(EdgeRouterConfig, dict(source))
    elif isinstance(source, str | PathLike):
        file = Path(source)
        config = validate(EdgeRouterConfig, read_yaml(file, "a config, with keys such as rules"), file)
        folder = file.absolute().parent
    else:
        raise ConfigError(f"{show(source)} is not a config", hint="give a path, a mapping or an EdgeRouterConfig")
    dirs: dict[str, Any] = {"functions_dir": folder / config.functions_dir}
    if config.require_signatures is not None:
        dirs["require_signatures"] = [folder / key for key in config.require_signatures]
    if config.policies_dir is not None:
        dirs["policies_dir"] = folder / config.policies_dir
    return config.model_copy(update=dirs)
