"""``RuntimeState``: what the parts of this room read of the runtime that they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..config.settings import RequestSettings
from ..telemetry import Telemetry

if TYPE_CHECKING:
    from ..capabilities import Capabilities

ACCEPTING = ("open", "draining")
"""The states of a runtime in which invocations are taken."""


class RuntimeState(Protocol):
    """Changes while the runtime lives: read anew for each invocation."""

    capabilities: Capabilities
    request_settings: RequestSettings
    telemetry: Telemetry

    @property
    def state(self) -> str:
        """``not started``, ``open``, ``draining`` or ``closed``."""

    @property
    def is_open(self) -> bool:
        """Whether invocations are taken."""
