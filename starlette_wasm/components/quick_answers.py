"""Which calls of the host component.c answers without Python: those that need nothing but a clock or random bytes."""

from __future__ import annotations

from collections.abc import Mapping

from .flat_plan import FlatPlan, HostFunction, ImportedFunction
from .wasi import cli
from .wasi.offers import Offer

LEFT, MONOTONIC, REALTIME, RESOLUTION, RANDOM, RANDOM_BYTES = range(6)
"""Also in component.c: LEFT is what is left to Python."""
_KINDS = {
    cli.monotonic_now: MONOTONIC,
    cli.monotonic_resolution: RESOLUTION,
    cli.wall_now: REALTIME,
    cli.random_u64: RANDOM,
    cli.random_bytes: RANDOM_BYTES,
}


def kinds_of(plan: FlatPlan, offers: Mapping[ImportedFunction, Offer]) -> bytes:
    """Return how each function of the host is answered, by its number."""
    return bytes(_kind_of(host, offers) for host in plan.hosts)


def _kind_of(host: HostFunction, offers: Mapping[ImportedFunction, Offer]) -> int:
    if not isinstance(host.of, ImportedFunction) or host.options.is_async:
        return LEFT
    found = offers.get(host.of)
    return LEFT if found is None else _KINDS.get(found.call, LEFT)
