"""A policy as options of ``wasmedge`` and ``wasmtime run``, and what these tools cannot enforce.

Flags and limits as seen on wasmedge 0.14.1 and wasmtime 49.0.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .policy import SandboxPolicy

TOOLS = ("wasmedge", "wasmtime")


def wasmedge_args(policy: SandboxPolicy, environ: Mapping[str, str]) -> list[str]:
    args = [
        "--memory-page-limit",
        str(policy.max_memory_pages),
        "--time-limit",
        str(policy.execution_timeout_ms),
    ]
    for mapping in policy.allowed_dirs:
        if ":" not in mapping.guest_path + mapping.host_path:
            suffix = ":readonly" if mapping.readonly else ""
            args += ["--dir", f"{mapping.guest_path}:{mapping.host_path}{suffix}"]
    for name in policy.allowed_env_vars:
        if name in environ:
            args += ["--env", f"{name}={environ[name]}"]
    return args


def wasmtime_args(policy: SandboxPolicy) -> list[str]:
    args = [
        "-W",
        f"max-memory-size={policy.max_memory_bytes}",
        "-W",
        f"timeout={policy.execution_timeout_ms}ms",
    ]
    for mapping in policy.allowed_dirs:
        if "::" not in mapping.host_path:
            args += ["--dir", f"{mapping.host_path}::{mapping.guest_path}"]
    for name in policy.allowed_env_vars:
        args += ["--env", name]
    return args


def not_expressible(policy: SandboxPolicy, tool: str) -> list[str]:
    if tool == "wasmedge":
        return [*_wasmedge_gaps(policy), *_common_gaps(policy, tool)]
    if tool == "wasmtime":
        return [*_wasmtime_gaps(policy), *_common_gaps(policy, tool)]
    raise ValueError(f"unknown tool: {tool!r}; known are {', '.join(TOOLS)}")


def _wasmedge_gaps(policy: SandboxPolicy) -> list[str]:
    gaps = [
        "executionTimeoutMs: wasmedge does not interrupt a guest that sleeps.",
        "allowedHosts: wasmedge lets every guest open sockets to any host.",
    ]
    if policy.max_network_requests:
        gaps.append("maxNetworkRequests: wasmedge does not count connections.")
    if not policy.allow_private_networks:
        gaps.append("allowPrivateNetworks: wasmedge does not refuse private addresses.")
    for mapping in policy.allowed_dirs:
        if ":" in mapping.guest_path + mapping.host_path:
            gaps.append(f"allowedDirs: wasmedge takes no colon in a path, so {mapping.guest_path} is not granted.")
    return gaps


def _wasmtime_gaps(policy: SandboxPolicy) -> list[str]:
    gaps = []
    if policy.allowed_hosts:
        gaps.append("allowedHosts: wasmtime allows no network unless told, and then every host.")
    if policy.max_network_requests:
        gaps.append("maxNetworkRequests: wasmtime does not count requests.")
    for mapping in policy.allowed_dirs:
        if "::" in mapping.host_path:
            gaps.append(f"allowedDirs: wasmtime takes no :: in a host path, so {mapping.guest_path} is not granted.")
        elif mapping.readonly:
            gaps.append(f"allowedDirs: wasmtime has no read-only directories, so {mapping.guest_path} is writable.")
    return gaps


def _common_gaps(policy: SandboxPolicy, tool: str) -> list[str]:
    gaps = [
        f"maxRequestBytes: {tool} does not limit stdin.",
        f"maxResponseBytes: {tool} does not limit stdout.",
        f"maxLogBytes: {tool} does not limit stderr.",
    ]
    fields = type(policy).model_fields
    for name in ("max_concurrency", "max_queue", "queue_timeout_ms"):
        if getattr(policy, name) != fields[name].default:
            gaps.append(f"{fields[name].alias}: {tool} runs one invocation, and has no queue.")
    if policy.cpu_weight is not None:
        gaps.append(f"cpuWeight: {tool} runs a guest with the priority of its process.")
    if policy.kv_namespaces:
        gaps.append(f"kvNamespaces: {tool} has no key/value store for the edge imports.")
    if policy.queues:
        gaps.append(f"queues: {tool} has no queues for the edge imports.")
    for name in ("max_spans", "max_trace_events"):
        if getattr(policy, name) != fields[name].default:
            gaps.append(f"{fields[name].alias}: {tool} has no trace for the edge imports.")
    return gaps
