"""What canaries need of the deployment that is served."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Protocol

from .traffic_split import TrafficSplit

if TYPE_CHECKING:
    from ..config.router import EdgeRouterConfig


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
