"""``Health``: which functions work, by probes, and what is taken out of the routing because it does not."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..components.kinds import plan_for
from ..engine.engine import OutOfInstances
from ..engine.plan import Limits, Plan
from ..functions.target import Target
from ..invocation.isolated import Problem, check_health, instantiate
from ..sync.own_thread import in_own_thread
from .announcements import health_changed

if TYPE_CHECKING:
    from ..functions.loader import LoadedFunction
    from ..pipelines.plan import Pipeline
    from .deployment import Deployment
    from .runtime import WasmRuntime

logger = logging.getLogger("starlette_wasm")

FAILURES = 2
"""Failed probes in a row that take a function out; one that succeeds brings it back."""
_AT_ONCE = 4
_ON_LOOP = 10
"""Functions that nobody knows yet and are tried at once, on the event loop, while others are served: there may be
thousands of them after a reload."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0

Key = tuple[str, str, str]
"""Function, version and policy; the policy of what no rule, route or call has bound is empty."""


@dataclass(slots=True, eq=False)
class Subject:
    """A version of a function under a policy."""

    key: Key
    function: LoadedFunction
    target: Target | None
    healthy: bool | None = None
    """None as long as nobody knows."""
    reason: str = ""
    """The cause of the last failure."""
    failures: int = 0
    running: bool = False

    def __str__(self) -> str:
        return str(self.function.source)

    @property
    def runs_guest(self) -> bool:
        """Whether the guest itself is run."""
        return self.target is not None and self.function.source.manifest.health_check is not None

    @property
    def plan(self) -> Plan:
        """What an instance is made from."""
        return self.target.plan if self.target is not None else _ungranted_plan(self.function)

    @property
    def on_loop(self) -> bool:
        """Whether the event loop has time for its probe."""
        return not self.runs_guest and not self.plan.slow


class Health:
    """The probes of one runtime. They are spread over ``healthCheckIntervalMs``."""

    def __init__(self, runtime: WasmRuntime) -> None:
        self._runtime = runtime
        self._subjects: dict[Key, Subject] = {}
        self._bound_count = 0
        self._out: frozenset[Key] = frozenset()
        self._all_known = False
        self._reported: dict[tuple[str, str], bool | None] = {}
        self.healthy: Callable[[Target | Pipeline], bool] | None = None
        """Whether a target may be picked; None if all may."""

    def adopt(self, deployment: Deployment) -> None:
        """Look after what is served from now on. What is the same as before keeps its state."""
        if self._runtime.state != "open":
            self._subjects, self._all_known = {}, False
            self._report({})
        self._bind(deployment)

    def _bind(self, deployment: Deployment) -> None:
        self._bound_count = len(deployment.bound)
        before, self._subjects = self._subjects, {}
        for key, function, target in _probed(deployment):
            subject = before.get(key)
            if subject is None or not _same(subject, function, target):
                subject = Subject(key, function, target)
            subject.function, subject.target = function, target
            self._subjects[key] = subject
        unknown = [each for each in self._subjects.values() if each.healthy is None and each.on_loop]
        for subject in unknown[:_ON_LOOP] if self._all_known else unknown:  # the rest in turn, while others are served
            self._instantiate(subject)
        self._publish()

    def reasons(self) -> list[str]:
        """Return why traffic must stay away: only what ``readyRequires`` names counts."""
        needed = self._needed()
        out = {key for key in self._out if key in needed}
        sick = {
            f"{subject} is unhealthy: {subject.reason}" for subject in self._subjects.values() if subject.key in out
        }
        pending = {str(each) for each in self._subjects.values() if each.healthy is None and each.key in needed}
        sick |= self._left_out(needed=True)
        if pending and not self._all_known:
            sick.add(f"not probed yet: {', '.join(sorted(pending))}")
        return sorted(sick)

    def notes(self) -> list[str]:
        """Return what is unhealthy without being a reason to stay away."""
        spared = self._out - self._needed()
        idle = (subject for subject in self._subjects.values() if subject.key in spared)
        found = {f"{each} is unhealthy, and the node can do without: {each.reason}" for each in idle}
        return sorted(found | self._left_out(needed=False))

    def _needed(self) -> Set[Key]:
        """Give the keys of what takes this node out if it fails."""
        required = self._runtime.deployment.config.ready_requires
        if required == "all":
            return self._subjects.keys()
        serving = _serving(self._runtime.deployment, self._is_healthy)
        return serving if required == "serving" else {key for key in serving if key[0] in required}

    def verdicts(self) -> dict[tuple[str, str], bool | None]:
        """Return whether each version of a function works, under every policy; None as long as nobody knows."""
        verdicts: dict[tuple[str, str], bool | None] = {}
        for (name, version, _), subject in self._subjects.items():
            before = verdicts.get((name, version), True)
            verdicts[name, version] = before if subject.healthy or before is False else subject.healthy
        return verdicts

    def _left_out(self, *, needed: bool) -> set[str]:
        """Return what is left out, and takes this node out, or does not."""
        deployment = self._runtime.deployment
        required = deployment.config.ready_requires

        def takes_out(key: tuple[str, str]) -> bool:
            return required == "all" or (key in deployment.unserved if required == "serving" else key[0] in required)

        return {error.public for key, error in deployment.left_out.items() if takes_out(key) is needed}

    def _is_healthy(self, target: Target | Pipeline) -> bool:
        # A pipeline has fallbacks of its own.
        return not isinstance(target, Target) or _key(target) not in self._out

    async def run(self) -> None:
        """Probe for ever."""
        room = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for tick in itertools.count():
                await asyncio.sleep(
                    self._probe_due(tick, lambda subject: group.create_task(self._probe(subject, room)))
                )

    def _probe_due(self, tick: int, ask: Callable[[Subject], object]) -> float:
        """Probe those whose turn it is, once an interval, or until they are known. Return the seconds to the next."""
        deployment = self._runtime.deployment
        if len(deployment.bound) != self._bound_count:  # routes and calls bind when they come
            self._bind(deployment)
        interval = deployment.config.health_check_interval_ms / 1000
        ticks = min(
            max(len(self._subjects), math.ceil(interval / _LONGEST_PAUSE)), math.ceil(interval / _SHORTEST_PAUSE)
        )
        left = _ON_LOOP
        for number, subject in enumerate(self._subjects.values()):
            if subject.running or (subject.healthy is not None and number % ticks != tick % ticks):
                continue
            if not subject.on_loop:
                subject.running = True
                ask(subject)
            elif left or subject.healthy is not None:
                left -= subject.healthy is None
                if self._instantiate(subject):
                    self._publish()
        return interval / ticks

    def _instantiate(self, subject: Subject) -> bool:
        """Instantiate it, and return whether that has changed the verdict."""
        try:
            return _judge(subject, instantiate(subject.plan))
        except OutOfInstances as error:
            logger.debug("no probe of %s: %s", subject, error)
            return False

    async def _probe(self, subject: Subject, room: asyncio.Semaphore) -> None:
        changed = False
        try:
            async with room:
                changed = _judge(subject, await self._problem(subject))
        except OutOfInstances as error:
            logger.debug("no probe of %s: %s", subject, error)
        except Exception as error:
            logger.exception("the probe of %s failed", subject)
            wrong = f"the probe failed: {type(error).__name__}"
            changed = _judge(subject, Problem(wrong, wrong))
        finally:
            subject.running = False
        if changed and self._subjects.get(subject.key) is subject:  # else a reload came first, with another module
            self._publish()

    async def _problem(self, subject: Subject) -> Problem | None:
        """Return what is wrong, or None."""
        target, check = subject.target, subject.function.source.manifest.health_check
        if target is None or check is None:
            return await in_own_thread(partial(instantiate, subject.plan))
        return await check_health(self._runtime.invoker, target, check)

    def _publish(self) -> None:
        self._all_known = self._all_known or all(subject.healthy is not None for subject in self._subjects.values())
        out = frozenset(key for key, subject in self._subjects.items() if subject.healthy is False)
        if out != self._out:
            self._out = out
            self.healthy = self._is_healthy if out else None
        self._report(self.verdicts())

    def _report(self, verdicts: dict[tuple[str, str], bool | None]) -> None:
        telemetry = self._runtime.telemetry
        for (name, version), healthy in verdicts.items():
            if healthy is not None and self._reported.get((name, version)) is not healthy:
                telemetry.function_healthy(name, version, healthy)
                if not healthy or self._reported.get((name, version)) is False:
                    event = health_changed(name, version, healthy=healthy, reason=self._reason(name, version))
                    self._runtime.events.emit(event)
        for name, version in self._reported.keys() - verdicts.keys():
            telemetry.function_gone(name, version)
        self._reported = verdicts

    def _reason(self, name: str, version: str) -> str:
        subjects = (each for each in self._subjects.values() if each.key[:2] == (name, version))
        return next((each.reason for each in subjects if each.healthy is False), "")


def _judge(subject: Subject, problem: Problem | None) -> bool:
    """Take the result of a probe into account. Return whether that has changed the verdict."""
    before = subject.healthy
    if problem is None:
        subject.failures, subject.healthy = 0, True
        if before is False:
            logger.info("%s is healthy again", subject)
    else:
        subject.failures += 1
        subject.reason = problem.public
        if subject.failures >= FAILURES and before is not False:
            subject.healthy = False
            logger.warning("%s is unhealthy and gets no requests by the rules until it is not: %s", subject, problem)
    return subject.healthy is not before


def _probed(deployment: Deployment) -> Iterator[tuple[Key, LoadedFunction, Target | None]]:
    bound = set()
    for target in deployment.bound:
        bound.add((target.name, target.version))
        yield _key(target), target.function, target
    for (name, version), function in deployment.functions.items():
        if (name, version) not in bound:
            yield (name, version, ""), function, None


def _key(target: Target) -> Key:
    return target.name, target.version, target.policy.name


def _serving(deployment: Deployment, healthy: Callable[[Target | Pipeline], bool]) -> set[Key]:
    """Give the keys of what requests reach, and nothing else answers for."""
    ruled: dict[int, bool] = {}
    for target, weighted in deployment.router.targets():
        ruled[id(target)] = ruled.get(id(target), False) or weighted
    default = deployment.default
    if default is not None and healthy(default):
        ruled = dict.fromkeys(ruled, False)
    # What no rule has is bound by routes, pipelines, calls, or as the default.
    return {_key(target) for target in deployment.bound if ruled.get(id(target), True)}


def _same(subject: Subject, function: LoadedFunction, target: Target | None) -> bool:
    return (
        subject.function.module is function.module
        and subject.function.source.manifest == function.source.manifest
        and (subject.target and subject.target.policy) == (target and target.policy)
    )


def _ungranted_plan(function: LoadedFunction) -> Plan:
    """Make a plan for what nothing has bound yet: memory as it asks for, and no grants."""
    return plan_for(function.module, Limits(memory_pages=max(function.module.min_pages, Limits().memory_pages)))
