"""Sends what the providers of OpenTelemetry hold back, before the process ends.

The SDK does so at the exit of the interpreter, to which a server that ends by its signal never comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from opentelemetry import _logs, metrics, trace

from ..sync.own_thread import in_own_thread

logger = logging.getLogger("starlette_wasm")


async def flush(providers: Iterable[object], limit_ms: int) -> None:
    """Flush the global providers, and ``providers``, side by side and for ``limit_ms`` at most. Raises nothing."""
    everyone = [trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider(), *providers]
    distinct = {id(each): each for each in everyone if callable(getattr(each, "force_flush", None))}
    if not limit_ms or not distinct:
        return
    flushes = {asyncio.ensure_future(_flush(each, limit_ms)): each for each in distinct.values()}
    _, late = await asyncio.wait(flushes, timeout=limit_ms / 1000)
    for each in late:
        each.cancel()
        _tell(flushes[each], f"did not take all within {limit_ms} ms; see flush_timeout_ms")


async def _flush(provider: Any, limit_ms: int) -> None:
    try:
        await in_own_thread(lambda: provider.force_flush(timeout_millis=limit_ms))
    except Exception as error:
        _tell(provider, f"failed to flush: {type(error).__name__}: {error}")


def _tell(provider: object, problem: str) -> None:
    logger.warning("telemetry is lost: %s %s", type(provider).__name__, problem)
