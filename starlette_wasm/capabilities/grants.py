"""What a policy grants beyond WASI."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ..config.policy import SandboxPolicy
from .http import HttpGrant
from .kv import KvGrant
from .queue import QueueGrant
from .trace import TraceGrant


@dataclass(frozen=True, slots=True)
class Grants:
    http: HttpGrant
    kv: KvGrant
    queue: QueueGrant
    trace: TraceGrant
    tenant: str = ""
    """The function and the policy: whose share of what all have in common is used."""

    @classmethod
    def of(cls, policy: SandboxPolicy, function: str = "") -> Grants:
        tenant = f"{function} ({policy.name})"
        return cls(
            HttpGrant(policy.host_patterns, policy.max_network_requests, policy.allow_private_networks, tenant),
            KvGrant(frozenset(policy.kv_namespaces)),
            QueueGrant(frozenset(policy.queues)),
            TraceGrant(policy.max_spans, policy.max_trace_events),
            tenant,
        )

    @classmethod
    @cache
    def nothing(cls) -> Grants:
        """Return the grants of a policy that grants nothing."""
        return cls.of(SandboxPolicy())
