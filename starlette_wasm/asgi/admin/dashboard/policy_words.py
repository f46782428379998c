"""Describes what a policy grants in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....config.policy import SandboxPolicy

_KIB, _MIB = 1 << 10, 1 << 20


def in_plain_words(policy: SandboxPolicy) -> list[str]:
    """Return one sentence for each kind of thing that a guest may use."""
    return [
        f"Has {size(policy.max_memory_bytes)} of memory and {duration(policy.execution_timeout_ms)} for a request.",
        *_hosts(policy),
        *_directories(policy),
        *_environment(policy),
        *_stores(policy),
        f"Takes bodies up to {size(policy.max_request_bytes)}, answers with up to {size(policy.max_response_bytes)}, "
        f"and logs up to {size(policy.max_log_bytes)}.",
        f"Runs {policy.max_concurrency} requests at once; {policy.max_queue} more may wait "
        f"{duration(policy.queue_timeout_ms)}.",
    ]


def _hosts(policy: SandboxPolicy) -> Iterator[str]:
    if not policy.allowed_hosts or not policy.max_network_requests:
        yield "Sends no requests to other hosts."
        return
    most = policy.max_network_requests
    yield f"Sends up to {most} request{'s' * (most > 1)} to {_listed(policy.allowed_hosts)}."
    if policy.allow_private_networks:
        yield "These hosts may be in a private network."


def _directories(policy: SandboxPolicy) -> Iterator[str]:
    read = [each.guest_path for each in policy.allowed_dirs if each.readonly]
    written = [each.guest_path for each in policy.allowed_dirs if not each.readonly]
    if read:
        yield f"Reads files in {_listed(read)}."
    if written:
        yield f"Reads and writes files in {_listed(written)}."
    if not policy.allowed_dirs:
        yield "Sees no files."


def _environment(policy: SandboxPolicy) -> Iterator[str]:
    if policy.allowed_env_vars:
        yield f"Sees the environment variables {_listed(policy.allowed_env_vars)}."
    else:
        yield "Sees no environment variables of the host."
    if count := len(policy.allowed_secrets):
        yield f"May be given {count} secret{'s' * (count > 1)} by its function.yaml."


def _stores(policy: SandboxPolicy) -> Iterator[str]:
    if policy.kv_namespaces:
        yield f"Uses the key/value namespaces {_listed(policy.kv_namespaces)}."
    if policy.queues:
        yield f"Publishes to the queues {_listed(policy.queues)}."
    if not policy.kv_namespaces and not policy.queues:
        yield "Uses no key/value store and no queue."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(str, names))


def size(number: float) -> str:
    """Return a number of bytes as people write it: ``64 KiB``, ``1.5 MiB``."""
    if number < _KIB:
        return f"{number:.0f} B"
    value, unit = (number / _KIB, "KiB") if number < _MIB else (number / _MIB, "MiB")
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def duration(milliseconds: float) -> str:
    """Return a time as people write it: ``200 ms``, ``5 s``."""
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.3g} s"
