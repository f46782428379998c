"""For whom a store or queue is asked: whose share of it is used."""

from __future__ import annotations

from contextvars import ContextVar

from ..sync.slots import FairSlots
from .errors import CapabilityError, Code

tenant: ContextVar[str] = ContextVar("starlette_wasm_tenant", default="")
"""Empty: the app itself."""

MAX_WAITING = 256
"""Calls of one tenant that may wait for a store or queue."""

MOST_CALLS = 48
"""Calls to one server of a store or queue that are under way at once."""
MOST_CALLS_OF_TENANT = 16


def store_slots(waiting: int = MAX_WAITING) -> FairSlots:
    """Make slots for the calls to one server."""
    return FairSlots(most=MOST_CALLS, each=MOST_CALLS_OF_TENANT, waiting=waiting)


def busy(what: str) -> CapabilityError:
    return CapabilityError(Code.UNAVAILABLE, f"{what} is busy: {MAX_WAITING} calls of this function wait for it")
