"""One JSON line for each invocation, on the logger ``starlette_wasm.access``."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from .observation import Observation

logger = logging.getLogger("starlette_wasm.access")


def install() -> None:
    """Let the lines go to stdout, if the app's own logging does not take them."""
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False


def log(seen: Observation) -> None:
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", json.dumps(fields(seen), separators=(",", ":")))


def fields(seen: Observation) -> dict[str, Any]:
    """The fields of a line. Null is what is not known, such as the status where the client went away."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": seen.request_id,
        "trace_id": seen.trace_id,
        "span_id": seen.span_id,
        "trigger": seen.trigger,
        "method": seen.method or None,
        "route": seen.route or None,
        "function": seen.function,
        "version": seen.version,
        "variant": seen.variant or None,
        "reason": seen.reason or None,
        "attempt": seen.attempt,
        "status": seen.status,
        "error": seen.error and seen.error.value,
        "duration_ms": round(seen.duration * 1e3, 3),
        "queue_ms": None if seen.waited is None else round(seen.waited * 1e3, 3),
        "cpu_ms": round(seen.cpu * 1e3, 3) if seen.ran else None,
        "memory_peak": seen.memory if seen.ran else None,
        "host_calls": seen.host_calls if seen.ran else None,
        "cold_start": seen.cold,
    }
