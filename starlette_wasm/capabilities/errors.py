"""What a guest gets instead of a result: a stable code and a message."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Stable: guests compare them."""

    BAD_REQUEST = "bad-request"
    UNKNOWN_OPERATION = "unknown-operation"
    UNAVAILABLE = "capability-unavailable"
    TIMEOUT = "timeout"
    TOO_LARGE = "too-large"
    CALLS_EXCEEDED = "calls-exceeded"
    BYTES_EXCEEDED = "bytes-exceeded"
    INTERNAL = "internal"

    HOST_NOT_ALLOWED = "host-not-allowed"
    REQUESTS_EXCEEDED = "network-requests-exceeded"
    INVALID_URL = "invalid-url"
    DNS_FAILED = "dns-failed"
    CONNECT_FAILED = "connect-failed"
    CONNECT_TIMEOUT = "connect-timeout"
    TLS_FAILED = "tls-failed"
    UPSTREAM_FAILED = "upstream-failed"
    TOO_MANY_REDIRECTS = "too-many-redirects"

    KV_NAMESPACE_NOT_ALLOWED = "kv-namespace-not-allowed"
    NOT_A_NUMBER = "not-a-number"
    QUEUE_NOT_ALLOWED = "queue-not-allowed"
    STORE_FULL = "store-full"
    TRACE_EXCEEDED = "trace-exceeded"


VIOLATIONS = frozenset(
    {
        Code.HOST_NOT_ALLOWED,
        Code.REQUESTS_EXCEEDED,
        Code.KV_NAMESPACE_NOT_ALLOWED,
        Code.QUEUE_NOT_ALLOWED,
        Code.CALLS_EXCEEDED,
        Code.BYTES_EXCEEDED,
        Code.TRACE_EXCEEDED,
    }
)
"""The codes for a guest that tried what its policy or the limits forbid."""


class CapabilityError(Exception):
    """``message`` goes to the guest; ``detail`` is for the host's log alone."""

    def __init__(self, code: Code, message: str, *, detail: str | None = None) -> None:
        self.code = code
        self.message = message
        self.detail = detail
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Violation:
    """One refusal, for logs and metrics. ``operation`` is its name, ``detail`` what the guest does not get."""

    operation: str
    code: Code
    message: str
    detail: str | None = None


def printable(text: str, limit: int = 128) -> str:
    """Make what a guest wrote safe in a log: escaped, and cut after ``limit`` characters."""
    shown = text[:limit].encode("ascii", "backslashreplace").decode("ascii")
    shown = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in shown)
    return shown if len(text) <= limit else f"{shown}..."
