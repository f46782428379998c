"""What a policy grants beyond WASI."""

from __future__ import annotations

from dataclasses import dataclass

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

    @classmethod
    def of(cls, policy: SandboxPolicy) -> Grants:
        return cls(
            HttpGrant(policy.host_patterns, policy.max_network_requests, policy.allow_private_networks),
            KvGrant(frozenset(policy.kv_namespaces)),
            QueueGrant(frozenset(policy.queues)),
            TraceGrant(policy.max_spans, policy.max_trace_events),
        )
