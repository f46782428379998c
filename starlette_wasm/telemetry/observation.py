"""What was seen of one invocation: for metrics, Prometheus and the access log alike."""

from __future__ import annotations

from dataclasses import dataclass, field

from .conventions import ErrorType

Key = tuple[str, str, str, str, str]
"""What a series of figures is of: trigger, function, version, route and variant."""


@dataclass(slots=True)
class Observation:
    """What is known of an invocation, filled in as it goes on. Durations are in seconds."""

    function: str
    version: str
    trigger: str = "other"
    """``http``, or ``other`` for an invocation from Python."""
    method: str = ""
    route: str = ""
    """The whole template, with the mount's prefix; empty without HTTP."""
    variant: str = ""
    reason: str = ""
    attempt: int = 1
    cold: bool = False
    init: float = 0.0
    waited: float | None = None
    """In the queue; None if there was a place at once."""
    duration: float = 0.0
    ran: bool = False
    """Whether the guest ran, so that ``cpu``, ``memory`` and ``host_calls`` are set."""
    cpu: float = 0.0
    memory: int = 0
    """Peak, in bytes."""
    host_calls: int = 0
    status: int | None = None
    error: ErrorType | None = None
    request_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    sampled: bool = False
    at: float = field(default=0.0, compare=False)
    """When it was over, in seconds since the epoch, if that was noted."""

    @property
    def key(self) -> Key:
        return self.trigger, self.function, self.version, self.route, self.variant

    @property
    def is_ordinary(self) -> bool:
        """Whether it succeeded, warm and without a wait."""
        return self.ran and self.error is None and not self.cold and self.waited is None
