"""Spans, metrics, logs: what an operator sees of an invocation."""

from .conventions import Attribute, ErrorType, PickedBy, Role, Variant, error_type
from .exchange import IDLE_EXCHANGE, Exchange
from .exclusions import Exclusions, untraced
from .failures import log_failure
from .guest_log import log_guest, log_violations
from .shown import install as show_logs
from .telemetry import Telemetry
from .watch import Watch

__all__ = [
    "IDLE_EXCHANGE",
    "Attribute",
    "ErrorType",
    "Exchange",
    "Exclusions",
    "PickedBy",
    "Role",
    "Telemetry",
    "Variant",
    "Watch",
    "error_type",
    "log_failure",
    "log_guest",
    "log_violations",
    "show_logs",
    "untraced",
]
