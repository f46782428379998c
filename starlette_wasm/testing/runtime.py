"""``RecordingRuntime``: a runtime of which each call is recorded, and whose surroundings a test sets."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from ..canary.shadow import Shadows
from ..capabilities import Capabilities, CapabilitySettings
from ..capabilities.kv.actions import KvActions
from ..capabilities.queue.actions import QueueActions
from ..config.policy import SandboxPolicy
from ..config.router import Config
from ..config.settings import WasmSettings, load_settings
from ..engine.fast_path import NOT_TAKEN, NotTaken
from ..engine.plan import Plan
from ..functions.open_directory import OpenDirectory
from ..functions.target import Target, bind
from ..invocation.fast_path import FastPathRunner
from ..invocation.invoker import Invoker
from ..invocation.options import DEFAULT_OPTIONS, CallOptions
from ..messages import EdgeRequest, EdgeResponse
from ..runtime.deployment import Deployment
from ..runtime.runtime import WasmRuntime
from .calls import Call
from .hosts import Hosts, StubbedFetch
from .recorder import RecordingTelemetry
from .stores import KvSpace, MemoryKv, MemoryQueues, Message


@dataclass(slots=True)
class Surroundings:
    """What several runtimes of one test have in common. What is None is the real one."""

    calls: list[Call] = field(default_factory=list)
    hosts: Hosts | None = None
    kv: defaultdict[str, KvSpace] | None = None
    queues: defaultdict[str, list[Message]] | None = None
    clock: datetime | None = None
    seed: int | None = None
    tightened: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Changes to policies, by their name; ``*`` is for all."""

    given_settings: WasmSettings | None = None
    """None: those of the environment."""

    def settings(self, given: WasmSettings | None = None) -> WasmSettings:
        """Return the settings of a runtime; what canaries know is in memory."""
        settings = given or self.given_settings or load_settings()
        return settings.model_copy(update={"canary_url": "sqlite://"})

    def policy(self, policy: SandboxPolicy) -> SandboxPolicy:
        """Return the policy with the changes to it. Raises pydantic's ValidationError."""
        changes = self.tightened.get("*", {}) | self.tightened.get(policy.name, {})
        if not changes:
            return policy
        changed = SandboxPolicy.model_validate(policy.model_dump() | changes)
        return changed.model_copy(update={"name": policy.name})


class RecordingRuntime(WasmRuntime):
    """Runs every call the long way, and records it."""

    def __init__(self, config: Config, settings: WasmSettings | None, surroundings: Surroundings) -> None:
        super().__init__(config, settings)
        self.surround(surroundings)

    def surround(self, surroundings: Surroundings) -> None:
        """Record into ``surroundings`` from now on; before the start."""
        self.surroundings = surroundings
        self._given_settings = surroundings.settings(self._given_settings)
        self.telemetry = RecordingTelemetry(surroundings.calls)
        self.invoker = _RecordingInvoker(self)
        self.shadows = Shadows(self.invoker)
        self.fast_path = _NoFastPath(self, Counter())
        self._bound: dict[tuple[int, str], tuple[Target, Target]] = {}
        self._opened: list[OpenDirectory] = []

    def make_capabilities(self, settings: CapabilitySettings) -> Capabilities:
        capabilities = super().make_capabilities(settings)
        around = self.surroundings
        if around.hosts is not None:
            most = settings.max_fetch_response_bytes
            capabilities.http = StubbedFetch(around.hosts, max_response_bytes=most)
        if around.kv is not None:
            capabilities.kv = KvActions(MemoryKv(around.kv))
        if around.queues is not None:
            capabilities.queue = QueueActions(MemoryQueues(around.queues))
        return capabilities

    def surrounded(self, target: Target) -> Target:
        """Return the target under the policy, the clock and the seed of the test; the same one for the same."""
        around = self.surroundings
        policy = around.policy(target.policy)
        key = (id(target), repr((policy, around.clock, around.seed)))
        if key not in self._bound:
            self._bound[key] = target, self._bind(target, policy)  # kept both, so that the id stays its own
        return self._bound[key][1]

    def adopt(self, deployment: Deployment) -> None:
        self._bound.clear()
        super().adopt(deployment)

    def _bind(self, target: Target, policy: SandboxPolicy) -> Target:
        if policy != target.policy:
            target = bind(
                target.function,
                policy,
                self.capabilities,
                self._opened,
                target.bulkhead,
                route=target.route,
                where=f"policy {policy.name}, as the test has it",
            )
        around = self.surroundings
        if around.clock is None and around.seed is None:
            return replace(target, fast_path=None)
        plan = target.plan
        fixed = FixedPlan(plan, _nanoseconds(around.clock), _key(around.seed))
        return replace(target, plan=fixed, fast_path=None)


class _RecordingInvoker(Invoker):
    """Calls functions in the surroundings of a test, and keeps what they answer."""

    def __init__(self, runtime: RecordingRuntime) -> None:
        super().__init__(runtime)
        self._recording = runtime

    async def call(self, target: Target, request: EdgeRequest, options: CallOptions = DEFAULT_OPTIONS) -> EdgeResponse:
        response = await super().call(self._recording.surrounded(target), request, options)
        calls = self._recording.surroundings.calls
        next(call for call in reversed(calls) if call.asked is request).response = response
        return response


class _NoFastPath(FastPathRunner):
    """Takes no call, and encodes no request: C makes nothing that could be recorded."""

    def answer(self, *given: Any, **more: Any) -> NotTaken:
        return NOT_TAKEN

    def run(self, *given: Any, **more: Any) -> NotTaken:
        return NOT_TAKEN

    def call(self, *given: Any, **more: Any) -> NotTaken:
        return NOT_TAKEN

    def encode(self, *given: Any, **more: Any) -> None:
        return None


def _nanoseconds(clock: datetime | None) -> int | None:
    return None if clock is None else int(clock.timestamp()) * 1_000_000_000 + clock.microsecond * 1000


def _key(seed: int | None) -> bytes | None:
    return None if seed is None else sha256(str(seed).encode()).digest()


class FixedPlan(Plan):
    """A plan whose guests begin at a time of day and with a seed that are given."""

    __slots__ = ("_key", "_realtime")

    def __init__(self, plan: Plan, realtime: int | None, key: bytes | None) -> None:
        self._realtime = realtime
        self._key = key
        super().__init__(plan.module, plan.limits, plan.args, plan.preopens)

    def make_template(self, realtime: int, monotonic: int, key: bytes) -> bytes:
        return super().make_template(self._realtime or realtime, monotonic, self._key or key)
