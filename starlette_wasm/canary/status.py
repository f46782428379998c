"""How a rollout stands."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    RUNNING = "running"
    WAITING = "waiting"
    """Nothing of the traffic yet: the region before has not promoted."""
    PAUSED = "paused"
    """The share of the traffic stays, and so does the automatic roll-back; nothing advances."""
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    ABORTED = "aborted"


RUNS = (Status.RUNNING, Status.PAUSED, Status.WAITING)
