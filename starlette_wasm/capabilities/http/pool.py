"""``Pool``: idle connections, each of one tenant."""

from __future__ import annotations

from collections.abc import Collection, Hashable

from .sockets import sockets
from .wire import Wire

MOST_IDLE = 256
MOST_IDLE_OF_TENANT = 8
IDLE_SECONDS = 4.0
"""Less than the 5 s after which uvicorn and Node close an idle connection."""

Origin = tuple[str, str, str, int]
"""Scheme, name, address and port."""


class Pool:
    """One for an event loop. A connection is used again by its tenant alone, and only for its very origin.

    A tenant is a function under a policy. One that has as many idle connections as it may loses its oldest; if all
    together have as many, the tenant with the most does.
    """

    def __init__(self) -> None:
        self._idle: dict[Hashable, dict[Wire, Origin]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._idle.values()))

    def take(self, tenant: Hashable, origin: Origin) -> Wire | None:
        """Take the one that was used last."""
        for wire, other in reversed(self._idle.get(tenant, {}).items()):
            if other == origin:
                self._forget(tenant, wire)
                wire.wake()
                if wire.quiet:
                    return wire
                wire.close()
                return self.take(tenant, origin)
        return None

    def put(self, tenant: Hashable, origin: Origin, wire: Wire) -> None:
        self._idle.setdefault(tenant, {})[wire] = origin
        wire.rest(IDLE_SECONDS, lambda dropped: self._forget(tenant, dropped))
        if len(self._idle[tenant]) > MOST_IDLE_OF_TENANT:
            self._evict(tenant)
        elif len(self) > MOST_IDLE:
            self._evict(max(self._idle, key=lambda each: len(self._idle[each])))

    def make_room(self, tenant: Hashable) -> None:
        """Close an idle connection if the tenant's next one would have to wait for a descriptor."""
        if sockets.is_free(tenant) or not self._idle:
            return
        own = tenant in self._idle and not sockets.has_share_left(tenant)
        self._evict(tenant if own else max(self._idle, key=lambda each: len(self._idle[each])))

    def keep(self, tenants: Collection[Hashable]) -> None:
        """Close the connections of all others."""
        for tenant in self._idle.keys() - set(tenants):
            self._close(tenant)

    def close(self) -> None:
        for tenant in list(self._idle):
            self._close(tenant)

    def _close(self, tenant: Hashable) -> None:
        for wire in list(self._idle.get(tenant, ())):
            wire.close()

    def _evict(self, tenant: Hashable) -> None:
        next(iter(self._idle[tenant])).close()

    def _forget(self, tenant: Hashable, wire: Wire) -> None:
        wires = self._idle.get(tenant, {})
        wires.pop(wire, None)
        if not wires:
            self._idle.pop(tenant, None)
