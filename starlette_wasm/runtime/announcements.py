"""The events of a runtime, besides those of its canaries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..config.events import Kind
from ..config.router import load_config
from ..exceptions import ConfigError, FunctionUnavailable, UnsignedModule, WasmError
from ..telemetry.events.event import Event
from ..telemetry.events.events import Events

if TYPE_CHECKING:
    from .deployment import Deployment
    from .runtime import WasmRuntime


def health_changed(function: str, version: str, *, healthy: bool, reason: str) -> Event:
    """Make the event that a version of a function passes its probes no more, or again."""
    kind = Kind.FUNCTION_HEALTHY if healthy else Kind.FUNCTION_UNHEALTHY
    text = f"{function} v{version} is {'healthy again' if healthy else f'unhealthy: {reason}'}"
    return Event(kind, text, function, {"version": version, "reason": None if healthy else reason})


def reload_refused(error: Exception) -> Iterator[Event]:
    """Make the event that a change of files is not served."""
    reason = error.public if isinstance(error, WasmError) else type(error).__name__
    if isinstance(error, UnsignedModule):
        yield _signature_refused(error)
    yield Event(Kind.RELOAD_REFUSED, f"reload refused, what was served is served on: {reason}", data={"reason": reason})


def announce_left_out(
    events: Events, left_out: Mapping[tuple[str, str], FunctionUnavailable], before: Deployment | None
) -> None:
    """Announce which functions are left out for want of a signature, and were not before."""
    known = {str(error) for error in before.left_out.values()} if before is not None else set()
    for error in left_out.values():
        if isinstance(error.reason, UnsignedModule) and str(error) not in known:
            events.emit(_signature_refused(error.reason))


async def announce_failed_start(runtime: WasmRuntime, error: Exception) -> None:
    """Announce a signature that keeps the runtime from starting; within a second, as the process may end."""
    if not isinstance(error, UnsignedModule):
        return
    try:
        runtime.events.configure(load_config(runtime.reloader.config).events, runtime.settings.region)
    except ConfigError:  # the file has changed since
        return
    runtime.events.emit(_signature_refused(error))
    await runtime.events.close()


def _signature_refused(error: UnsignedModule) -> Event:
    text = f"{error.function} v{error.version} is refused for want of a signature: {error.reason}"
    return Event(Kind.SIGNATURE_REFUSED, text, error.function, {"version": error.version, "reason": error.reason})
