"""What the admin API shows of what has happened: figures of each version, recent faults, and log lines as they come."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from weakref import WeakSet

from opentelemetry.trace import format_trace_id, get_current_span

from ...runtime.runtime import WasmRuntime
from ...sync.recent import Recent
from ...telemetry.observation import Observation
from ...telemetry.origin import RUNTIME
from .history import History

_SAMPLES = 512
_MOST_VERSIONS = 1024
_FAULTS = 200
_LINES = 256
_MOST_TEXT = 8192
_LISTENERS = 32
_LISTENERS_EACH = 8
Line = dict[str, Any]


@dataclass(slots=True)
class VersionFigures:
    """Figures of one version of a function, in this process."""

    requests: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    cold_starts: int = 0
    memory_peak: int = 0
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    history: History = field(default_factory=History)

    def describe(self) -> dict[str, Any]:
        ordered = sorted(self.durations)
        return {
            "requests": self.requests,
            "errors": dict(self.errors),
            "cold_starts": self.cold_starts,
            "memory_peak_bytes": self.memory_peak,
            "p50_ms": _quantile_ms(ordered, 0.5),
            "p99_ms": _quantile_ms(ordered, 0.99),
        }


def _quantile_ms(ordered: list[float], q: float) -> float | None:
    if not ordered:
        return None
    return float(f"{ordered[min(len(ordered) - 1, math.ceil(q * len(ordered)) - 1)] * 1000:.3g}")


class Figures:
    """Collects what telemetry sees for the admin API; its ``listener`` is passed to a runtime's Telemetry."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], VersionFigures] = {}

    def __call__(self, seen: Observation) -> None:
        key = seen.function, seen.version
        figures = self._versions.get(key)
        if figures is None:
            if len(self._versions) >= _MOST_VERSIONS:
                self._make_room()
            figures = self._versions[key] = VersionFigures()
        figures.requests += 1
        figures.cold_starts += seen.cold
        figures.memory_peak = max(figures.memory_peak, seen.memory)
        figures.durations.append(seen.duration)
        figures.history.add(seen.error is not None)
        if seen.error is not None:
            figures.errors[seen.error.value] = figures.errors.get(seen.error.value, 0) + 1

    def _make_room(self) -> None:
        """Forget a version of the function that has the most, the one that was seen first."""
        most, _ = Counter(function for function, _ in self._versions).most_common(1)[0]
        del self._versions[next(key for key in self._versions if key[0] == most)]

    def describe(self, function: str, version: str) -> dict[str, Any]:
        """Return the figures of a version; zeros if it has served nothing yet."""
        return self._versions.get((function, version), VersionFigures()).describe()

    def history(self, function: str, version: str) -> tuple[list[int], list[int]]:
        """Return requests and errors of a version in each of the last slots of time, as History.counts() does."""
        return self._versions.get((function, version), VersionFigures()).history.counts()


class Recorder(logging.Handler):
    """Keeps the last faults, and passes log lines of functions on to whoever listens."""

    shows_nobody = True

    def __init__(self) -> None:
        super().__init__()
        self.runtimes: WeakSet[WasmRuntime] = WeakSet()
        """Whose records are kept: the logger is that of the process."""
        self.faults: Recent[dict[str, Any]] = Recent(_FAULTS)
        self._listeners: dict[asyncio.Queue[Line], tuple[str, asyncio.AbstractEventLoop, str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; from any thread."""
        fields = vars(record)
        function = fields.get("function")
        if not isinstance(function, str) or not self._is_ours(function):
            return
        line = _describe(record, function)
        if "exception.type" in fields:
            self.faults.add(function, line | {"error": str(fields.get("error.type", ""))})
        for queue, (wanted, loop, _) in list(self._listeners.items()):
            if wanted == function:
                with suppress(RuntimeError):  # its loop is closed
                    loop.call_soon_threadsafe(_offer, queue, line)

    def _is_ours(self, function: str) -> bool:
        origin = RUNTIME.get()
        if origin is not None:
            return origin in self.runtimes
        return any(runtime.serves(function) for runtime in self.runtimes)  # logged outside of a call

    def follow(self, function: str, who: str) -> asyncio.Queue[Line]:
        """Return a queue that gets the log lines of a function, until leave(); a slow reader loses some."""
        queue: asyncio.Queue[Line] = asyncio.Queue(_LINES)
        self._listeners[queue] = function, asyncio.get_running_loop(), who
        return queue

    def leave(self, queue: asyncio.Queue[Line]) -> None:
        """Put nothing more into a queue of follow()."""
        self._listeners.pop(queue, None)

    def is_full_for(self, who: str) -> bool:
        """Return whether ``who`` may not listen: nobody takes the places of all."""
        own = sum(each == who for _, _, each in self._listeners.values())
        return own >= _LISTENERS_EACH or len(self._listeners) >= _LISTENERS


def _offer(queue: asyncio.Queue[Line], line: Line) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(line)


def _describe(record: logging.LogRecord, function: str) -> Line:
    fields = vars(record)
    span = get_current_span().get_span_context()
    return {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname,
        "function": function,
        "version": str(fields.get("version", "")),
        "request_id": str(fields.get("request_id", "")),
        "trace_id": format_trace_id(span.trace_id) if span.is_valid else None,
        "message": record.getMessage()[:_MOST_TEXT],
    }
