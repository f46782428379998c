"""How many files the process may have open, and which part of them is a guest's."""

from __future__ import annotations

import resource

from ..capabilities.settings import SOCKETS_PART

_MOST_OF_GUEST = 64
_LEAST_OF_GUEST = 4
_RESERVE = 4
"""One part in so many is the app's own: its sockets, and those of clients."""
_TENANTS = 2
"""One tenant may have one part in so many of what outbound connections leave."""


def raise_limit(most: int) -> int:
    """Raise the soft limit on open files to ``most``, if the hard one allows it. Gives the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return most
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # a sandbox that refuses it, or macOS, which has a lower one of its own
            return soft
        return wanted
    return soft


def of_guest(concurrency: int) -> int:
    """Return how many files one guest may have open, if its tenant may have ``concurrency`` guests at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_OF_GUEST
    share = (soft - soft // _RESERVE - soft // SOCKETS_PART) // _TENANTS
    return max(_LEAST_OF_GUEST, min(_MOST_OF_GUEST, share // concurrency))
