"""Work whose cost a guest, an upstream or a store has chosen: on the event loop if it is small, else in a thread."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from ..sync.threads import FairThreads

T = TypeVar("T")

MOST_ON_LOOP = 64 << 10
"""Bytes that are encoded, hashed or copied on the event loop."""
_threads = FairThreads("starlette-wasm-results", most=4, each=1)


async def off_loop(tenant: Hashable, size: int, work: Callable[[], T]) -> T:
    """Return the result of ``work`` on so many bytes; each tenant has one thread at a time."""
    if size <= MOST_ON_LOOP:
        return work()
    try:
        return await _threads.run(tenant, work)
    except RuntimeError:  # no thread can be started
        return work()
