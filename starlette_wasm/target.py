"""What a rule, a route or a call is bound to: one version of a function under one policy, all worked out."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .bulkhead import Bulkhead
from .engine import layout
from .engine.instance import Limits, Preopen
from .exceptions import MemoryLimitExceeded, PolicyViolation
from .functions.loader import LoadedFunction
from .policy import SandboxPolicy, resolve_dirs
from .protocols import Protocol, get_protocol


@dataclass(frozen=True, slots=True)
class Target:
    """Everything about an invocation that does not depend on the request."""

    name: str
    version: str
    route: str
    function: LoadedFunction
    policy: SandboxPolicy
    protocol: Protocol
    limits: Limits
    args: bytes
    environ: tuple[bytes, ...]
    preopens: tuple[Preopen, ...]
    bulkhead: Bulkhead

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


def bind(function: LoadedFunction, policy: SandboxPolicy, *, route: str, where: str = "") -> Target:
    """Bind a function to a policy. ``where`` names the rule or route for errors.

    Raises PolicyViolation, MemoryLimitExceeded and ConfigError.
    """
    source, module = function.source, function.module
    for name in source.manifest.env_vars:
        if name not in policy.allowed_env_vars:
            raise PolicyViolation(source.name, name, policy.name, where=where)
    if module.min_pages > policy.max_memory_pages:
        raise MemoryLimitExceeded(
            source.name,
            source.version,
            limit_pages=policy.max_memory_pages,
            asked_pages=module.min_pages,
            where=where,
        )
    environ = {name: os.environ[name] for name in policy.allowed_env_vars if name in os.environ}
    environ |= {"EDGE_FUNCTION": source.name, "EDGE_VERSION": source.version}
    granted = resolve_dirs(policy) if module.uses_files else ()
    return Target(
        name=source.name,
        version=source.version,
        route=route,
        function=function,
        policy=policy,
        protocol=get_protocol(source.manifest.protocol),
        limits=Limits(
            memory_pages=policy.max_memory_pages,
            time=policy.execution_timeout_ms / 1000,
            stdout=policy.max_response_bytes,
            stderr=policy.max_log_bytes,
        ),
        args=layout.strings([source.name.encode()]) if module.reads_args else layout.strings([]),
        environ=tuple(f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in environ.items()),
        preopens=tuple(Preopen(str(each.host_path), each.guest_path, not each.readonly) for each in granted),
        bulkhead=Bulkhead(policy.max_concurrency, policy.max_queue, policy.queue_timeout_ms / 1000),
    )
