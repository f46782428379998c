"""What keeps the state of canaries, for all workers and replicas: what each backend does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .window import Counts

KEY = "canary_url"
"""The setting."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Counts of one worker that are to be added once, however often they are sent."""

    epoch: int
    version: str
    number: int
    """Rises with each batch of the worker."""
    counts: Counts


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a function. ``now`` is the clock that the times of records are of."""

    now: float
    revision: int = 0
    """The version of the record; 0 if there is none."""
    record: str | None = None
    counts: Mapping[tuple[int, str], Counts] = field(default_factory=dict)
    """By epoch and version, for the record's epoch and the one before."""


class Store(Protocol):
    """A canary store. All methods raise CapabilityError, with UNAVAILABLE, if the backend cannot be reached."""

    async def open(self) -> None:
        """Raise ConfigError."""

    async def close(self) -> None: ...

    async def read(self, function: str) -> Reading: ...

    async def add(self, function: str, worker: str, batch: Batch) -> None:
        """Add counts, at once or not at all; a batch that was added already is passed over."""

    async def lease(self, function: str, holder: str, seconds: float) -> int | None:
        """Take or renew the right to decide; None while somebody else has it.

        The fencing token rises with each new holder. The lease ends by itself after ``seconds``.
        """

    async def release(self, function: str, holder: str) -> None:
        """Give the lease back, if it is the holder's."""

    async def swap(self, function: str, revision: int, record: str, epoch: int, token: int | None = None) -> bool:
        """Set the record if it still has ``revision``; with a ``token``, only under the lease of that token.

        What was counted before the epoch in front of ``epoch`` is dropped. Says whether it was set.
        """
