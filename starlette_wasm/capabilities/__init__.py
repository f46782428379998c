"""What a guest may do beyond WASI: HTTP requests, key/value stores, queues, spans.

Each has a package of its own with the same three parts: what the operator sets, the check against the policy's
grants, and the action on the host. Nothing in here knows the engine, how requests are served, or OpenTelemetry.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import CapabilityError, Code, Violation
    from .grants import Grants
    from .host import Capabilities
    from .http import Attempt, Observer
    from .operations import Operation
    from .session import Session
    from .settings import CapabilitySettings
    from .trace import Recorder

__all__ = [
    "Attempt",
    "Capabilities",
    "CapabilityError",
    "CapabilitySettings",
    "Code",
    "Grants",
    "Observer",
    "Operation",
    "Recorder",
    "Session",
    "Violation",
]

_MODULE_OF = {
    "Attempt": "http.messages",
    "Capabilities": "host",
    "CapabilityError": "errors",
    "CapabilitySettings": "settings",
    "Code": "errors",
    "Grants": "grants",
    "Observer": "http.messages",
    "Operation": "operations",
    "Recorder": "trace.actions",
    "Session": "session",
    "Violation": "errors",
}


def __getattr__(name: str) -> object:
    """Import a name when it is first asked for: most apps have no function that asks the host for anything."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value
