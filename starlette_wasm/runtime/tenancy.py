"""``Tenancy``: what each tenant uses in this process, and whether it may use more.

``shared_quotas.py`` lets processes share what a quota allows in a minute.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any, NamedTuple

from ..config.tenants import OTHERS, TenantConfig
from ..exceptions import TenantLimited
from ..telemetry import Telemetry
from ..telemetry.guest_log import share_of
from ..telemetry.observation import Observation
from ..traffic.audience import patterns_of

logger = logging.getLogger("starlette_wasm")

_MOST_OTHERS = 4096
"""Tenants of the entry ``*`` that have a quota each; further ones share one if none of these can be forgotten."""
_LOOKED_AT = 16
"""How many of them are looked at for one that can be."""
_PAYS: ContextVar[TenantUsage | None] = ContextVar("starlette_wasm_pays", default=None)
"""Who pays for the CPU time of what runs in this context."""


class Allowance:
    """A token bucket that is full at first, and filled up over a minute."""

    def __init__(self, per_minute: float) -> None:
        self.most = per_minute
        self._left = per_minute
        self._at = time.monotonic()
        self._spent = 0.0

    @property
    def full(self) -> bool:
        """Whether nothing is used of it."""
        return self.left >= self.most

    @property
    def left(self) -> float:
        now = time.monotonic()
        self._left = min(self.most, self._left + (now - self._at) * self.most / 60)
        self._at = now
        return self._left

    def take(self, amount: float) -> None:
        """Take what was used, more than is left, too."""
        self._left = self.left - amount
        self._spent += amount

    def wait_for(self, amount: float) -> int:
        """Return the whole seconds until there is that much."""
        return max(1, math.ceil((amount - self.left) * 60 / self.most))

    @property
    def in_use(self) -> bool:
        """Whether something was taken since spent() was asked, or is not filled up yet."""
        return self._spent > 0 or not self.full

    def spent(self) -> float:
        """Return what was taken since the last call."""
        spent, self._spent = self._spent, 0.0
        return spent

    def adopt(self, left: float) -> None:
        """Go on with what is left for all processes; what was taken meanwhile is not in it yet."""
        self._left = min(self.most, left) - self._spent
        self._at = time.monotonic()


class Account(NamedTuple):
    """An allowance that processes share, and the key that names it for all of them."""

    key: bytes
    allowance: Allowance


class TenantUsage:
    """What one tenant uses, under one quota."""

    def __init__(self, name: str, quota: TenantConfig, label: str, telemetry: Telemetry) -> None:
        self.name = name
        self._telemetry = telemetry
        self._next_record = 0.0
        self.label = label
        """The name in metrics: that of its entry, of which there are few."""
        self.running = 0
        self.memory = 0
        """Bytes that the policies of what runs allow together."""
        self.cpu = 0.0
        """CPU seconds since the start."""
        self.counts: Counter[str] = Counter()
        """Requests that were served, those that failed or were given up, and those that were refused, by reason."""
        self.adopt(quota)

    def adopt(self, quota: TenantConfig) -> None:
        """Go on under another quota."""
        self.quota = quota
        self._requests = None if quota.requests_per_minute is None else Allowance(quota.requests_per_minute)
        per_minute = quota.cpu_seconds_per_minute
        self._cpu = None if per_minute is None else Allowance(float(per_minute))

    @property
    def forgettable(self) -> bool:
        """Whether a new tenant would have the same quotas left."""
        return not self.running and all(each is None or each.full for each in (self._requests, self._cpu))

    def take_request(self, function: str) -> None:
        """Take one request of the minute. Raises TenantLimited."""
        if self._cpu is not None and self._cpu.left <= 0:
            raise self._refused(function, "cpuSecondsPerMinute", self._cpu.wait_for(0.0))
        if self._requests is not None:
            if self._requests.left < 1:
                raise self._refused(function, "requestsPerMinute", self._requests.wait_for(1))
            self._requests.take(1)

    @contextmanager
    def hold_slot(self, function: str, memory: int) -> Iterator[None]:
        """Run in here: takes a place, and pays for what runs. Raises TenantLimited."""
        quota = self.quota
        if quota.max_concurrency is not None and self.running >= quota.max_concurrency:
            raise self._refused(function, "maxConcurrency", 1)
        if quota.max_memory_mb is not None and self.memory + memory > quota.max_memory_mb << 20:
            raise self._refused(function, "maxMemoryMb", 1)
        self.running += 1
        self.memory += memory
        token = _PAYS.set(self)
        outcome = "failed"
        try:
            yield
            outcome = "served"
        finally:
            _PAYS.reset(token)
            self.running -= 1
            self.memory -= memory
            self._count(outcome)

    def accounts(self) -> Iterator[Account]:
        """Yield the allowances that are in use."""
        for kind, allowance in (("requests", self._requests), ("cpu", self._cpu)):
            if allowance is not None and allowance.in_use:
                yield Account(f"{kind}:{allowance.most:g}:{self.name}".encode("utf-8", "backslashreplace"), allowance)

    def pay(self, cpu: float) -> None:
        """Take the CPU time of a call that is over."""
        self.cpu += cpu
        self._telemetry.tenant_cpu(self.label, cpu)
        if self._cpu is not None:
            self._cpu.take(cpu)

    def _refused(self, function: str, quota: str, seconds: int) -> TenantLimited:
        self._count(quota)
        error = TenantLimited(function, self.name, quota, retry_after=seconds)
        now = time.monotonic()
        # As many as clients like, of tenants that they may make up: one record a second, of the function's share.
        if now >= self._next_record and share_of(function).lines.take(1):
            self._next_record = now + 1
            extra = {"function": function, "tenant": self.name, "error.type": error.slug, "exception.type": _KIND}
            logger.warning(f"{function} ({error.slug}): %s", error, extra=extra)
        return error

    def _count(self, outcome: str) -> None:
        self.counts[outcome] += 1
        self._telemetry.tenant_request(self.label, outcome)

    def describe(self) -> dict[str, Any]:
        """Return the quota, and what is used of it."""
        quota = self.quota
        return {
            "name": self.name,
            "quota": {key: value for key, value in quota.model_dump(by_alias=True).items() if key not in _NO_QUOTA},
            "running": self.running,
            "memory_bytes": self.memory,
            "cpu_seconds": round(self.cpu, 6),
            "cpu_seconds_left": None if self._cpu is None else round(self._cpu.left, 6),
            "requests_left": None if self._requests is None else math.floor(self._requests.left),
            "served": self.counts["served"],
            "failed": self.counts["failed"],
            "limited": {reason: count for reason, count in sorted(self.counts.items()) if reason not in _AFTER_A_PLACE},
        }


_NO_QUOTA = ("name", "hosts")
_AFTER_A_PLACE = ("served", "failed")
_KIND = f"{TenantLimited.__module__}.{TenantLimited.__qualname__}"


def pay(seen: Observation) -> None:
    """Let the tenant of this context pay for a call; a listener of telemetry."""
    usage = _PAYS.get()
    if usage is not None:
        usage.pay(seen.cpu)


class Tenancy:
    """The tenants of one runtime."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._configs: dict[str, TenantConfig] = {}
        self._usages: dict[str, TenantUsage] = {}
        self._others: dict[str, TenantUsage] = {}
        self._hosts: dict[str, str] = {}
        self.active = False
        """Whether the config has tenants."""

    def configure(self, configs: Sequence[TenantConfig]) -> None:
        """Go by these from now on; what runs goes on to count."""
        self._configs = {config.name: config for config in configs}
        self.active = bool(configs)
        self._hosts = {host: config.name for config in reversed(configs) for host in config.hosts}
        known = self._usages | self._others
        self._usages, self._others = {}, {}
        for name, usage in known.items():
            quota = self._configs.get(name, self._configs.get(OTHERS))
            if quota is not None:
                self._keep(name, quota, usage)

    def _keep(self, name: str, quota: TenantConfig, usage: TenantUsage) -> None:
        usage.label = quota.name
        if usage.quota != quota:
            usage.adopt(quota)
        (self._usages if quota.name == name != OTHERS else self._others)[name] = usage

    def of_host(self, host: str) -> str:
        """Return the tenant of a host; empty if it is nobody's."""
        return next((self._hosts[pattern] for pattern in patterns_of(host) if pattern in self._hosts), "")

    def usage(self, name: str) -> TenantUsage | None:
        """Return what a tenant uses; None if it has no quota."""
        if not name:
            return None
        config = self._configs.get(name)
        if config is not None and name != OTHERS:
            usage = self._usages.get(name)
            if usage is None:
                usage = self._usages[name] = TenantUsage(name, config, name, self._telemetry)
            return usage
        others = self._configs.get(OTHERS)
        return None if others is None else self._other(name, others)

    def _other(self, name: str, quota: TenantConfig) -> TenantUsage:
        usage = self._others.pop(name, None)
        if usage is None:
            if len(self._others) >= _MOST_OTHERS and not self._forget_one():
                name = OTHERS  # or whoever makes tenants would have as many quotas
                usage = self._others.pop(name, None)
            usage = usage or TenantUsage(name, quota, OTHERS, self._telemetry)
        self._others[name] = usage  # the one that was used last comes last
        return usage

    def _forget_one(self) -> bool:
        """Forget a tenant that has used nothing for a minute. False if there is none among those used longest ago."""
        for name in list(islice(self._others, _LOOKED_AT)):
            if self._others[name].forgettable:
                del self._others[name]
                return True
            if self._others[name].running:  # others are looked at the next time
                self._others[name] = self._others.pop(name)
        return False

    def usages(self) -> list[TenantUsage]:
        """Return what each tenant uses that was seen."""
        return [*self._usages.values(), *self._others.values()]

    def listed(self) -> list[TenantUsage]:
        """Return all tenants of the config, and those of ``*`` that were seen."""
        listed = [found for name in self._configs if name != OTHERS and (found := self.usage(name)) is not None]
        return [*listed, *self._others.values()]
