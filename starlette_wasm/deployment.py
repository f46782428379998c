"""What a config comes to: loaded whole, never changed, replaced whole."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

from .bulkhead import Bulkhead
from .capabilities import Capabilities
from .config import EdgeRouterConfig, RouteRule, load_config
from .engine.engine import Engine
from .exceptions import ConfigError, FunctionNotFound
from .functions.catalog import Catalog
from .functions.loader import LoadedFunction, load_all, open_cache
from .policy import SandboxPolicy, load_policies
from .rollout.canary.shares import Part, Shares
from .rollout.router import Router
from .rollout.weights import process_phase
from .settings import WasmSettings
from .target import Target, bind

logger = logging.getLogger("starlette_wasm")

Config = str | PathLike[str] | Mapping[str, Any] | EdgeRouterConfig
"""The path of a ``wasm.yaml``, a mapping with the same keys, or a model."""


class Deployment:
    """The functions of a catalog, compiled, and policies to bind them to; ``router`` and ``default`` of the rules."""

    router: Router[RouteRule, Target]
    default: Target | None

    def __init__(
        self,
        config: EdgeRouterConfig,
        source: str | None,
        catalog: Catalog,
        functions: Mapping[tuple[str, str], LoadedFunction],
        policies: Mapping[str, SandboxPolicy],
        default_policy: str,
        capabilities: Capabilities,
    ) -> None:
        self.config = config
        self.functions = functions
        self.policies = policies
        self._source = source
        self._catalog = catalog
        self._default_policy = default_policy
        self._capabilities = capabilities
        self._stable = {canary.function_name: canary.stable_version for canary in config.canaries}
        self._directories: list[int] = []
        self._bulkheads: dict[tuple[str, str], Bulkhead] = {}

    def route(self) -> None:
        """Bind the rules. Raises what bind() does, and ConfigError."""
        self._check_canaries()
        rules = []
        for index, rule in self._versioned():
            target = self.bind(
                rule.function_name,
                rule.version,
                rule.policy,
                route=rule.path_pattern,
                where=self._where(f"rules[{index}].functionName"),
                policy_key=f"rules[{index}].policy",
            )
            if rule.version is None:
                rule = rule.model_copy(update={"version": target.version})
            rules.append((rule, target))
        weights: Counter[str] = Counter()
        for rule, _ in rules:
            weights[rule.path_pattern] += rule.weight
        for pattern, weight in weights.items():
            if not weight:
                logger.warning("rules: all rules of %s have weight 0: none of them serves", pattern)
        self.default = None
        if self.config.default_function is not None:
            self.default = self.bind(
                self.config.default_function,
                None,
                self.config.default_policy,
                route="",
                where=self._where("defaultFunction"),
                policy_key="defaultPolicy",
            )
        self.router = self._router(rules)

    def _check_canaries(self) -> None:
        for index, canary in enumerate(self.config.canaries):
            for key, version in (("stableVersion", canary.stable_version), ("canaryVersion", canary.canary_version)):
                try:
                    self._catalog.get(canary.function_name, version)
                except FunctionNotFound as error:
                    where = self._where(f"canaries[{index}].{key}")
                    raise FunctionNotFound(canary.function_name, version, known=error.known, where=where) from None

    def _versioned(self) -> Iterator[tuple[int, RouteRule]]:
        """The rules, with the second one that is implied where a rule of a canary's function has no version."""
        canaries = {canary.function_name: canary for canary in self.config.canaries}
        for index, rule in enumerate(self.config.rules):
            canary = canaries.get(rule.function_name) if rule.version is None else None
            if canary is None:
                yield index, rule
            else:
                yield index, rule.model_copy(update={"version": canary.stable_version})
                yield index, rule.model_copy(update={"version": canary.canary_version, "weight": 0})

    def _router(self, rules: Sequence[tuple[RouteRule, Target]]) -> Router[RouteRule, Target]:
        """The router, in which canaries get nothing yet. Raises ConfigError where a step of one is not possible."""
        percents = {0, *(step for canary in self.config.canaries for step in canary.steps)}
        try:
            for percent in sorted(percents, reverse=True):
                shares = Shares(
                    {
                        canary.function_name: Part(canary.stable_version, canary.canary_version, percent)
                        for canary in self.config.canaries
                    }
                )
                router = Router(rules, weigh=shares, phase=process_phase())
        except ValueError as error:
            raise ConfigError(str(error), file=self._source, key="rules") from None
        for canary in self.config.canaries:
            if canary.function_name not in shares.met:
                logger.warning(
                    "canaries: no rule serves both v%s and v%s of %s, so that its canary gets no traffic; "
                    "add rules for them with the same pattern, region and method, or one without a version",
                    canary.stable_version,
                    canary.canary_version,
                    canary.function_name,
                )
        return router

    def bind(
        self,
        name: str,
        version: str | None,
        policy: str | None,
        *,
        route: str,
        where: str,
        policy_key: str | None = None,
    ) -> Target:
        """Bind a function to a policy. ``where`` and ``policy_key`` name the rule or route for errors.

        Without a version it is the stable one of a canary, else the highest.

        Raises FunctionNotFound, ConfigError, PolicyViolation and MemoryLimitExceeded.
        """
        if version is None:
            version = self._stable.get(name)
        try:
            source = self._catalog.get(name, version)
        except FunctionNotFound as error:
            raise FunctionNotFound(name, version, known=error.known, where=where) from None
        wanted = policy or self._default_policy
        if wanted not in self.policies:
            raise ConfigError(
                f"no policy is called {wanted!r}",
                file=self._source if policy_key else None,
                key=policy_key or where or None,
                mend=f"known are {', '.join(sorted(self.policies))}",
            )
        function = self.functions[source.name, source.version]
        granted = self.policies[wanted]
        bulkhead = self._bulkhead(route or name, granted)
        return bind(function, granted, self._capabilities, self._directories, bulkhead, route=route, where=where)

    def _bulkhead(self, route: str, policy: SandboxPolicy) -> Bulkhead:
        """One for each route and policy: the versions that share a path share it."""
        key = (route, policy.name)
        if key not in self._bulkheads:
            self._bulkheads[key] = Bulkhead(policy.max_concurrency, policy.max_queue, policy.queue_timeout_ms / 1000)
        return self._bulkheads[key]

    def _where(self, key: str) -> str:
        return f"{self._source}: {key}" if self._source else key

    @property
    def live(self) -> bool:
        """Whether an instance is left, in a thread that has yet to see that it is over."""
        return any(function.module.live for function in self.functions.values())

    def close(self) -> None:
        """Free the modules, but for one that a stuck guest still runs in, and close the granted directories."""
        for function in self.functions.values():
            if function.module.live:
                logger.warning("%s is not freed: a guest is stuck in it", function.source)
            else:
                function.module.close()
        for descriptor in self._directories:
            os.close(descriptor)
        self._directories.clear()


def deploy(given: Config, settings: WasmSettings, engine: Engine, capabilities: Capabilities) -> Deployment:
    """Load everything that a config names, in threads.

    Raises ConfigError, ModuleLoadError, FunctionNotFound, PolicyViolation and MemoryLimitExceeded.
    """
    config = load_config(given)
    source = str(given) if isinstance(given, str | PathLike) else None
    _refuse_unserved(config, source)
    policies = load_policies(config.policies_dir)
    catalog = Catalog(config.functions_dir)
    functions = load_all(engine, catalog, open_cache(settings.aot_cache_dir()), settings.compile_threads)
    deployment = Deployment(config, source, catalog, functions, policies, settings.default_policy, capabilities)
    try:
        deployment.route()
    except BaseException:
        deployment.close()
        raise
    return deployment


def _refuse_unserved(config: EdgeRouterConfig, source: str | None) -> None:
    """What is understood but not served must not be passed over in silence."""
    if config.pipelines:
        raise ConfigError("is not served by this version", file=source, key="pipelines", mend="take it out")
