"""Spans, metrics, logs: what an operator sees of an invocation."""

from .conventions import Attribute, ErrorType, PickedBy, Role, Variant, error_type
from .default_logging import install as show_logs
from .exclusions import Exclusions, untraced
from .failures import log_after_answer, log_failure
from .guest_log import log_guest, log_violations
from .idle import IDLE_WATCH, NO_TELEMETRY, CallTelemetry, RequestTelemetry
from .spans import header_of
from .telemetry import Telemetry

__all__ = [
    "IDLE_WATCH",
    "NO_TELEMETRY",
    "Attribute",
    "CallTelemetry",
    "ErrorType",
    "Exclusions",
    "PickedBy",
    "RequestTelemetry",
    "Role",
    "Telemetry",
    "Variant",
    "error_type",
    "header_of",
    "log_after_answer",
    "log_failure",
    "log_guest",
    "log_violations",
    "show_logs",
    "untraced",
]
