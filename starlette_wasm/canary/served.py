"""What canaries need of the deployment that is served."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Protocol

from ..telemetry.events.event import Event
from .traffic_split import TrafficSplit

if TYPE_CHECKING:
    from ..config.router import EdgeRouterConfig


class Surroundings(Protocol):
    """What canaries ask of the runtime that they are in, and where they report to."""

    def healthy(self, function: str, version: str) -> bool | None:
        """Say whether a version passes its probes; None as long as nobody knows."""

    def weighed(self, function: str, version: str, percent: float) -> None:
        """Take the new share of a canary's version."""

    def overdue(self, function: str, version: str, overdue: bool) -> None:
        """Take whether a canary has taken no step for too long."""

    def emit(self, event: Event) -> None:
        """Take what happened."""


class Digested(Protocol):
    """A loaded function."""

    @property
    def digest(self) -> str: ...


class Weighted(Protocol):
    """A router whose weights can be changed."""

    def reweigh(self, shares: TrafficSplit, functions: Set[str]) -> None: ...


class Deployment(Protocol):
    """The part of the runtime's deployment that canaries use."""

    @property
    def config(self) -> EdgeRouterConfig: ...

    @property
    def functions(self) -> Mapping[tuple[str, str], Digested]: ...

    @property
    def router(self) -> Weighted: ...
