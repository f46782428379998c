"""Names the records of canaries in their stores."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.router import CanaryConfig


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a runtime: its region, and the prefix of its names in the canary store."""

    region: str = ""
    prefix: str = ""

    def record(self, config: CanaryConfig) -> str:
        """Return the name of a canary's record. With waves each region has one of its own."""
        return f"{self._name(config)}@{self.region}" if config.waves else self._name(config)

    def board(self, config: CanaryConfig) -> str:
        """Return the name of what the regions of a canary share."""
        return f"{self._name(config)}/waves"

    def _name(self, config: CanaryConfig) -> str:
        return f"{self.prefix}/{config.function_name}" if self.prefix else config.function_name
