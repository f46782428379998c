"""All pipelines of a deployment, as whoever serves them sees them. Most apps have none, and import no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..exceptions import ConfigError

if TYPE_CHECKING:
    from ..config.pipelines import PipelineConfig
    from ..exceptions import FunctionUnavailable
    from .breaker import Circuit
    from .plan import Pipeline


@dataclass(slots=True)
class Counts:
    """Counts of a runtime, over all that it has served: what is replaced goes on to count here."""

    running: int = 0
    """Runs under way, those between two calls included."""
    retries: int = 0
    fallbacks: int = 0
    timeouts: int = 0


@dataclass(slots=True, eq=False)
class PipelineSet:
    """The pipelines of a deployment. This class is for one without any; plan.py has that for others."""

    counts: Counts = field(default_factory=Counts)
    all: list[Pipeline] = field(default_factory=list)
    absent: list[tuple[PipelineConfig, FunctionUnavailable]] = field(default_factory=list)
    """The pipelines of which a function is left out."""

    def stats(self) -> dict[str, int]:
        """Count circuits and runs; nothing if there are no pipelines."""
        return {}

    def circuits(self) -> Mapping[str, Circuit]:
        """Return the state of each circuit breaker, by its name."""
        return {}

    def reset_circuit(self, name: str) -> bool:
        """Close a circuit by its name. Says whether there is one of that name."""
        return False

    def find(self, path: str, method: str) -> Pipeline:
        """Find one by its pattern. Raises ConfigError."""
        for pipeline in self.all:
            if pipeline.route == path and pipeline.serves(method):
                return pipeline
        known = ", ".join(sorted({pipeline.route for pipeline in self.all})) or "none"
        raise ConfigError(f"no pipeline serves {method} {path}", hint=f"known are {known}")
