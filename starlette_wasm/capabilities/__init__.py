"""What a guest may do beyond WASI: HTTP requests, key/value stores, queues, spans.

Each has a package of its own with the same three parts: what the operator sets, the check against the policy's
grants, and the action on the host. Nothing in here knows the engine, how requests are served, or OpenTelemetry.
"""

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
