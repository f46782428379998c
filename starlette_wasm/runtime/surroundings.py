"""What canaries ask of the runtime that they are in, and report to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..telemetry.events.event import Event

if TYPE_CHECKING:
    from .runtime import WasmRuntime


class CanarySurroundings:
    """Passes on to the telemetry, health and events that the runtime has at that moment."""

    def __init__(self, runtime: WasmRuntime) -> None:
        self._runtime = runtime

    def healthy(self, function: str, version: str) -> bool | None:
        return self._runtime.health.verdicts().get((function, version))

    def weighed(self, function: str, version: str, percent: float) -> None:
        self._runtime.telemetry.canary_weight(function, version, percent)

    def overdue(self, function: str, version: str, overdue: bool) -> None:
        self._runtime.telemetry.canary_overdue(function, version, overdue)

    def emit(self, event: Event) -> None:
        self._runtime.events.emit(event)
