"""Pipelines as they are run: every step bound, every bound on its time known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Protocol

from ..config.pipelines import PipelineCall, PipelineConfig, PipelineFallback, PipelineStep
from ..config.policy import SandboxPolicy
from ..config.router import EdgeRouterConfig, RouteRule
from ..exceptions import FunctionUnavailable
from ..functions.target import Target
from ..messages import EdgeResponse
from .breaker import Breakers, Circuit
from .pipeline_set import Counts, PipelineSet
from .retry import Backoff, RetryBudget


class Bind(Protocol):
    """The signature of ``Deployment.bind``."""

    def __call__(
        self, name: str, version: str | None, policy: str | None, *, route: str, where: str, policy_key: str | None
    ) -> Target: ...


@dataclass(frozen=True, slots=True)
class Callee:
    """A function that a pipeline names."""

    target: Target
    timeout: float
    """Time limit of an attempt, in seconds, once it has a place."""
    canary: Target | None
    """What runs instead once the canary of the function is promoted; None if it has none, or a version is named."""
    circuit: str
    """Which circuits of the function's versions it has: those under its policy."""

    @property
    def longest(self) -> float:
        """Seconds from the call to the answer, the wait for a place included."""
        return self.target.bulkhead.timeout + self.timeout

    def serving(self, version: str | None) -> Target:
        """Return what an attempt runs if ``version`` serves whoever names none."""
        canary = self.canary
        return self.target if canary is None or canary.version != version else canary

    def behind(self, step: Callee) -> Callee:
        """Return this as the fallback of ``step``, whose open circuit must not keep it from being tried."""
        same = (self.target.name, self.circuit) == (step.target.name, step.circuit)
        return replace(self, circuit=f"{self.circuit}, fallback") if same else self

    def __str__(self) -> str:
        return self.target.name


@dataclass(frozen=True, slots=True)
class Call:
    """One function, with what is done if it fails."""

    name: str
    index: int
    """Index of the step in the config; the branches of a step share it."""
    callee: Callee
    attempts: int
    unsafe: bool
    backoff: Backoff
    fallback: Callee | None
    answer: Callable[[], EdgeResponse] | None
    """Makes the fixed answer."""
    optional: bool = False

    @property
    def longest(self) -> float:
        """Seconds that it may take, with all retries and the fallback."""
        waits = sum(self.backoff.bound(retry) for retry in range(1, self.attempts))
        return self.attempts * self.callee.longest + waits + (self.fallback.longest if self.fallback else 0)

    def __str__(self) -> str:
        other = self.fallback or ("answer" if self.answer else None)
        return f"{self.name} (else {other})" if other else self.name


@dataclass(frozen=True, slots=True)
class Parallel:
    """Calls with the same request at the same time, and what makes one answer of theirs."""

    branches: tuple[Call, ...]
    merge: Call | None

    @property
    def name(self) -> str:
        return " + ".join(branch.name for branch in self.branches)

    @property
    def longest(self) -> float:
        return max(branch.longest for branch in self.branches) + (self.merge.longest if self.merge else 0)

    def __str__(self) -> str:
        merge = f" > {self.merge}" if self.merge else ""
        return f"[{' + '.join(map(str, self.branches))}]{merge}"


Step = Call | Parallel


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """Steps behind a path."""

    route: str
    methods: Sequence[str] | None
    steps: tuple[Step, ...]
    timeout: float
    """Time limit of the whole, in seconds."""
    policy: SandboxPolicy
    """Policy of the first step: that bounds the body of the request."""
    budget: RetryBudget
    owner: Pipelines

    streams: ClassVar[bool] = False
    """As of a target: the whole body is there before the first step."""

    @property
    def max_body(self) -> int:
        return self.policy.max_request_bytes

    @property
    def first(self) -> Target:
        """What the first step runs, or its first branch."""
        return _calls(self.steps[0])[0].callee.target

    @property
    def tenant(self) -> Hashable:
        """Whose share is used before and after its steps: that of the first one."""
        return self.first.tenant

    @property
    def targets(self) -> list[Target]:
        """What the steps run when nothing fails, in order."""
        return [call.callee.target for step in self.steps for call in _calls(step)]

    def serves(self, method: str) -> bool:
        methods = self.methods
        return methods is None or method in methods or (method == "HEAD" and "GET" in methods)

    def rule(self) -> RouteRule:
        """Make what stands for it among the rules: the only one of its pattern and methods."""
        # Its name is that of no function, so that no setting for a function's rules touches it.
        name = f"pipeline {self.route}"
        return RouteRule.model_construct(path_pattern=self.route, function_name=name, methods=self.methods)

    def __str__(self) -> str:
        return " > ".join(map(str, self.steps))


class Pipelines(PipelineSet):
    """Pipelines, with the circuit breakers that they share."""

    __slots__ = ("breakers",)

    def __init__(self, breakers: Breakers, counts: Counts) -> None:
        super().__init__(counts)
        self.breakers = breakers

    def stats(self) -> dict[str, int]:
        if not self.all:
            return {}
        states = list(self.breakers.states().values())
        return {
            "pipelines": self.counts.running,
            "retries": self.counts.retries,
            "fallbacks": self.counts.fallbacks,
            "pipeline_timeouts": self.counts.timeouts,
            "circuits_open": states.count(Circuit.OPEN),
            "circuits_half_open": states.count(Circuit.HALF_OPEN),
        }

    def circuits(self) -> Mapping[str, Circuit]:
        return self.breakers.states()

    def reset_circuit(self, name: str) -> bool:
        return self.breakers.reset(name)


def bind_pipelines(
    config: EdgeRouterConfig,
    bind: Bind,
    where: Callable[[str], str],
    before: PipelineSet | None = None,
    same: Collection[tuple[str, str]] = (),
) -> Pipelines:
    """Bind every step. ``where`` names a key for errors. Raises what ``bind`` does.

    A pipeline with a function that is left out is among the ``absent`` ones.

    What is known of functions, by circuit breakers and retry budgets, is taken over from ``before``: of the ``same``
    versions, and of pipelines with the same path, methods and budget.
    """
    known = before.breakers if isinstance(before, Pipelines) else None
    breakers = Breakers(config.circuit_breaker, known, same)
    pipelines = Pipelines(breakers, before.counts if before else Counts())
    canaries = {canary.function_name: canary.canary_version for canary in config.canaries}
    for number, given in enumerate(config.pipelines):
        binder = _Binder(given, canaries, bind, where, f"pipelines[{number}]")
        try:
            pipelines.all.append(binder.pipeline(pipelines, before))
        except FunctionUnavailable as error:
            pipelines.absent.append((given, error))
    calls = [call for pipeline in pipelines.all for step in pipeline.steps for call in _calls(step)]
    callees = [callee for call in calls for callee in (call.callee, call.fallback) if callee is not None]
    breakers.keep({(callee.target.name, callee.circuit) for callee in callees})
    return pipelines


class _Binder:
    """Binds one pipeline."""

    def __init__(
        self,
        given: PipelineConfig,
        canaries: Mapping[str, str],
        bind: Bind,
        where: Callable[[str], str],
        key: str,
    ) -> None:
        self._given = given
        self._canaries = canaries
        self._bind = bind
        self._where = where
        self._key = key

    def pipeline(self, owner: Pipelines, before: PipelineSet | None) -> Pipeline:
        given = self._given
        steps = tuple(self._step(step, index) for index, step in enumerate(given.steps))
        first = steps[0].branches if isinstance(steps[0], Parallel) else (steps[0],)
        policies = [call.callee.target.policy for call in first]
        limit = given.timeout_ms
        return Pipeline(
            route=given.path,
            methods=given.methods,
            steps=steps,
            timeout=sum(step.longest for step in steps) if limit is None else limit / 1000,
            policy=max(policies, key=lambda policy: policy.max_request_bytes),
            budget=self._budget(before),
            owner=owner,
        )

    def _budget(self, before: PipelineSet | None) -> RetryBudget:
        given = self._given
        wanted = (given.path, given.methods, given.retry_budget)
        for other in before.all if before else ():
            if (other.route, other.methods, other.budget.config) == wanted:
                return other.budget
        return RetryBudget(given.retry_budget)

    def _step(self, step: PipelineStep, index: int) -> Step:
        key = f"{self._key}.steps[{index}]"
        if step.parallel is None:
            return self._call(step, index, key)
        branches = [
            self._call(branch, index, f"{key}.parallel[{number}]", optional=branch.optional)
            for number, branch in enumerate(step.parallel)
        ]
        merge = None if step.merge is None else self._call(step.merge, index, f"{key}.merge")
        return Parallel(tuple(branches), merge)

    def _call(self, call: PipelineCall, index: int, key: str, *, optional: bool = False) -> Call:
        callee = self._callee(call, key)
        fallback = call.fallback
        instead = self._callee(fallback, f"{key}.fallback").behind(callee) if fallback and fallback.function else None
        return Call(
            name=call.name or call.function,
            index=index,
            callee=callee,
            attempts=1 + call.retries,
            unsafe=call.retry_unsafe,
            backoff=Backoff(call.backoff_ms / 1000, call.max_backoff_ms / 1000),
            fallback=instead,
            answer=fallback.answer.response if fallback and fallback.answer else None,
            optional=optional,
        )

    def _callee(self, call: PipelineCall | PipelineFallback, key: str) -> Callee:
        name = call.function
        assert name is not None
        bind = partial(
            self._bind,
            name,
            policy=call.policy or self._given.policy,
            # A bulkhead for each function: a slow step must not take the places of the others.
            route=f"{self._given.path} {name}",
            where=self._where(f"{key}.function"),
            policy_key=f"{key}.policy" if call.policy else f"{self._key}.policy",
        )
        target = bind(version=call.version)
        canary = self._canaries.get(name) if call.version is None else None
        limits = [limit / 1000 for limit in (call.timeout_ms, self._given.timeout_ms) if limit is not None]
        return Callee(
            target,
            min([target.plan.limits.time, *limits]),
            None if canary is None else bind(version=canary),
            target.policy.name,
        )


def _calls(step: Step) -> list[Call]:
    if isinstance(step, Call):
        return [step]
    return [*step.branches, *([step.merge] if step.merge else [])]
