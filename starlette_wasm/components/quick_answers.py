"""Which calls of the host C answers without Python: those that need nothing but a clock, random bytes, or what is lent
of a stream (lent_streams.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from .flat_plan import FlatPlan, HostFunction, ImportedFunction
from .wasi import cli, streams
from .wasi.offers import Offer

LEFT, MONOTONIC, REALTIME, RESOLUTION, RANDOM, RANDOM_BYTES, READ, CHECK_WRITE, WRITE = range(9)
"""Also in component.h: LEFT is what is left to Python."""
_KINDS = {
    cli.monotonic_now: MONOTONIC,
    cli.monotonic_resolution: RESOLUTION,
    cli.wall_now: REALTIME,
    cli.random_u64: RANDOM,
    cli.random_bytes: RANDOM_BYTES,
    streams.read: READ,
    streams.blocking_read: READ,
    streams.check_write: CHECK_WRITE,
    streams.write: WRITE,
    streams.write_and_flush: WRITE,
}


def kinds_of(plan: FlatPlan, offers: Mapping[ImportedFunction, Offer]) -> bytes:
    """Return how each function of the host is answered, by its number."""
    return bytes(_kind_of(host, offers) for host in plan.hosts)


def _kind_of(host: HostFunction, offers: Mapping[ImportedFunction, Offer]) -> int:
    if not isinstance(host.of, ImportedFunction) or host.options.is_async:
        return LEFT
    found = offers.get(host.of)
    return LEFT if found is None else _KINDS.get(found.call, LEFT)
