"""``Deployment``: all that one config serves, loaded as a whole and replaced as a whole."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

from ..canary.controller import load_canaries
from ..canary.traffic_split import Part, TrafficSplit
from ..capabilities import Capabilities
from ..config.policy import SandboxPolicy, is_shipped, load_policies, unknown_policy
from ..config.router import Config, EdgeRouterConfig, RouteRule, load_config
from ..config.settings import WasmSettings
from ..engine.engine import Engine
from ..exceptions import ConfigError, FunctionNotFound, FunctionUnavailable, GrantError, WasmError
from ..functions.admission import compile_limits
from ..functions.catalog import Catalog
from ..functions.compile_backoff import CompileBackoff
from ..functions.links import cycles, links_of
from ..functions.load_cancellation import LoadCancellation
from ..functions.loader import LoadedFunction, load_all, open_cache
from ..functions.open_directory import OpenDirectory
from ..functions.target import Target, bind, check_answers
from ..pipelines.pipeline_set import PipelineSet
from ..sync.bulkhead import Bulkhead
from ..telemetry.events.events import check as check_events
from .fingerprint import fingerprints
from .rule_router import audience_of, route_rules

if TYPE_CHECKING:
    from ..functions.required_signatures import RequiredSignatures
    from ..pipelines.plan import Pipeline
    from .rule_router import RuleRouter

logger = logging.getLogger("starlette_wasm")


class Importer(NamedTuple):
    """A function under a policy that calls others which satisfy its imports, directly or through these."""

    function: str
    policy: str


class Deployment:
    """The functions of a catalog, compiled, and policies to bind them to; ``router`` and ``default`` of the rules."""

    router: RuleRouter
    default: Target | None
    pipelines: PipelineSet
    fingerprints: Mapping[str, Any]
    """Digests of config, policies and settings, so that nodes can be compared."""

    def __init__(
        self,
        config: EdgeRouterConfig,
        source: str | None,
        catalog: Catalog,
        functions: Mapping[tuple[str, str], LoadedFunction],
        policies: Mapping[str, SandboxPolicy],
        default_policy: str,
        capabilities: Capabilities,
        previous: Deployment | None = None,
    ) -> None:
        """Count what runs under ``previous`` in the bulkheads of this one, if their limits are the same."""
        self.config = config
        self.stickiness = config.stickiness
        self.functions = functions
        self.policies = policies
        self._source = source
        self._catalog = catalog
        self._default_policy = default_policy
        self._capabilities = capabilities
        self.bound: list[Target] = []
        """All targets that were made, of rules, routes and calls."""
        self.targets: dict[tuple[str, str | None, str | None, str], Target] = {}
        """Targets of routes and calls, by the arguments of target()."""
        self._directories: list[OpenDirectory] = []
        self._warned: set[str] = set()
        """The policies whose missing directories were logged."""
        self.left_out = {
            (name, version): FunctionUnavailable(name, version, error) for (name, version), error in catalog.bad.items()
        }
        """The versions that are bad; a version is empty if all of the function are."""
        self.unserved: set[tuple[str, str]] = set()
        """The ones that a rule with a weight names, if nothing else serves its path."""
        self._canaries = {canary.function_name: canary for canary in config.canaries}
        self.imported: dict[tuple[Importer, str, str | None], Target] = {}
        """Targets of functions that satisfy imports, for whom, by their name and version."""
        self._bulkheads: dict[tuple[str, str, object], Bulkhead] = {}
        self._inherited = {} if previous is None else previous.bulkheads()

    def route(self, previous: Deployment | None = None) -> None:
        """Bind the rules and pipelines. Raises what bind() does, and ConfigError.

        The circuit breakers and retry budgets of ``previous`` are kept, for what is the same.
        """
        self._check_canaries()
        self._check_import_policies()
        rules: list[tuple[RouteRule, Target | Pipeline]] = []
        absent: list[tuple[RouteRule, FunctionUnavailable]] = []
        for index, rule in self._versioned():
            try:
                target = self.bind(
                    rule.function_name,
                    rule.version,
                    rule.policy,
                    route=rule.path_pattern,
                    where=self._where(f"rules[{index}].functionName"),
                    policy_key=f"rules[{index}].policy",
                    share=audience_of(rule),
                )
            except FunctionUnavailable as error:
                absent.append((rule, error))
                continue
            if rule.version is None:
                rule = rule.model_copy(update={"version": target.version})
            rules.append((rule, target))
        weights: Counter[str] = Counter()
        for rule, _ in rules:
            weights[rule.path_pattern] += rule.weight
        for pattern, weight in weights.items():
            if not weight:
                logger.warning("rules: all rules of %s have weight 0: none of them serves", pattern)
        self.pipelines = self._bind_pipelines(previous)
        rules += [(pipeline.rule(), pipeline) for pipeline in self.pipelines.all]
        absent += [
            (RouteRule(path_pattern=given.path, function_name=error.function, methods=given.methods), error)
            for given, error in self.pipelines.absent
        ]
        self.default = None
        if self.config.default_function is not None:
            with suppress(FunctionUnavailable):
                self.default = self.bind(
                    self.config.default_function,
                    None,
                    self.config.default_policy,
                    route="",
                    where=self._where("defaultFunction"),
                    policy_key="defaultPolicy",
                )
        self._find_unserved(absent, {rule.path_pattern for rule, _ in rules if rule.weight})
        self.router = self._router(rules, [rule for rule, _ in absent])

    def _bind_pipelines(self, previous: Deployment | None) -> PipelineSet:
        before = PipelineSet() if previous is None else previous.pipelines
        if not self.config.pipelines and type(before) is PipelineSet:
            return before
        from ..pipelines.plan import bind_pipelines

        # What runs them, too: the first request of one would import it on the event loop.
        import_module("..pipelines.runner", __package__)
        same = () if previous is None else self._same(previous)
        return bind_pipelines(self.config, self.bind, self._where, before, same)

    def _find_unserved(self, absent: Sequence[tuple[RouteRule, FunctionUnavailable]], served: set[str]) -> None:
        if self.default is None:
            self.unserved = {
                (error.function, error.version)
                for rule, error in absent
                if rule.weight and rule.path_pattern not in served
            }

    def _same(self, previous: Deployment) -> set[tuple[str, str]]:
        """Return the versions of functions of which nothing has changed."""
        return {
            key
            for key, function in self.functions.items()
            if (before := previous.functions.get(key)) is not None
            and before.digest == function.digest
            and before.source.manifest == function.source.manifest
        }

    def _check_canaries(self) -> None:
        for index, canary in enumerate(self.config.canaries):
            for key, version in (("stableVersion", canary.stable_version), ("canaryVersion", canary.canary_version)):
                try:
                    self._catalog.get(canary.function_name, version)
                except FunctionNotFound as error:
                    if self._catalog.bad_key(canary.function_name, version) is not None:
                        self._drop_canary(canary.function_name)
                        continue
                    where = self._where(f"canaries[{index}].{key}")
                    raise FunctionNotFound(
                        canary.function_name, version, known=error.known, where=where, hint=error.hint
                    ) from None

    def _check_import_policies(self) -> None:
        for name, policy in self.config.import_policies.items():
            key = f"importPolicies.{name}"
            if policy not in self.policies:
                hint = unknown_policy(policy, self.policies, self.config.policies_dir)
                raise ConfigError(f"no policy is called {policy!r}", file=self._source, key=key, hint=hint)
            try:
                self._catalog.get(name)
            except FunctionNotFound as error:
                if self._catalog.bad_key(name, None) is None:  # else it is left out, which is known
                    where = self._where(key)
                    raise FunctionNotFound(name, known=error.known, where=where, hint=error.hint) from None

    def _drop_canary(self, function: str) -> None:
        logger.error("canaries: that of %s does not run, since one of its versions is left out", function)
        kept = [canary for canary in self.config.canaries if canary.function_name != function]
        self.config = self.config.model_copy(update={"canaries": kept})

    def _versioned(self) -> Iterator[tuple[int, RouteRule]]:
        """Yield the rules, with the second one that is implied if a rule of a canary's function has no version."""
        for index, rule in enumerate(self.config.rules):
            canary = self._canaries.get(rule.function_name) if rule.version is None else None
            if canary is None:
                yield index, rule
            else:
                yield index, rule.model_copy(update={"version": canary.stable_version})
                yield index, rule.model_copy(update={"version": canary.canary_version, "weight": 0})

    def _router(self, rules: Sequence[tuple[RouteRule, Target | Pipeline]], absent: Sequence[RouteRule]) -> RuleRouter:
        """Make the router, in which canaries get nothing yet. Raises ConfigError if a step of one is not possible."""
        percents = {0, *(step for canary in self.config.canaries for step in canary.steps)}
        shares, *others = [
            TrafficSplit(
                {
                    canary.function_name: Part(canary.stable_version, canary.canary_version, percent)
                    for canary in self.config.canaries
                }
            )
            for percent in sorted(percents, reverse=True)
        ]
        try:
            router = route_rules(rules, absent, shares)
            for each in others:
                router.reweigh(each, {canary.function_name for canary in self.config.canaries})
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

    def target(self, name: str, version: str | None, policy: str | None, *, route: str, where: str) -> Target:
        """Bind as bind() does, once for each route or call. Without a version also a canary, as it may be promoted."""
        if isinstance(version, int):
            version = str(version)  # as in YAML
        key = (name, version, policy, route)
        target = self.targets.get(key)
        if target is None:
            where = where or (route and f"route {route}")
            canary = self._canaries.get(name) if version is None else None
            if canary is None:
                target = self.bind(name, version, policy, route=route, where=where)
            else:
                self.target(name, canary.canary_version, policy, route=route, where=where)
                target = self.target(name, canary.stable_version, policy, route=route, where=where)
            self.targets[key] = target
        return target

    def bind(
        self,
        name: str,
        version: str | None,
        policy: str | None,
        *,
        route: str,
        where: str,
        policy_key: str | None = None,
        share: object = None,
    ) -> Target:
        """Bind a function to a policy. ``where`` and ``policy_key`` name the rule or route for errors.

        What has another ``share`` has a bulkhead of its own. Without a version it is the stable one of a canary, else
        the highest.

        Raises FunctionNotFound, ConfigError, PolicyViolation and MemoryLimitExceeded, and FunctionUnavailable where the
        function is left out.
        """
        canary = self._canaries.get(name)
        if version is None and canary is not None:
            version = canary.stable_version
        if (bad := self._catalog.bad_key(name, version)) is not None:
            raise self.left_out[bad].again()
        try:
            return self._bind(name, version, policy, route=route, where=where, policy_key=policy_key, share=share)
        except WasmError as error:
            if self.config.bad_functions == "refuse" and not isinstance(error, GrantError):
                raise
            logger.error("%s: %s is left out: %s", where or route, name, error)
            unavailable = FunctionUnavailable(name, self._version(name, version), error)
            self.left_out.setdefault((name, unavailable.version), unavailable)
            raise unavailable from None

    def _version(self, name: str, version: str | None) -> str:
        """Return which version is meant; empty if there is none."""
        try:
            return self._catalog.get(name, version).version
        except FunctionNotFound:
            return version or ""

    def _bind(
        self,
        name: str,
        version: str | None,
        policy: str | None,
        *,
        route: str,
        where: str,
        policy_key: str | None,
        share: object,
    ) -> Target:
        """Bind as bind() does, for what the catalog has."""
        canary = self._canaries.get(name)
        try:
            source = self._catalog.get(name, version)
        except FunctionNotFound as error:
            raise FunctionNotFound(name, error.version, known=error.known, where=where, hint=error.hint) from None
        wanted = policy or self._default_policy
        if wanted not in self.policies:
            raise ConfigError(
                f"no policy is called {wanted!r}",
                file=self._source if policy_key else None,
                key=policy_key or where or None,
                hint=unknown_policy(wanted, self.policies, self.config.policies_dir),
            )
        function = self.functions[source.name, source.version]
        if route or policy_key:
            check_answers(function)
        granted = self.policies[wanted]
        bulkhead = self._bulkhead(route or name, granted, share)
        if canary is not None and version == canary.canary_version:
            where = f"{where} (canary v{version})".lstrip()
        # The shipped policies grant directories that many have no use for.
        warn = wanted not in self._warned and (function.module.uses_files or not is_shipped(granted))
        if warn:
            self._warned.add(wanted)
        importer = share if isinstance(share, Importer) else Importer(source.name, granted.name)
        links = links_of(function, partial(self._bind_import, importer))
        target = bind(
            function,
            granted,
            self._capabilities,
            self._directories,
            bulkhead,
            route=route,
            where=where,
            warn=warn,
        )
        if links:
            target = replace(target, links=links)
        if isinstance(share, Importer):
            target.plan.tenant = *target.tenant, share
        self.bound.append(target)
        return target

    def _bind_import(self, importer: Importer, name: str, version: str | None, where: str) -> Target:
        """Bind a function that satisfies an import, under the policy that wasm.yaml has for that.

        Each importer has a target of its own, so that none can take all the places of what others import, too.
        """
        key = importer, name, version
        target = self.imported.get(key)
        if target is None:
            policy = self.config.import_policies.get(name)
            target = self.imported[key] = self.bind(name, version, policy, route="", where=where, share=importer)
        return target

    def _bulkhead(self, route: str, policy: SandboxPolicy, share: object) -> Bulkhead:
        """Return one for each route, policy and share: the versions that share a path share it."""
        key = (route, policy.name, share)
        if key not in self._bulkheads:
            bulkhead = Bulkhead(policy.max_concurrency, policy.max_queue, policy.queue_timeout_ms / 1000)
            before = self._inherited.get(key)
            self._bulkheads[key] = before if before is not None and before.limits == bulkhead.limits else bulkhead
        return self._bulkheads[key]

    def bulkheads(self) -> dict[tuple[str, str, object], Bulkhead]:
        """List the functions of this deployment, and of those before it in which something still runs."""
        busy = {key: bulkhead for key, bulkhead in self._inherited.items() if bulkhead.active}
        return busy | self._bulkheads

    def _where(self, key: str) -> str:
        return f"{self._source}: {key}" if self._source else key

    @property
    def live(self) -> bool:
        """Whether an instance is left, in a thread that has yet to see that it is over, or a pipeline runs, be it one
        of what this has replaced."""
        return self.pipelines.counts.running > 0 or any(function.module.busy for function in self.functions.values())

    def close(self) -> None:
        """Free the modules, but for one that a stuck guest still runs in, and close the granted directories.

        For the end: what is replaced while calls may be under way is let go instead, and frees itself with the last.
        """
        stuck = self.live
        for function in self.functions.values():
            if not function.module.close():
                logger.warning("%s is not freed: a guest is stuck in it", function.source)
        if not stuck:
            for directory in self._directories:
                directory.close()


def _required(config: EdgeRouterConfig, source: str | None) -> RequiredSignatures | None:
    """Return the keys that must have signed every function; None if none must. Raises ConfigError."""
    if not config.require_signatures:
        return None
    from ..functions.required_signatures import load_required  # with what reads keys and signatures

    return load_required(config.require_signatures, source)


def deploy(
    given: Config,
    settings: WasmSettings,
    engine: Engine,
    capabilities: Capabilities,
    compile_backoff: CompileBackoff | None = None,
    previous: Deployment | None = None,
    stop: LoadCancellation | None = None,
) -> Deployment:
    """Load everything that a config names, in threads; in one, and without what ``previous`` has, while that serves.

    ``compile_backoff`` remembers which modules could not be compiled. ``stop`` ends it early, with LoadCancelled.

    Raises ConfigError, ModuleLoadError, FunctionNotFound, PolicyViolation and MemoryLimitExceeded.
    """
    config = load_config(given)
    if config.canaries:
        load_canaries()
    check_events(config.events)
    source = str(given) if isinstance(given, str | PathLike) else None
    policies = load_policies(config.policies_dir, source)
    catalog = Catalog(
        config.functions_dir, leave_out=config.bad_functions == "leave-out", required=_required(config, source)
    )
    known = {function.digest: function for function in previous.functions.values()} if previous else {}
    functions = load_all(
        engine,
        catalog,
        open_cache(settings.aot_cache_dir(), settings.cache_max_mb << 20, volume=settings.cache_volume),
        1 if previous else settings.compile_threads,
        compile_limits(settings),
        compile_backoff,
        known,
        stop,
    )
    for imports, error in cycles(functions, catalog.get):
        catalog.refuse(imports.name, imports.version, error)
    deployment = Deployment(
        config, source, catalog, functions, policies, settings.default_policy, capabilities, previous
    )
    deployment.route(previous)
    deployment.fingerprints = fingerprints(config, policies, settings)
    return deployment
