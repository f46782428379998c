"""Spans, metrics, logs: what an operator sees of an invocation."""

from .conventions import Attribute, ErrorType, PickedBy, Role, Variant, error_type
from .failures import log_failure
from .guest_log import log_guest, log_violations
from .telemetry import IDLE_EXCHANGE, Exchange, Telemetry, Watch, whole_route

__all__ = [
    "IDLE_EXCHANGE",
    "Attribute",
    "ErrorType",
    "Exchange",
    "PickedBy",
    "Role",
    "Telemetry",
    "Variant",
    "Watch",
    "error_type",
    "log_failure",
    "log_guest",
    "log_violations",
    "whole_route",
]
